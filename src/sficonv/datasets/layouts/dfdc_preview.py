"""The preview of the Deepfake Detection Challenge (Dolhansky et al., 2019), often called DFDCP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sficonv.datasets.layouts.base import (
    Layout,
    listed_name,
    make_item,
    names_in,
    read_json,
    subfolders,
    take_validation,
    walk,
)
from sficonv.datasets.layouts.dfdc import read_label
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Expectation, Source, SourceItem
from sficonv.errors import DataError, first_few

_FOLDERS = {"original_videos": 0, "method_a": 1, "method_b": 1}
_COUNTS = (1_131, 4_119)  # real and fake


def _read(root: Path, options: SourceOptions) -> Source:
    """Read the DFDC preview: `dataset.json` gives split, label and the people in every video."""
    dataset, file = options.dataset or "dfdcp", root / "dataset.json"
    entries = _entries(file)
    items: list[SourceItem] = []
    unlisted: list[str] = []
    there: set[str] = set()
    for folder in subfolders(root):
        if folder.name.lower() not in _FOLDERS:
            continue
        for found in walk(folder):
            name = f"{folder.name.lower()}/{found.video}"
            key, value = entries.get(name, ("", None))
            if found.kind == "unreadable":
                value = {"label": "fake" if _FOLDERS[folder.name.lower()] else "real", "set": ""}
            if value is None:
                unlisted.append(name)
                continue
            there.add(name)
            label, split, people = _entry(f"{file}: {key}", key or name, value)
            items.append(
                make_item(
                    found,
                    dataset=dataset,
                    label=label,
                    method=folder.name,
                    video=name,
                    ids=people or (found.stem,),
                    split=split,
                )
            )
    notes: list[str] = []
    absent = [(key, value) for name, (key, value) in entries.items() if name not in there]
    if absent:
        notes.append(
            f"{len(absent)} of {len(entries)} videos of dataset.json are missing (mirrors are incomplete): "
            f"{first_few([key for key, _ in absent])}"
        )
    if unlisted:
        notes.append(f"{len(unlisted)} files ignored, not in dataset.json: {first_few(unlisted)}")
    expected = list(_expected(file, entries.values(), absent))
    counts = [sum(row.count for row in expected if row.label == label) for label in (0, 1)]
    if tuple(counts) != _COUNTS:
        notes.append(
            f"dataset.json lists {counts[0]} real and {counts[1]} fake videos; published were {_COUNTS[0]} "
            f"and {_COUNTS[1]}"
        )
    items, more = take_validation(items, options.fractions)
    return Source("dfdcp", dataset, items, [*notes, *more], expected)


def _entries(file: Path) -> dict[str, tuple[str, Any]]:
    """Path as it is listed, and what is said of it, by folder and name."""
    if not file.is_file():
        raise DataError(f"{file} is missing; labels and splits of the DFDC preview are in it")
    data = read_json(file)
    if not isinstance(data, dict):
        raise DataError(
            f'{file}: expected {{"method_A/.../a.mp4": {{"label": "fake", "set": "train"}}, ...}}'
        )
    return {listed_name(key): (key, value) for key, value in data.items()}


def _entry(where: str, key: str, value: Any) -> tuple[int, str, tuple[str, ...]]:
    """Label, split and people of one entry; the folder must agree with the label."""
    if not isinstance(value, dict):
        raise DataError(f'{where}: expected {{"label": ..., "set": ...}}, got {value!r}')
    label = read_label(value.get("label"), where)
    folder = key.replace("\\", "/").partition("/")[0]
    if _FOLDERS.get(folder.lower(), label) != label:
        raise DataError(f"{where}: labelled {value.get('label')!r}, but {folder} holds the other kind")
    split = str(value.get("set", "")).lower()
    if split not in ("train", "val", "test", ""):
        raise DataError(f"{where}: the set is {split!r}; expected train or test")
    people = (value.get("target_id"), value.get("swapped_id"))
    return label, split, tuple(dict.fromkeys(f"actor{person}" for person in people if person is not None))


def _expected(
    file: Path, entries: Iterable[tuple[str, Any]], absent: list[tuple[str, Any]]
) -> Iterator[Expectation]:
    """By folder, as dataset.json lists them; that has the published totals where it is whole."""
    methods = {"original_videos": "real", "method_a": "method_A", "method_b": "method_B"}
    names: dict[str, list[tuple[str, str]]] = {}
    for key, value in entries:
        label, split, _ = _entry(f"{file}: {key}", key, value)
        folder = key.replace("\\", "/").partition("/")[0]
        names.setdefault("real" if not label else methods.get(folder.lower(), folder), []).append(
            (key, split)
        )
    gone = {key for key, _ in absent}
    for method, listed in sorted(names.items()):
        splits = Counter(split for _, split in listed)
        missing = tuple(key for key, _ in listed if key in gone)
        yield Expectation(method, int(method != "real"), len(listed), "dataset.json", "", splits, missing)


def _fits(root: Path) -> bool:
    names = names_in(root)
    return bool({"method_a", "method_b"} & names) or {"dataset.json", "original_videos"} <= names


LAYOUT = Layout(title="DFDC preview", fits=_fits, read=_read, example="method_A/1064213/1064213_A/....mp4")
