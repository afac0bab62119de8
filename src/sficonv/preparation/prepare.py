"""Videos and images of a dataset -> face crops and a manifest, resumable at every file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from sficonv.datasets.layouts import read_source
from sficonv.datasets.manifest import COLUMNS, Protocol, manifest_hash, write_manifest
from sficonv.datasets.shards import write_shards
from sficonv.datasets.source import Source, SourceItem, clean_text, source_key
from sficonv.errors import DataError
from sficonv.faces.detectors import create_detector
from sficonv.files import atomic_file
from sficonv.pages import cell
from sficonv.preparation.extract import Part
from sficonv.preparation.forging import check_points, with_identity
from sficonv.preparation.options import FrameSteps, PrepareOptions
from sficonv.preparation.ray_engine import run_items_on_ray
from sficonv.preparation.report import PROBLEMS_NAME, WITH_NOTE, PrepareReport, Problem
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
    options: PrepareOptions = PrepareOptions(),  # noqa: B008  (frozen)
    **changes: Any,
) -> PrepareReport:
    """Cut the faces out of a dataset of videos or images: 8-bit PNG crops and a manifest.

    The same command continues a run that was interrupted or killed: new and changed files are done, files
    that are gone are left out. A broken, empty, truncated or faceless file becomes a row of `problems.csv`
    and never stops the others. In scripts, worker processes need the call below
    `if __name__ == "__main__":`. `sficonv check DIR` checks what is already prepared.

    Args:
        source: A dataset as distributed, complete or not (`sficonv inspect` shows what is there); a folder of
            images or videos with `real/` and `fake/` inside (also `0/` and `1/`, `original/` and
            `manipulated/`), optionally below `train/`, `val/` and `test/`; or a CSV, text or DeepfakeBench
            JSON list.
        out: Folder to write: `crops/`, `manifest.parquet`, `problems.csv`.
        options: How the source is read, how faces are cut, and how the work is done.
        **changes: Single fields of `options`, such as `frames=8`.

    Returns:
        Counts, problems and warnings.

    Raises:
        DataError: Nothing usable in `source`, `out` holds something else, was made with other options, is
            being written by another run, or cannot be written, or the face detector's network is missing.
        ValueError: A value is out of range.

    Example:
        >>> report = prepare("FaceForensics++", "prepared/ffpp", frames=8)  # doctest: +SKIP
        >>> print(report.summary())  # doctest: +SKIP
    """
    options = replace(options, **changes).with_min_score()
    create_detector(options.detector, min_score=options.min_score)  # else every file would be blamed
    check_points(options.self_blend_points)
    root, out = Path(source), Path(out)
    found = read_source(root, options)
    if options.self_blend:
        found = replace(found, items=[with_identity(item) for item in found.items])
    if options.sampling == "paper":
        options = replace(options, every=_paper_frames(found.dataset))
    if found.layout in ("folder", "hff", "df40") and out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{out} lies inside {root}: its crops would be taken for data; choose another folder")
    with claimed(out, {"source": str(root.resolve()), **options.recorded()}, options.resume):
        names = {source_key(item, root): item for item in found.items}
        done = {name: part for name in names if (part := finished(out, name, names[name])) is not None}
        todo = {name: item for name, item in names.items() if name not in done}
        for name in todo:
            forget(out, name)
        resumed = len(done)
        run = run_items_on_ray if options.engine == "ray" else run_items
        try:
            for part in _progress(run(todo, out, options), total=len(names), done=resumed):
                done[part.source] = part
            report = _finish(found, names, done, out, resumed, options.split)
            return (
                replace(report, shards=write_shards(out, shards=options.shards)) if options.shards else report
            )
        except OSError as error:
            raise DataError(
                f"{out}: cannot write ({error}); finished files are kept, run the same command to continue"
            ) from error


def _paper_frames(dataset: str) -> FrameSteps | None:
    """The frames that the paper takes of a dataset's videos; images have none."""
    sampling = paper_sampling(dataset)
    if sampling.n_iter is None:
        return None
    return FrameSteps(*zip(sampling.n_iter, sampling.n_frames, strict=True))


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
            notes.append(f"{moved} videos were moved to the split of their near duplicates")
    near = find_near_duplicates(df, out)
    protocol = protocol_with_leaks(_protocol(found, split), near)
    write_manifest(out, df, protocol=protocol)
    problems = [problem for name in sorted(names) for problem in _problems(parts[name])]
    with (
        atomic_file(out / PROBLEMS_NAME) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("path", "reason", "detail"))
        writer.writerows((cell(p.path, "./"), p.reason, cell(p.detail)) for p in problems)
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


def _problems(part: Part) -> Iterator[Problem]:
    path = clean_text(part.source)
    if part.reason:
        yield Problem(path, part.reason, clean_text(part.detail))
    for note in part.notes:
        yield Problem(path, WITH_NOTE, clean_text(note))


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
