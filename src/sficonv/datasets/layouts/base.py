"""What every layout is made of: walking a tree, building items, making a validation set where none is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from sficonv.datasets.identity_split import split_by_identity
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Source, SourceItem, with_clean_texts
from sficonv.errors import DataError, MediaError
from sficonv.media.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_CONTAINERS = ("videos", "frames", "images")  # say nothing about what is in them
_NOT_DATA = ("masks", "landmarks")


@dataclass(frozen=True)
class Layout:
    """One way in which datasets lie on disk.

    Attributes:
        title: The dataset, as people call it.
        fits: Whether a folder (or list file) looks like this.
        read: Reads it.
        options: Those of `SourceOptions` that not every layout understands, and this one does.
        example: A file that such a folder has, for the message where there is none.
    """

    title: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, SourceOptions], Source]
    options: frozenset[str] = frozenset()
    example: str = ""


@dataclass(frozen=True)
class Found:
    """One media file below a folder.

    Attributes:
        path: The file; of a folder that cannot be read the folder.
        video: What names the video, below the folder and without suffix: of a frame the folder it is in.
        kind: "video" or "image", by the suffix; "frame" for an image in a sub-folder; "unreadable": a folder.
    """

    path: Path
    video: str
    kind: Literal["video", "image", "frame", "unreadable"]

    @property
    def stem(self) -> str:
        """Last part of `video`."""
        return self.video.rpartition("/")[2]


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden files, and without a look at any file.

    Raises:
        MediaError: It cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise MediaError(f"{folder}: the folder cannot be read ({error})") from error


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder by name; none where it is missing or cannot be read."""
    try:
        return [Path(entry.path) for entry in list_folder(folder) if _is_folder(entry)]
    except MediaError:
        return []


def names_in(folder: Path) -> set[str]:
    """The names in a folder in lower case; none where it cannot be read."""
    try:
        return {entry.name.lower() for entry in list_folder(folder)}
    except MediaError:
        return set()


def child(folder: Path, name: str) -> Path | None:
    """The sub-folder of this name, whatever its case; `None` if there is none."""
    return next((path for path in subfolders(folder) if path.name.lower() == name.lower()), None)


def walk(folder: Path, *, deep: bool = True) -> Iterator[Found]:
    """Find the media files below a folder, sorted, frames of videos as well as videos.

    Folders named `videos`, `frames` and `images` do not count in the names; `masks` and `landmarks` are not
    entered, nor is `frames` where `videos` lies beside it. Images in a sub-folder are the frames of one
    video; images that lie in `folder` itself are videos of their own.

    Args:
        folder: Where to look; a missing folder holds nothing.
        deep: False: enter only folders that do not count.

    Yields:
        What is found. A folder that cannot be read is yielded itself.
    """
    if folder.is_dir():
        yield from _walk(folder, "", deep, frozenset((os.path.realpath(folder),)))


def _walk(folder: Path, prefix: str, deep: bool, links: frozenset[str]) -> Iterator[Found]:
    try:
        entries = list_folder(folder)
    except MediaError:
        yield Found(folder, prefix.rstrip("/") or folder.name, "unreadable")
        return
    has_videos = any(entry.name == "videos" for entry in entries)
    for entry in entries:
        stem, dot, suffix = entry.name.rpartition(".")
        suffix = f"{dot}{suffix.lower()}" if stem else ""
        if suffix in VIDEO_SUFFIXES and not _is_folder(entry):
            yield Found(folder / entry.name, prefix + stem, "video")
        elif suffix in IMAGE_SUFFIXES and not _is_folder(entry):
            kind: Literal["frame", "image"] = "frame" if prefix else "image"
            yield Found(folder / entry.name, prefix.rstrip("/") or stem, kind)
        elif not suffix or _is_folder(entry):
            name = entry.name
            skipped = name in _NOT_DATA or (name == "frames" and has_videos)
            if skipped or not (deep or name in _CONTAINERS) or not _is_folder(entry):
                continue
            inner = prefix if name in _CONTAINERS else f"{prefix}{name}/"
            if not entry.is_symlink():
                yield from _walk(folder / name, inner, deep, links)
                continue
            real = os.path.realpath(entry.path)
            upwards = Path(os.path.realpath(folder)).is_relative_to(real)
            if real not in links and not upwards:
                yield from _walk(folder / name, inner, deep, links | {real})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def make_item(
    found: Found,
    *,
    dataset: str,
    label: int,
    method: str = "",
    video: str,
    ids: Sequence[str],
    split: str,
    compression: str = "",
    official: str | None = None,
    mask: Path | None = None,
) -> SourceItem:
    """The item of a file that was found.

    Args:
        found: The file.
        dataset: Name of the dataset.
        label: 0 = real, 1 = fake.
        method: Manipulation; "real" whatever is given for real.
        video: Names the video within the dataset.
        ids: Identities, none for a folder that cannot be read.
        split: "train", "val", "test" or "".
        official: The published split; default: `split`.
        compression: "raw", "c23", "c40" or "".
        mask: Video of the forged region.
    """
    video_id = f"{dataset}/{video}"
    return with_clean_texts(
        SourceItem(
            path=found.path,
            label=label,
            dataset=dataset,
            method=(method or "fake") if label else "real",
            compression=compression,
            video_id=video_id,
            source_ids=() if found.kind == "unreadable" else tuple(name.replace(",", "_") for name in ids),
            split=split,
            kind="image" if found.kind in ("image", "frame") else "video",
            name=f"{video_id}/{found.path.stem}" if found.kind == "frame" else video_id,
            frame=last_number(found.path.stem) if found.kind == "frame" else 0,
            official_split=split if official is None else official,
            mask=mask,
        )
    )


def without_suffix(name: str) -> str:
    """A file name without its last suffix; many times faster than a path.

    Example:
        >>> without_suffix("aaa.mp4")
        'aaa'
    """
    return name.rpartition(".")[0] or name


def has_classes(root: Path) -> bool:
    """Whether a folder is divided into real/ and fake/ itself, so that it has a plain layout."""
    return {"real", "fake"} <= names_in(root)


def last_number(stem: str) -> int:
    """The last number in a name, 0 if there is none.

    Example:
        >>> last_number("000_003_frame_0042")
        42
    """
    digits = re.findall(r"\d+", stem)
    return int(digits[-1][-9:]) if digits else 0


def take_validation(
    items: list[SourceItem], fractions: Sequence[float] | None
) -> tuple[list[SourceItem], list[str]]:
    """Take a validation set, disjoint by identity, out of the training set where none is official.

    Args:
        items: All items; those in "test" are never touched, nor is `official_split`.
        fractions: Of train, val and test: the share of val among train and val is taken; `None`: none.

    Returns:
        The items and a note. Where the identities cannot be divided (the forgeries link them all) there is no
        validation set, and the note says so.
    """
    train = [i for i, item in enumerate(items) if item.split == "train" and item.source_ids]
    if fractions is None or not train or not fractions[1]:
        return items, []
    share = fractions[1] / (fractions[0] + fractions[1])
    ids, labels = [items[i].source_ids for i in train], [items[i].label for i in train]
    splits = split_by_identity(ids, labels, (1 - share, share, 0))
    labels_of: dict[str, set[int]] = {"train": set(), "val": set()}
    for label, split in zip(labels, splits, strict=True):
        labels_of[split].add(label)
    if labels_of["train"] != labels_of["val"]:
        return items, [
            "no official validation set, and none was taken from the training set: it cannot be divided into "
            "two parts with real and fake videos of different people (forgeries connect the people they mix)"
        ]
    chosen = {i for i, split in zip(train, splits, strict=True) if split == "val"}
    items = [replace(item, split="val") if i in chosen else item for i, item in enumerate(items)]
    n = len({items[i].video_id for i in chosen})
    total = len({items[i].video_id for i in train})
    return items, [
        f"no official validation set: {n} of {total} training videos became val, divided by identity in the "
        "order of a hash; the test set is untouched"
    ]


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not readable as JSON ({error}); download it again") from error


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, without empty ones, BOM and line ends.

    Raises:
        DataError: It cannot be read, or is no text.
    """
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
    if "\0" in text:
        raise DataError(f"{file}: not a text file")
    return [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]


def listed_name(text: str) -> str:
    """A path from a list as a key: forward slashes, no suffix, no `videos/`, first folder in lower case.

    Example:
        >>> listed_name("Celeb-real\\\\videos\\\\id0_0000.mp4")
        'celeb-real/id0_0000'
    """
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", *_CONTAINERS)]
    name = str(PurePosixPath(*parts).with_suffix("")) if parts else ""
    head, slash, rest = name.partition("/")
    return head.lower() + slash + rest if slash else name
