"""Videos and images of a data set -> face crops and a manifest, resumable at every file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from sficonv.datasets.layouts import LayoutName, read_source
from sficonv.datasets.manifest import COLUMNS, Protocol, manifest_hash, write_manifest
from sficonv.datasets.shards import write_shards
from sficonv.datasets.source import Source, SourceItem, clean_text, source_key
from sficonv.errors import DataError
from sficonv.faces.detectors import DEFAULT_MIN_SCORE, DetectorName, create_detector
from sficonv.files import atomic_file
from sficonv.preparation.extract import CropOptions, Part
from sficonv.preparation.forging import Points, check_points, with_identity
from sficonv.preparation.persons import Kept
from sficonv.preparation.ray_engine import run_items_on_ray
from sficonv.preparation.report import PROBLEMS_NAME, PrepareReport, Problem
from sficonv.preparation.resume import claimed, finished, forget
from sficonv.preparation.workers import run_items
from sficonv.splits.leaks import find_leaks
from sficonv.splits.near_duplicates import (
    find_near_duplicates,
    protocol_with_leaks,
    with_near_duplicates_together,
)
from sficonv.splits.paper_protocol import paper_sampling


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    layout: LayoutName | None = None,
    frames: int = 32,
    sampling: Literal["even", "paper"] = "even",
    margin: float = 1.3,
    size: int = 256,
    faces: Kept = "largest",
    align: bool = False,
    detector: DetectorName = "yunet",
    detect: bool = True,
    min_score: float | None = None,
    self_blend: int = 0,
    self_blend_points: Points = "five",
    seed: int = 0,
    dataset: str | None = None,
    label: int | None = None,
    video_pattern: str | None = None,
    video_folders: bool = False,
    fake_label: Literal[0, 1] | None = None,
    base_folder: str | None = None,
    split: Literal["train", "val", "test"] | None = None,
    split_fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    methods: Sequence[str] | None = None,
    compressions: Sequence[str] | None = None,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    timeout: float = 300,
    shards: int = 0,
    resume: bool = True,
) -> PrepareReport:
    """Turn a dataset of videos or images into 8-bit PNG face crops and a manifest.

    The same command continues a run that was interrupted or killed: files added or changed since then are
    done, files that are gone are left out. A broken, empty, faceless or
    truncated file becomes a row of `problems.csv` and never stops the others. In scripts, worker processes
    need the call below `if __name__ == "__main__":`. To check what is already prepared, use
    `sficonv check DIR`.

    Args:
        source: A data set as distributed, complete or not (see `sficonv inspect` for what is there); a folder
            of images or videos with real/ and fake/ sub-folders (also 0/ and 1/, original/ and
            manipulated/), optionally below train/, val/ and test/; or a CSV, text or DeepfakeBench JSON list.
        out: Folder to write: `crops/`, `manifest.parquet`, `problems.csv`.
        layout: How to read the source; default: found out. One of ffpp, celebdf, dfdc, dfdcp,
            deeperforensics, wilddeepfake, df40, uadfv, ffiw, hff, folder, csv, txt, deepfakebench.
        frames: Frames per video, spread evenly.
        sampling: "paper": instead, every N_iter-th frame from the start, up to N_frames, as the SFIConv paper
            takes them of its data sets (for `split` with the protocol paper).
        margin: Side of the square crop relative to the longer side of the face box.
        size: Side of the crops in pixels.
        faces: Of several faces in a frame, take the "largest" or "all", or of several people in a video the
            "main" one: whose faces have the largest area in sum. Where a data set has masks of its fakes,
            only the people who were forged are taken from these.
        align: Turn, shift and scale every face by its five points so that they lie where all faces have them.
        detector: "yunet", or "dlib": the HOG detector of the paper, many times slower (extra `[dlib]`).
        detect: False: the images are face crops already; they are only resized.
        min_score: Confidence from which a face counts; default: 0.7 for YuNet, 0 for dlib.
        self_blend: Make so many forgeries of each real crop by blending it with itself (Shiohara and
            Yamasaki, CVPR 2022), with their masks below `masks/`: for those who have real faces only.
        self_blend_points: Shape of the blended region: extrapolated from the "five" points, or the convex
            hull of dlib's "68" (extra `[dlib]`; that model was trained on data for non-commercial use).
        seed: Of the forgeries.
        dataset: Name of the data set in the manifest; default "ffpp" or the folder's name.
        label: For a folder without real/ and fake/: the label of all files (0 real, 1 fake).
        video_pattern: Plain folders: regular expression for file names without suffix, with the named group
            `video` and optionally `ids` (identities, separated by `_`) and `frame`.
        video_folders: Plain folders: the images in one folder are the frames of one video.
        fake_label: CSV and text lists: the number that means fake in them. Default: 1 in a CSV; in text
            lists it has to follow from the folders in the paths.
        base_folder: Lists: the folder that their paths are relative to; default: found out.
        split: Put everything into this split: "train", "val" or "test".
        split_fractions: Train, val and test, where neither lists nor folders say which file belongs where.
        methods: Only these manipulations; real files always stay.
        compressions: Only these, for example c23.
        workers: Processes; default: one per processor (engine ray: one less than the cluster has). 0: work
            in this process.
        engine: "local": processes of this machine. "ray": tasks of a Ray cluster whose machines see `source`
            and `out` under the same paths (extra `[ray]`).
        address: Of the Ray cluster, for example auto or ray://host:10001; default: one on this machine.
        timeout: Seconds without a frame after which a file is given up and its process ended (a problem like
            any other, not with workers=0); 0: never.
        shards: Write the crops of each split into so many tar shards, too, which training can stream: give
            the folder `shards` below `out` as its data.
        resume: False: delete what an earlier run left in `out` and start anew.

    Returns:
        Counts, problems and warnings.

    Raises:
        DataError: Nothing usable in `source`, `out` holds something else, was made with other options, is
            being written by another run, or cannot be written, or the face detector's network is missing.
        ValueError: An argument out of range.

    Example:
        >>> report = prepare("FaceForensics++", "prepared/ffpp", frames=8)  # doctest: +SKIP
        >>> print(report.summary())  # doctest: +SKIP
    """
    if min_score is None:
        min_score = DEFAULT_MIN_SCORE.get(detector, 0.0)
    crop_options = CropOptions(
        frames, margin, size, faces, detect, min_score, detector, align, self_blend, self_blend_points, seed
    )
    _check_options(crop_options, workers, timeout, shards)
    if engine not in ("local", "ray") or sampling not in ("even", "paper"):
        raise ValueError(f"engine is local or ray, sampling even or paper, got {engine!r} and {sampling!r}")
    create_detector(detector, min_score=min_score)  # without its network every file would be blamed
    check_points(self_blend_points)
    root, out = Path(source), Path(out)
    listing = {
        "layout": layout,
        "dataset": dataset,
        "label": label,
        "video_pattern": video_pattern,
        "video_folders": video_folders,
        "fake_label": fake_label,
        "base_folder": base_folder,
        "split": split,
        "split_fractions": list(split_fractions),
        "methods": None if methods is None else sorted(methods),
        "compressions": None if compressions is None else sorted(compressions),
    }
    found = read_source(root, **listing)  # type: ignore[arg-type]
    if self_blend:
        found = replace(found, items=[with_identity(item) for item in found.items])
    if sampling == "paper":
        crop_options = replace(crop_options, every=_paper_frames(found.dataset))
    if found.layout in ("folder", "hff", "df40") and out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{out} lies inside {root}: its crops would be taken for data; choose another folder")
    asked = {"source": str(root.resolve()), **listing, **asdict(crop_options)}
    with claimed(out, asked, resume):
        names = {source_key(item, root): item for item in found.items}
        done = {name: part for name in names if (part := finished(out, name, names[name])) is not None}
        todo = {name: item for name, item in names.items() if name not in done}
        for name in todo:
            forget(out, name)
        resumed = len(done)
        if engine == "ray":
            parts = run_items_on_ray(todo, out, crop_options, workers, timeout, address)
        else:
            parts = run_items(todo, out, crop_options, workers, timeout)
        try:
            for part in _progress(parts, total=len(names), done=resumed):
                done[part.source] = part
            report = _finish(found, names, done, out, resumed, split)
            return replace(report, shards=write_shards(out, shards=shards)) if shards else report
        except OSError as error:
            raise DataError(
                f"{out}: cannot write ({error}); what is done is kept, run again to go on"
            ) from error


def _check_options(options: CropOptions, workers: int | None, timeout: float, shards: int) -> None:
    if options.frames < 1 or options.size < 16 or not options.margin > 0 or options.self_blend < 0:
        raise ValueError("frames must be >= 1, size >= 16, margin > 0 and self_blend >= 0")
    if options.faces not in ("largest", "main", "all"):
        raise ValueError(f"faces must be largest, main or all, got {options.faces!r}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be >= 0, got {workers}")
    if timeout < 0 or shards < 0:
        raise ValueError(f"timeout and shards must be >= 0, got {timeout} and {shards}")


def _paper_frames(dataset: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Distance and number of the frames that the paper takes of real and of fake videos; images have none."""
    sampling = paper_sampling(dataset)
    if sampling.n_iter is None:
        return None
    real, fake = zip(sampling.n_iter, sampling.n_frames, strict=True)
    return real, fake


def _progress(parts: Iterable[Part], *, total: int, done: int) -> Iterator[Part]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[problems]} problems"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("files", total=total, completed=done, problems=0)
        problems = 0
        for part in parts:
            problems += bool(part.reason)
            progress.update(task, advance=1, problems=problems)
            yield part


def _finish(
    found: Source,
    names: dict[str, SourceItem],
    parts: dict[str, Part],
    out: Path,
    resumed: int,
    split: str | None,
) -> PrepareReport:
    df, notes = _manifest(names, parts), list(found.notes)
    if found.drawn and split is None:
        df, moved = with_near_duplicates_together(df, out)
        if moved:
            notes.append(f"{moved} videos were moved to the split in which their near duplicates are")
    near = find_near_duplicates(df, out)
    protocol = protocol_with_leaks(_protocol(found, split), near)
    write_manifest(out, df, protocol=protocol)
    problems = [
        Problem(clean_text(name), parts[name].reason, clean_text(parts[name].detail))
        for name in sorted(names)
        if parts[name].reason
    ]
    with (
        atomic_file(out / PROBLEMS_NAME) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("path", "reason", "detail"))
        writer.writerows((p.path, p.reason, p.detail) for p in problems)
    keys = ["split", "label", "method", "compression"]
    counts = df.groupby(keys, as_index=False).agg(videos=("video_id", "nunique"), crops=("path", "size"))
    return PrepareReport(
        out=out,
        layout=found.layout,
        items=len(names),
        resumed=resumed,
        crops=len(df),
        frames_sampled=sum(part.sampled for part in parts.values()),
        frames_without_face=sum(part.faceless for part in parts.values()),
        problems=problems,
        counts=json.loads(counts.to_json(orient="records")),
        notes=notes,
        warnings=[finding.text for finding in (*find_leaks(df), near) if finding],
        manifest_hash=manifest_hash(df),
        protocol=protocol,
    )


def _protocol(found: Source, split: str | None) -> Protocol:
    """How the items came by their splits."""
    items = found.items
    if split is not None:
        return Protocol("one split", f"everything was put into {split}")
    if not any(item.split for item in items):
        return Protocol("none", "nothing has a split")
    if any(item.official_split for item in items):
        statement = f"the published splits of {found.dataset}"
        if any(item.split == "val" and item.official_split == "train" for item in items):
            statement += "; the validation split was taken out of the published training list by identity"
        if others := sum(1 for item in items if item.split and not item.official_split):
            statement += f"; {others} files that are in none of its lists have one by custom"
        return Protocol("official", statement)
    return Protocol("own", "as the folders say, or drawn by identity where they do not")


def _manifest(names: dict[str, SourceItem], parts: dict[str, Part]) -> pd.DataFrame:
    rows = [
        {
            "label": item.label,
            "dataset": item.dataset,
            "method": item.method,
            "compression": item.compression,
            "video_id": item.video_id,
            "source_ids": ",".join(item.source_ids),
            "split": item.split,
            "official_split": item.official_split,
            "mask": "",
            **{"phash": "", **crop},  # forgeries made here have a label, method, video and mask of their own
        }
        for name, item in names.items()
        for crop in parts[name].crops
    ]
    df = pd.DataFrame(rows, columns=[*COLUMNS, "track", "mask", "phash", "official_split"])
    return df.sort_values("path", ignore_index=True)
