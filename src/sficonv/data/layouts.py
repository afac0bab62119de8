"""Dataset trees as people have them -> a flat list of source videos and images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sficonv.data.folders import read_folder
from sficonv.data.media import VIDEO_SUFFIXES, is_folder, walk_media
from sficonv.data.protocols import SPLIT_NAMES, read_ffpp_splits
from sficonv.data.source import Source, SourceItem, clean_text, with_clean_texts
from sficonv.errors import DataError, MediaError

LAYOUTS = ("ffpp", "folder")

_COMPRESSIONS = {"raw": "raw", "c0": "raw", "c23": "c23", "c40": "c40"}
_ACTORS = ("actors", "DeepFakeDetection")


def detect_layout(root: str | Path) -> str:
    """Say which layout a folder has.

    Args:
        root: A folder.

    Returns:
        "ffpp" for a FaceForensics++ tree, else "folder".

    Raises:
        DataError: There is no such folder.

    Example:
        >>> detect_layout(".")
        'folder'
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    ffpp = any((root / name).is_dir() for name in ("original_sequences", "manipulated_sequences"))
    return "ffpp" if ffpp else "folder"


def list_source(root: str | Path, *, layout: str | None = None, **options: object) -> list[SourceItem]:
    """List the videos and images of a data set; `read_source` without the notes.

    Args:
        root: Folder of the data set.
        layout: "ffpp" or "folder"; default: what `detect_layout` says.
        **options: As of `read_source`.

    Raises:
        DataError: As `read_source`.

    Example:
        >>> list_source("data/FaceForensics++")[0].video_id  # doctest: +SKIP
        'ffpp/c23/youtube/000'
    """
    return read_source(root, layout=layout, **options).items  # type: ignore[arg-type]


def read_source(
    root: str | Path,
    *,
    layout: str | None = None,
    dataset: str | None = None,
    label: int | None = None,
    video_pattern: str | None = None,
    video_folders: bool = False,
    split: str | None = None,
    split_fractions: Sequence[float] = (0.7, 0.15, 0.15),
    methods: Sequence[str] | None = None,
    compressions: Sequence[str] | None = None,
) -> Source:
    """Read a data set's tree.

    Args:
        root: Folder of the data set.
        layout: "ffpp" or "folder"; default: what `detect_layout` says.
        dataset: Name of the data set; default "ffpp", or the name of the folder.
        label: For a folder without real/ and fake/ sub-folders: the label of all its files (0 real, 1 fake).
        video_pattern: For plain folders: a regular expression searched in each file name without suffix.
            Its named group `video` is the video, `ids` (optional) its identities separated by `_`, and
            `frame` (optional) the frame number.
        video_folders: For plain folders: the images in one folder are the frames of one video.
        split: Put everything into this split, whatever lists or folders say.
        split_fractions: Of train, val and test, where nothing says which file belongs to which split.
        methods: Keep only these manipulations (real files always stay).
        compressions: Keep only these ("raw", "c23", "c40").

    Returns:
        The items and notes on how they were read.

    Raises:
        DataError: No such folder, unknown layout, no media in it, contradicting folder names, a pattern
            that does not fit, a method or compression that is not there.

    Example:
        >>> read_source("data/FaceForensics++").notes  # doctest: +SKIP
        []
    """
    root = Path(root)
    layout = layout or detect_layout(root)
    if layout not in LAYOUTS:
        raise DataError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    if split is not None and split not in SPLIT_NAMES:
        raise DataError(f"split must be one of {', '.join(SPLIT_NAMES)}, got {split!r}")
    if layout == "ffpp":
        if label is not None or video_pattern is not None or video_folders:
            raise DataError(
                "label, video_pattern and video_folders are for plain folders, not for FaceForensics++"
            )
        source = read_ffpp(root, dataset=dataset or "ffpp")
    else:
        source = read_folder(
            root,
            dataset=dataset or root.resolve().name or "data",
            label=label,
            video_pattern=video_pattern,
            video_folders=video_folders,
            split_fractions=split_fractions if split is None else None,
        )
    items = source.items
    if split is not None:
        items = [replace(item, split=split) for item in items]
    if methods is not None:
        _check_known("method", methods, {item.method for item in items})
        items = [item for item in items if item.label == 0 or item.method in methods]
    if compressions is not None:
        _check_known("compression", compressions, {item.compression for item in items})
        items = [item for item in items if item.compression in compressions]
    twice = [name for name, times in Counter(item.name for item in items).items() if times > 1]
    if twice:
        raise DataError(f"{root}: the same video is there twice: {', '.join(twice[:3])}")
    return replace(source, items=items, notes=list(map(clean_text, source.notes)))


def _check_known(what: str, wanted: Sequence[str], known: set[str]) -> None:
    if unknown := sorted(set(wanted) - known):
        raise DataError(
            f"no {what} {', '.join(unknown)} here; there are: {', '.join(sorted(known)) or 'none'}"
        )


def read_ffpp(root: Path, *, dataset: str = "ffpp") -> Source:
    """Read a FaceForensics++ tree, complete or not, DeepFakeDetection included.

    A fake belongs to a split only if both its ids do. DeepFakeDetection has no official split and is by
    custom only tested on: all of it is "test".

    Args:
        root: The folder with `original_sequences` and `manipulated_sequences`.
        dataset: Name of the data set.

    Raises:
        DataError: No videos, or damaged split lists.
    """
    split_of = read_ffpp_splits(root)
    items: list[SourceItem] = []
    strange: list[str] = []
    for branch, label in (("original_sequences", 0), ("manipulated_sequences", 1)):
        for folder in sorted((root / branch).glob("*/*/videos")):
            origin, compression = folder.parts[-3], _COMPRESSIONS.get(folder.parts[-2])
            if compression is None:  # masks lie beside the compressions
                continue
            for path in _media_in(folder):
                unreadable = is_folder(path)  # kept, so that it is reported like an unreadable file
                if path.suffix.lower() not in VIDEO_SUFFIXES and not unreadable:
                    continue
                ids = () if unreadable else _ffpp_ids(origin, path.stem)
                if ids is None:
                    strange.append(path.relative_to(root).as_posix())
                    continue
                splits = {"test"} if origin in _ACTORS else {split_of.get(name, "") for name in ids}
                video_id = f"{dataset}/{compression}/{origin}/{path.stem}"
                item = SourceItem(
                    path=path,
                    label=label,
                    dataset=dataset,
                    method=origin if label else "real",
                    compression=compression,
                    video_id=video_id,
                    source_ids=ids,
                    split=splits.pop() if len(splits) == 1 else "",
                    kind="video",
                    name=video_id,
                )
                items.append(with_clean_texts(item))
    if not items:
        raise DataError(
            f"{root}: a FaceForensics++ tree without videos; expected for example "
            "original_sequences/youtube/c23/videos/000.mp4"
        )
    return Source("ffpp", dataset, items, _ffpp_notes(items, strange, lists_found=bool(split_of)))


def _media_in(folder: Path) -> list[Path]:
    try:
        return list(walk_media(folder))
    except MediaError:
        return [folder]


def _ffpp_ids(origin: str, stem: str) -> tuple[str, ...] | None:
    if origin in _ACTORS:
        match = re.match(r"(\d\d)(?:_(\d\d))?__", stem)
        return tuple(f"actor{number}" for number in match.groups() if number) if match else None
    return tuple(stem.split("_")) if re.fullmatch(r"\d{3}(_\d{3})?", stem) else None


def _ffpp_notes(items: list[SourceItem], strange: list[str], *, lists_found: bool) -> list[str]:
    notes: list[str] = []
    if not lists_found:
        notes.append(
            "no splits/train.json, val.json, test.json: the split column is empty. Put the official lists "
            "into the folder, or choose one split for everything"
        )
    if any(name.startswith("actor") for item in items for name in item.source_ids):
        notes.append(
            'DeepFakeDetection (actors) has no official split and is by custom only tested on: "test"'
        )
    unlisted = [item for item in items if item.source_ids and not item.split]
    if lists_found and unlisted:
        notes.append(
            f"{len(unlisted)} videos have no split, their ids are in none of the lists or in two: "
            f"{unlisted[0].video_id}"
        )
    if strange:
        notes.append(f"{len(strange)} videos ignored, names unlike 000.mp4 or 000_001.mp4: {strange[0]}")
    return notes
