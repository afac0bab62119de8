"""Videos and images of a data set -> face crops and a manifest, resumable at every file."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sficonv.data.extract import (
    CropOptions,
    Part,
    file_stamp,
    part_file,
    read_part,
)
from sficonv.data.faces import FaceDetector
from sficonv.data.layouts import read_source
from sficonv.data.manifest import COLUMNS, atomic_file, check_manifest, manifest_hash, write_manifest
from sficonv.data.source import Source, SourceItem, clean_text
from sficonv.data.workers import run_items
from sficonv.errors import DataError

_FORMAT = 1
_OPTIONS_NAME = "prepare.json"
_ANEW = "resume=False (--no-resume)"
PROBLEMS_NAME = "problems.csv"


@dataclass(frozen=True)
class Problem:
    """A source file that did not give all it should: where, why (one word), and in plain words."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        out: The prepared folder.
        layout: How the source was read.
        items: Source files.
        resumed: Of these, done by an earlier run.
        crops: Rows of the manifest.
        frames_sampled: Frames (and images) looked at.
        frames_without_face: Of these, without a face.
        problems: Rows of `problems.csv`.
        counts: One row per split, method, compression and label: videos and crops.
        notes: How the source was understood.
        warnings: Leaks and unusable splits.
        manifest_hash: Fingerprint of the manifest.
    """

    out: Path
    layout: str
    items: int
    resumed: int
    crops: int
    frames_sampled: int
    frames_without_face: int
    problems: list[Problem]
    counts: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    manifest_hash: str = ""

    @property
    def broken(self) -> int:
        """Files that could not be read to their end, as opposed to files in which no face was found."""
        return sum(problem.reason not in ("no_face", "some_frames_without_face") for problem in self.problems)

    def summary(self) -> str:
        """The report for people; its last line is about the problems."""
        lines = [f"{self.crops} crops of {self.items} files in {self.out}"]
        if self.resumed:
            lines[0] += f" ({self.resumed} files were done by an earlier run)"
        for row in self.counts:
            what = " ".join(filter(None, (row["method"], row["compression"])))
            split = row["split"] or "no split"
            label = "fake" if row["label"] else "real"
            lines.append(f"  {split:8} {label}  {what:24} {row['videos']:6} videos {row['crops']:7} crops")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"WARNING: {warning}" for warning in self.warnings]
        if not self.problems:
            lines.append("no problems")
        else:
            reasons = Counter(problem.reason for problem in self.problems)
            text = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in reasons.most_common())
            lines.append(f"{len(self.problems)} files with problems ({text}): see {self.out / PROBLEMS_NAME}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report for programs: plain dictionaries, lists, strings and numbers."""
        return {**asdict(self), "out": str(self.out)}


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    layout: Literal["ffpp", "folder"] | None = None,
    frames: int = 32,
    margin: float = 1.3,
    size: int = 256,
    faces: Literal["largest", "all"] = "largest",
    detect: bool = True,
    min_score: float = 0.7,
    dataset: str | None = None,
    label: int | None = None,
    video_pattern: str | None = None,
    video_folders: bool = False,
    split: Literal["train", "val", "test"] | None = None,
    split_fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    methods: Sequence[str] | None = None,
    compressions: Sequence[str] | None = None,
    workers: int | None = None,
    resume: bool = True,
) -> PrepareReport:
    """Turn a data set of videos or images into 8-bit PNG face crops and a manifest.

    A run that was interrupted, even killed, goes on where it stopped when started again with the same
    options; files added or changed since are done, files gone are left out. A broken, empty, faceless or
    truncated file becomes a row of `problems.csv` and never stops the others. In scripts, worker processes
    need the call below `if __name__ == "__main__":`.

    Args:
        source: A FaceForensics++ tree (partial downloads too) or a folder of images or videos with real/
            and fake/ sub-folders (also 0/ and 1/, original/ and manipulated/), optionally below
            train/, val/ and test/.
        out: Folder to write: `crops/`, `manifest.parquet`, `problems.csv`.
        layout: How to read the source; default: found out.
        frames: Frames per video, spread evenly.
        margin: Side of the square crop relative to the longer side of the face box.
        size: Side of the crops in pixels.
        faces: Of several faces in a frame, take the "largest" or "all".
        detect: False: the images are face crops already; they are only resized.
        min_score: Confidence from which a face counts.
        dataset: Name of the data set in the manifest; default "ffpp" or the folder's name.
        label: For a folder without real/ and fake/: the label of all files (0 real, 1 fake).
        video_pattern: Plain folders: regular expression for file names without suffix, with the named group
            `video` and optionally `ids` (identities, separated by `_`) and `frame`.
        video_folders: Plain folders: the images in one folder are the frames of one video.
        split: Put everything into this split: "train", "val" or "test".
        split_fractions: Train, val and test, where neither lists nor folders say which file belongs where.
        methods: Only these manipulations; real files always stay.
        compressions: Only these, for example c23.
        workers: Processes; default: one per processor. 0: work in this process.
        resume: False: delete what an earlier run left in `out` and start anew.

    Returns:
        Counts, problems and warnings.

    Raises:
        DataError: Nothing usable in `source`, `out` holds something else or was made with other options,
            or it cannot be written, or the face detector's network is missing.
        ValueError: An argument out of range.

    Example:
        >>> report = prepare("FaceForensics++", "prepared/ffpp", frames=8)  # doctest: +SKIP
        >>> print(report.summary())  # doctest: +SKIP
    """
    crop_options = CropOptions(frames, margin, size, faces, detect, min_score)
    _check_options(crop_options, workers)
    FaceDetector(min_score=min_score)  # without its network every file would be blamed
    root, out = Path(source), Path(out)
    listing = {
        "layout": layout,
        "dataset": dataset,
        "label": label,
        "video_pattern": video_pattern,
        "video_folders": video_folders,
        "split": split,
        "split_fractions": list(split_fractions),
        "methods": None if methods is None else sorted(methods),
        "compressions": None if compressions is None else sorted(compressions),
    }
    found = read_source(root, **listing)  # type: ignore[arg-type]
    if found.layout == "folder" and out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{out} lies inside {root}: its crops would be taken for data; choose another folder")
    _claim(out, {"source": str(root.resolve()), **listing, **asdict(crop_options)}, resume)

    names = {item.path.relative_to(root).as_posix(): item for item in found.items}
    done = {name: part for name in names if (part := _finished(out, name, names[name])) is not None}
    todo = {name: item for name, item in names.items() if name not in done}
    for name in todo:
        _forget(out, name)
    resumed = len(done)
    try:
        for part in _progress(run_items(todo, out, crop_options, workers), total=len(names), done=resumed):
            done[part.source] = part
    except OSError as error:
        raise DataError(f"{out}: cannot write ({error}); what is done is kept, run again to go on") from error
    return _finish(found, names, done, out, resumed)


def _check_options(options: CropOptions, workers: int | None) -> None:
    if options.frames < 1 or options.size < 16 or not options.margin > 0 or not 0 < options.min_score < 1:
        raise ValueError("frames must be >= 1, size >= 16, margin > 0 and min_score between 0 and 1")
    if options.faces not in ("largest", "all"):
        raise ValueError(f"faces must be largest or all, got {options.faces!r}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be >= 0, got {workers}")


def _claim(out: Path, options: dict[str, Any], resume: bool) -> None:
    """Make the folder ours, or see that it is and that nothing else was asked for when it was made."""
    file = out / _OPTIONS_NAME
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; name a folder to write to")
    if out.is_dir() and any(out.iterdir()) and not file.is_file():
        raise DataError(f"{out} is not empty and was not written by prepare; choose another folder")
    if file.is_file() and not resume:
        _clear(out)
    if file.is_file():
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
            earlier = {"format": there["format"], **there["options"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}: damaged ({error}); start anew with {_ANEW}") from error
        asked = {"format": _FORMAT, **options}
        changed = [f"{k}: {earlier.get(k)!r} -> {v!r}" for k, v in asked.items() if earlier.get(k) != v]
        if changed:
            raise DataError(
                f"{out} was prepared with other options ({'; '.join(changed)}). Use the same options, "
                f"another folder, or start anew with {_ANEW}"
            )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary:
            temporary.write_text(
                json.dumps({"format": _FORMAT, "options": options}, indent=2), encoding="utf-8"
            )
    except OSError as error:
        raise DataError(f"{out}: cannot write there ({error})") from error


def _clear(out: Path) -> None:
    for name in ("crops", ".parts"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("manifest.parquet", PROBLEMS_NAME, _OPTIONS_NAME):
        (out / name).unlink(missing_ok=True)


def _finished(out: Path, name: str, item: SourceItem) -> Part | None:
    part = read_part(out, name)
    if part is None or part.stamp != file_stamp(item.path) or part.reason in ("failed", "crashed"):
        return None
    sound = all(_is_of(item, crop) and (out / crop["path"]).is_file() for crop in part.crops)
    return part if sound else None


def _is_of(item: SourceItem, crop: dict[str, Any]) -> bool:
    """Files that came later may have changed the item's name, and its old one may now be another's."""
    image, video = f"crops/{item.name}", f"crops/{item.name}/{crop['frame']:06d}"
    return crop["path"] in (f"{image}_{crop['face']}.png", f"{video}_{crop['face']}.png")


def _forget(out: Path, name: str) -> None:
    """Remove what an outdated part left."""
    part = read_part(out, name)
    for crop in part.crops if part else []:
        (out / crop["path"]).unlink(missing_ok=True)
    part_file(out, name).unlink(missing_ok=True)


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
    found: Source, names: dict[str, SourceItem], parts: dict[str, Part], out: Path, resumed: int
) -> PrepareReport:
    df = _manifest(names, parts)
    write_manifest(out, df)
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
        notes=found.notes,
        warnings=check_manifest(df),
        manifest_hash=manifest_hash(df),
    )


def _manifest(names: dict[str, SourceItem], parts: dict[str, Part]) -> pd.DataFrame:
    rows = [
        {
            **crop,
            "label": item.label,
            "dataset": item.dataset,
            "method": item.method,
            "compression": item.compression,
            "video_id": item.video_id,
            "source_ids": ",".join(item.source_ids),
            "split": item.split,
        }
        for name, item in names.items()
        for crop in parts[name].crops
    ]
    df = pd.DataFrame(rows, columns=list(COLUMNS))
    return df.sort_values("path", ignore_index=True)
