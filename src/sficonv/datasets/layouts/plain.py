"""Plain folders of images or videos, with what their names say about label, split and method."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sficonv.datasets.identity_split import split_by_identity
from sficonv.datasets.layouts.base import Layout, last_number
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Source, SourceItem, with_clean_texts, with_distinct_names
from sficonv.errors import DataError
from sficonv.media.kinds import VIDEO_SUFFIXES, is_folder
from sficonv.media.listing import Listing, list_media

LABEL_WORDS = {
    **dict.fromkeys(("real", "reals", "original", "originals", "authentic"), 0),
    **dict.fromkeys(("pristine", "genuine", "bonafide"), 0),
    **dict.fromkeys(("fake", "fakes", "manipulated", "deepfake", "deepfakes"), 1),
    **dict.fromkeys(("synthetic", "forged", "altered", "spoof"), 1),
}
_NUMBERS = {"0": 0, "1": 1}
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_CONTAINERS = ("videos", "images", "frames")  # say nothing about the method


@dataclass(frozen=True)
class _Words:
    """What the folder names above a file say; `None` and "" where they say nothing."""

    label: int | None
    label_folder: str
    split: str
    below: tuple[str, ...]  # folders below the label that say neither


def _read(root: Path, options: SourceOptions) -> Source:
    """Read a folder whose sub-folders say what is real and what is fake.

    Folder names are read word by word, in either order and combined: `train/real`, `fake/val`,
    `real_test`, `0_real`. Numbers count only where no word says it. Names below the label are the
    manipulation method (`fake/FaceSwap/a.mp4`).

    Raises:
        DataError: Nothing found, no or contradicting labels, a pattern that does not fit.
    """
    dataset, label = options.dataset or root.resolve().name or "data", options.label
    if label not in (None, 0, 1):
        raise DataError(f"label must be 0 (real) or 1 (fake), got {label}")
    pattern = _compile(options.video_pattern)
    items: list[SourceItem] = []
    said: dict[str, int] = {}
    unlabelled: list[Path] = []
    unmatched: list[Path] = []
    listing = list_media([root])
    for path in listing.files:
        relative = path.relative_to(root)
        unreadable = is_folder(path)  # a folder stands here for the files that it hides
        words = _read_words(root, relative if unreadable else relative.parent)
        if words.label is not None:
            if label is not None:
                raise DataError(
                    f"{root}: its sub-folders already say what is real and fake ({words.label_folder}); "
                    f"leave label={label} out"
                )
            said[words.label_folder] = words.label
        elif label is None:
            unlabelled.append(relative)
            continue
        file_label = words.label if words.label is not None else int(label or 0)
        fitting = None if unreadable else pattern
        item = _item(path, relative, dataset, file_label, words, fitting, options.video_folders)
        if item is None:
            unmatched.append(relative)
        else:
            items.append(item)
    if not items:
        raise DataError(_nothing_found(root, unlabelled, unmatched, options.video_pattern))
    notes = [f'folder "{name}" read as {v} = {"fake" if v else "real"}' for name, v in sorted(said.items())]
    if unlabelled:
        notes.append(f"{len(unlabelled)} files outside real and fake folders ignored, first {unlabelled[0]}")
    if unmatched:
        notes.append(f"{len(unmatched)} files ignored, not matched by video_pattern: {unmatched[0].name}")
    if skipped := [path for path in listing.skipped if not path.name.startswith(".")]:
        notes.append(Listing(skipped=[path.relative_to(root) for path in skipped]).note)
    if pattern is None and not options.video_folders and _look_like_frames(items):
        notes.append(
            "every image counts as its own video; if each folder holds the frames of one video, set "
            "video_folders=True (--video-folders), or its frames may end up in several splits"
        )
    drawn = options.fractions is not None and not any(item.split for item in items)
    items, split_note = with_splits(with_distinct_names(items), options.fractions)
    return Source("folder", dataset, items, [*notes, *split_note], drawn=drawn)


def _read_words(root: Path, parent: Path) -> _Words:
    labels: dict[str, int] = {}
    numbers: dict[str, int] = {}
    splits: set[str] = set()
    below: list[str] = []
    for part in parent.parts:
        words = re.split(r"[_\- ]+", part.lower())
        known = all(word in LABEL_WORDS or word in SPLIT_WORDS or word in _NUMBERS for word in words)
        numbered = len(words) == 1 and words[0] in _NUMBERS
        if not known or (numbered and (labels or numbers)):
            if labels or numbers:
                below.append(part)
            continue
        said = {LABEL_WORDS[word] for word in words if word in LABEL_WORDS}
        splits |= {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
        if len(said | set(labels.values())) > 1 or len(splits) > 1:
            raise DataError(f"{root / parent}: its folder names contradict each other; rename one")
        if said:
            labels[part] = said.pop()
        elif numbered:
            numbers[part] = _NUMBERS[part]
    chosen = labels or numbers
    label_folder = next(iter(chosen), "")
    return _Words(chosen.get(label_folder), label_folder, next(iter(splits), ""), tuple(below))


def _item(
    path: Path,
    relative: Path,
    dataset: str,
    label: int,
    words: _Words,
    pattern: re.Pattern[str] | None,
    video_folders: bool,
) -> SourceItem | None:
    kind: Literal["image", "video"] = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image"
    folder = "" if relative.parent == Path() else f"/{relative.parent.as_posix()}"
    prefix = f"{dataset}{folder}"
    below = [name for name in words.below if name.lower() not in _CONTAINERS]
    # Where folders name the split, equal file names on two sides are no sign of the same person.
    owner = f"{dataset}:{words.split}/" if words.split else f"{dataset}:"
    ids: tuple[str, ...] = (f"{owner}{path.stem}",)
    video_id, frame = f"{prefix}/{path.stem}", 0
    if pattern is not None:
        match = pattern.search(path.stem)
        if match is None or not match["video"]:
            return None
        groups = match.groupdict()
        video_id = f"{prefix}/{match['video']}"
        named = re.findall(r"[^,_]+", groups.get("ids") or "")
        ids = tuple(named) or (f"{owner}{match['video']}",)
        frame = int(groups["frame"]) if (groups.get("frame") or "").isdecimal() else 0
    elif video_folders and kind == "image" and folder:
        video_id = prefix
        ids = (f"{owner}{relative.parent.name}",)
        below = below[:-1]
        frame = last_number(path.stem)
    method = (below[0] if below else "fake") if label else "real"
    item = SourceItem(
        path=path,
        label=label,
        dataset=dataset,
        method=method,
        compression="",
        video_id=video_id,
        source_ids=ids,
        split=words.split,
        kind=kind,
        name=f"{prefix}/{path.stem}",
        frame=frame,
    )
    return with_clean_texts(item)


def _look_like_frames(items: list[SourceItem]) -> bool:
    """Images in many folders, several in each."""
    folders = Counter(item.path.parent for item in items if item.kind == "image")
    return len(folders) > 8 and sum(folders.values()) >= 4 * len(folders)


def _compile(video_pattern: str | None) -> re.Pattern[str] | None:
    if video_pattern is None:
        return None
    try:
        pattern = re.compile(video_pattern)
    except re.error as error:
        raise DataError(f"video_pattern {video_pattern!r} is not a regular expression: {error}") from error
    if "video" not in pattern.groupindex:
        raise DataError(f"video_pattern {video_pattern!r} needs a named group (?P<video>...)")
    return pattern


def with_splits(
    items: list[SourceItem], fractions: Sequence[float] | None
) -> tuple[list[SourceItem], list[str]]:
    """Items for which nothing says a split get one by identity, all or none; and a note on that."""
    if fractions is None:
        return items, []
    without = sum(not item.split for item in items)
    if without == len(items):
        splits = split_by_identity([i.source_ids for i in items], [i.label for i in items], fractions)
        items = [replace(item, split=split) for item, split in zip(items, splits, strict=True)]
        return items, ["no train, val, test folders: split by identity, in the order of a hash of the names"]
    if without:
        return items, [f"{without} files outside train, val and test folders have no split"]
    return items, []


def _nothing_found(root: Path, unlabelled: list[Path], unmatched: list[Path], pattern: str | None) -> str:
    if unmatched:
        return f"{root}: video_pattern {pattern!r} matches no file name, not even {unmatched[0].name!r}"
    if unlabelled:
        return (
            f"{root}: {len(unlabelled)} media files, but no folder that says what is real and what is fake. "
            "Put them into real/ and fake/, or set label=0 (all real) or label=1 (all fake)"
        )
    return f"{root}: no images or videos found"


LAYOUT = Layout(
    title="plain folders",
    fits=Path.is_dir,
    read=_read,
    options=frozenset({"label", "video_pattern", "video_folders"}),
)
