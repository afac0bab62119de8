"""The Deepfake Detection Challenge (Dolhansky et al., 2020), any of its parts."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sficonv.datasets.layouts.base import (
    Layout,
    has_classes,
    make_item,
    names_in,
    read_json,
    subfolders,
    take_validation,
    walk,
    without_suffix,
)
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Expectation, Source, SourceItem
from sficonv.errors import DataError, first_few

_LISTS = ("metadata.json", "labels.csv")
_LABELS = {"real": 0, "fake": 1, "0": 0, "1": 1, "false": 0, "true": 1}
_PART = re.compile(r"dfdc_train_part_(\d+)$")
_PARTS, _VALIDATION_PARTS = 50, range(35, 40)
_TRAIN, _TEST = (19_154, 100_000), (2_500, 2_500)  # real and fake


@dataclass(frozen=True)
class _Entry:
    """What a list says of one video."""

    label: int
    split: str
    original: str


class _Reading:
    """What is found in the folders of a root, and what their lists name."""

    def __init__(self, root: Path, dataset: str) -> None:
        self.root, self.dataset = root, dataset
        self.items: dict[str, SourceItem] = {}
        self.parts: dict[str, int] = {}
        self.absent: dict[tuple[str, int], list[str]] = {}
        self.listed: Counter[tuple[str, int]] = Counter()
        self.unlisted: list[str] = []
        self.twice = 0

    def read(self, folder: Path) -> None:
        """Take the videos of a folder that its lists name."""
        entries = _entries(folder)
        there: set[str] = set()
        part = _PART.match(folder.name)
        where = "" if folder == self.root else f"{folder.relative_to(self.root).as_posix()}/"
        for found in walk(folder, deep=False):
            entry = entries.get(found.stem)
            if entry is None and found.kind != "unreadable":
                self.unlisted.append(f"{where}{found.path.name}")
                continue
            there.add(found.stem)
            if found.kind == "video" and found.stem in self.items:
                self.twice += 1
                continue
            entry = entry or _Entry(0, "", "")
            if part is not None:
                self.parts[found.stem] = int(part[1])
            item = make_item(
                found,
                dataset=self.dataset,
                label=entry.label,
                video=f"{where}{found.stem}",
                ids=(entry.original or found.stem,),
                split=entry.split,
            )
            self.items[found.stem if found.kind == "video" else item.name] = item
        for name, entry in entries.items():
            self.listed[entry.split, entry.label] += 1
            if name not in there and name not in self.items:
                self.absent.setdefault((entry.split, entry.label), []).append(f"{folder.name}/{name}.mp4")

    def notes(self) -> list[str]:
        """What was left out."""
        notes = []
        if self.twice:
            notes.append(
                f"{self.twice} videos of train_sample_videos are also in the parts and were read from there"
            )
        if self.unlisted:
            notes.append(
                f"{len(self.unlisted)} files ignored, not in metadata.json or labels.csv: "
                f"{first_few(self.unlisted)}"
            )
        return notes


def _read(root: Path, options: SourceOptions) -> Source:
    """Read the DFDC: every folder with a `metadata.json` or `labels.csv`, one or all of the 50 parts."""
    reading = _Reading(root, options.dataset or "dfdc")
    folders = list(_listed_folders(root))
    # The sample repeats videos of the parts: parts come first.
    for folder in sorted(folders, key=lambda folder: (_PART.match(folder.name) is None, str(folder))):
        reading.read(folder)
    notes = [*reading.notes(), *_folder_notes(root, folders)]
    items, more = _with_validation(list(reading.items.values()), reading.parts, options)
    missing = [name for names in reading.absent.values() for name in names]
    if missing:
        notes.append(f"{len(missing)} listed videos are missing: {first_few(missing)}")
    notes += [
        *more,
        "an identity here is the filmed clip: the actors' names are not published, and they repeat",
    ]
    expected = list(_expected(folders, reading.listed, reading.absent))
    return Source("dfdc", reading.dataset, items, notes, expected)


def _listed_folders(root: Path) -> Iterator[Path]:
    """The folders that have a list, at most two levels down."""
    level = [root]
    for _ in range(3):
        without = [folder for folder in level if not any((folder / name).is_file() for name in _LISTS)]
        yield from (folder for folder in level if folder not in without)
        level = [
            below
            for folder in level
            for below in subfolders(folder)
            if below.name not in ("videos", "frames")
        ]


def _entries(folder: Path) -> dict[str, _Entry]:
    """The lists of a folder by file name without suffix."""
    entries: dict[str, _Entry] = {}
    if (folder / "metadata.json").is_file():
        file = folder / "metadata.json"
        data = read_json(file)
        if not isinstance(data, dict) or not all(isinstance(value, dict) for value in data.values()):
            raise DataError(f'{file}: expected {{"aaa.mp4": {{"label": "FAKE", ...}}, ...}}')
        for name, value in data.items():
            label = read_label(value.get("label", value.get("is_fake")), f"{file}: {name}")
            # The lists of training parts say "train"; those of the test set have no such entry.
            split = "train" if value.get("split") == "train" else "test"
            original = str(value.get("original") or "")
            entries[without_suffix(name)] = _Entry(label, split, without_suffix(original))
    if (folder / "labels.csv").is_file():
        file = folder / "labels.csv"
        with file.open(newline="", encoding="utf-8-sig") as text:
            for number, row in enumerate(csv.DictReader(text), 2):
                if not row.get("filename") or "label" not in row:
                    raise DataError(f"{file}: line {number}: expected the columns filename and label")
                stem = without_suffix(row["filename"].strip())
                label = read_label(row["label"], f"{file}: line {number}")
                if stem in entries and entries[stem].label != label:
                    raise DataError(f"{file}: line {number}: {stem} has another label earlier in the lists")
                entries[stem] = _Entry(label, "test", "")
    return entries


def read_label(value: object, where: str) -> int:
    """REAL, FAKE, 0 or 1 of a DFDC list as 0 or 1.

    Raises:
        DataError: It is something else.
    """
    label = _LABELS.get(str(value).strip().lower())
    if label is None:
        raise DataError(f"{where}: the label is {value!r}; expected REAL or FAKE, 0 (real) or 1 (fake)")
    return label


def _folder_notes(root: Path, folders: list[Path]) -> list[str]:
    notes: list[str] = []
    found = {int(match[1]) for folder in folders if (match := _PART.match(folder.name))}
    if found and len(found) < _PARTS:
        absent = [str(i) for i in range(_PARTS) if i not in found]
        notes.append(f"{len(absent)} of the {_PARTS} training parts are missing: {first_few(absent, 8)}")
    unlabelled = [path for path in subfolders(root) if path.name == "test_videos" and path not in folders]
    if unlabelled:
        notes.append("test_videos has no labels and is left out")
    return notes


def _with_validation(
    items: list[SourceItem], parts: Mapping[str, int], options: SourceOptions
) -> tuple[list[SourceItem], list[str]]:
    """Parts 35 to 39 validate where they and others are there, as is widely done; else clips are divided."""
    numbers = set(parts.values())
    kept = numbers & set(_VALIDATION_PARTS)
    fractions = options.fractions
    if fractions is None or not kept or kept == numbers or not fractions[1]:
        return take_validation(items, fractions)
    items = [
        replace(item, split="val")
        if item.split == "train" and parts.get(item.video_id.rpartition("/")[2]) in kept
        else item
        for item in items
    ]
    text = ", ".join(map(str, sorted(kept)))
    return items, [
        f"no official validation set: the training parts {text} became val; the test set is untouched"
    ]


def _expected(
    folders: list[Path], listed: Counter[tuple[str, int]], absent: Mapping[tuple[str, int], list[str]]
) -> Iterator[Expectation]:
    """Official totals where official parts or the whole test set are there; else what the lists name."""
    has_parts = any(_PART.match(folder.name) for folder in folders)
    for label in (0, 1):
        train, test = listed["train", label], listed["test", label]
        splits = {"test": _TEST[label]} if test else {}
        count = (_TRAIN[label] if has_parts else train) + (_TEST[label] if test else 0)
        origin = "the DFDC's published totals" if has_parts or test else "metadata.json"
        missing = (*absent.get(("train", label), ()), *absent.get(("test", label), ()))
        if count:
            yield Expectation("fake" if label else "real", label, count, origin, "", splits, missing)


def _fits(root: Path) -> bool:
    names = names_in(root)
    if "train_sample_videos" in names or any(map(_PART.match, names)):
        return True
    if has_classes(root):
        return False
    if _has_list(names):
        return True
    inside = [names_in(folder) for folder in subfolders(root)]
    return any(_has_list(names) or any(map(_PART.match, names)) for names in inside)


def _has_list(names: set[str]) -> bool:
    """A list beside videos: other datasets have files of these names as well."""
    videos = "videos" in names or "frames" in names or any(name.endswith(".mp4") for name in names)
    return videos and bool(names & set(_LISTS))


LAYOUT = Layout(
    title="DFDC", fits=_fits, read=_read, example="dfdc_train_part_0/metadata.json beside its videos"
)
