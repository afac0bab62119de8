"""Celeb-DF v1 and v2 (Li et al., 2020) and Celeb-DF++ (Li et al., 2025), as distributed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sficonv.datasets.layouts.base import (
    Found,
    Layout,
    child,
    listed_name,
    make_item,
    names_in,
    read_lines,
    take_validation,
    walk,
)
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Expectation, Source, SourceItem
from sficonv.errors import DataError, first_few

_FOLDERS = {"celeb-real": 0, "youtube-real": 0, "celeb-synthesis": 1}
_LIST = "List_of_testing_videos.txt"
_SCENARIOS = {"faceswap": 200, "facereenact": 200, "talkingface": 300}  # test videos of each method in them
_V1, _V2, _PP = "celebdf-v1", "celebdf-v2", "celebdf-pp"
# Real and fake videos of all, and of the test list where its size is known.
_COUNTS = {_V1: ((408, None), (795, None)), _V2: ((890, 178), (5639, 340))}
_V2_LINES = 518
_PP_REAL_TEST = 178


def _read(root: Path, options: SourceOptions) -> Source:
    """Read Celeb-DF: the folder gives the label, the official list the test set; everything else trains."""
    listed = _test_list(root)
    version = _version(root, len(listed))
    dataset = options.dataset or version
    items: list[SourceItem] = []
    for folder, label in _FOLDERS.items():
        path = child(root, folder)
        for found in walk(path) if path is not None else ():
            key = f"{folder}/{found.video}"
            split = "test" if key in listed else "train"
            items.append(
                make_item(
                    found,
                    dataset=dataset,
                    label=label,
                    method=_method(found, version),
                    video=key,
                    ids=_ids(folder, found.stem),
                    split=split if listed else "",
                )
            )
    notes: list[str] = []
    if listed:
        notes.append(f"{_LIST} says 1 = real, 0 = fake: read as such and checked against the folders")
        items, more = take_validation(items, options.fractions)
        notes += more
    else:
        notes.append(
            f"{_LIST} is missing, so the test set is unknown and the split column stays empty. Put the "
            "official list into the folder, or choose one split for everything"
        )
    if version == _PP:
        notes.append("some methods of Celeb-DF++ come as face crops, in which the face may fill the picture")
    present = {item.video_id.partition("/")[2] for item in items}
    absent = [key for key in listed if key not in present]
    if absent:
        notes.append(
            f"{len(absent)} of {len(listed)} videos of the test list are missing: {first_few(absent)}"
        )
    return Source("celebdf", dataset, items, notes, list(_expected(version, items, absent)))


def _test_list(root: Path) -> dict[str, int]:
    """Label of each video of the official test list, by folder and name; empty if there is no list."""
    file = root / _LIST
    if not file.is_file():
        return {}
    label_of: dict[str, int] = {}
    line_of: dict[str, int] = {}
    wrong: list[tuple[int, str]] = []
    for number, line in read_lines(file):
        said, _, name = line.partition(" ")
        key = listed_name(name.strip())
        label = _FOLDERS.get(key.partition("/")[0])
        if said not in ("0", "1") or label is None:
            raise DataError(
                f"{file}: line {number} is {line[:80]!r}; expected for example '1 Celeb-real/id0_0000.mp4'"
            )
        if int(said) == label:  # the list's 1 is real, ours is fake
            wrong.append((number, line))
        if key in label_of:
            if line_of[key] != int(said):
                earlier = f"an earlier line {line_of[key]}"
                raise DataError(f"{file}: line {number} says {said} of {name}, {earlier}")
            continue
        label_of[key], line_of[key] = label, int(said)
    if wrong:
        number, line = wrong[0]
        inverted = " (this list is inverted throughout)" if len(wrong) == len(label_of) else ""
        raise DataError(
            f"{file}: line {number} ({line[:80]!r}) contradicts its folder: the official list has 1 for "
            f"Celeb-real and YouTube-real, 0 for Celeb-synthesis{inverted}. Put the official list there"
        )
    return label_of


def _version(root: Path, lines: int) -> str:
    synthesis = child(root, "celeb-synthesis")
    if synthesis is not None and names_in(synthesis) & set(_SCENARIOS):
        return _PP
    name = root.resolve().name.lower()
    if lines == _V2_LINES or "v2" in name:
        return _V2
    return _V1 if "v1" in name else "celebdf"


def _method(found: Found, version: str) -> str:
    """Of ++ the method's folder ("SimSwap"); v1 and v2 have one method."""
    folders = found.video.split("/")[:-1]
    return folders[-1] if version == _PP and folders else "Celeb-synthesis"


def _ids(folder: str, stem: str) -> tuple[str, ...]:
    """idA and idB of idA_idB_0000; a YouTube video shows nobody else."""
    return tuple(dict.fromkeys(re.findall(r"id\d+", stem))) or (f"{folder.partition('-')[0]}:{stem}",)


def _expected(version: str, items: list[SourceItem], absent: list[str]) -> Iterator[Expectation]:
    origin = "the Celeb-DF publication"
    fakes = tuple(key for key in absent if key.startswith("celeb-synthesis"))
    reals = tuple(key for key in absent if not key.startswith("celeb-synthesis"))
    if version in _COUNTS:
        for label, (count, test) in enumerate(_COUNTS[version]):
            method = "Celeb-synthesis" if label else "real"
            splits = {} if test is None else {"test": test}
            yield Expectation(method, label, count, origin, "", splits, fakes if label else reals)
    elif version == _PP:
        yield Expectation("real", 0, _COUNTS[_V2][0][0], origin, "", {"test": _PP_REAL_TEST}, reals)
        yield from _expected_of_methods(items, fakes)


def _expected_of_methods(items: list[SourceItem], absent: tuple[str, ...]) -> Iterator[Expectation]:
    """Of each method of ++ the test set has a known size; for its training set what is there counts."""
    missing: dict[str, list[str]] = {}
    scenario_of = {
        item.method: item.video_id.split("/")[2] for item in items if item.label and item.source_ids
    }
    for key in absent:
        scenario, method = key.split("/")[1], key.split("/")[-2]
        missing.setdefault(method, []).append(key)
        scenario_of[method] = scenario
    there = Counter(item.method for item in items)
    for method, scenario in sorted(scenario_of.items()):
        if test := _SCENARIOS.get(scenario.lower()):
            gone = tuple(missing.get(method, ()))
            yield Expectation(method, 1, there[method] + len(gone), _LIST, "", {"test": test}, gone)


LAYOUT = Layout(
    title="Celeb-DF",
    fits=lambda root: bool(names_in(root) & set(_FOLDERS)),
    read=_read,
    example="Celeb-real/id0_0000.mp4",
)
