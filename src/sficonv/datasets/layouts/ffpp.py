"""FaceForensics++ (Roessler et al., 2019) with FaceShifter and DeepFakeDetection, as distributed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sficonv.datasets.identity_split import SPLIT_NAMES
from sficonv.datasets.layouts.base import (
    Found,
    Layout,
    list_folder,
    make_item,
    names_in,
    read_json,
    subfolders,
    walk,
)
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Expectation, Source, SourceItem
from sficonv.errors import DataError, MediaError

_BRANCHES = (("original_sequences", 0), ("manipulated_sequences", 1))
_COMPRESSIONS = {"raw": "raw", "c0": "raw", "c23": "c23", "c40": "c40"}
_ACTORS = ("actors", "DeepFakeDetection")
_METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
_COUNT, _ACTOR_REALS, _ACTOR_FAKES = 1000, 363, 3068
_ORIGIN = "the FaceForensics++ download page"


def read_ffpp_splits(root: Path) -> dict[str, str]:
    """The official split of each FaceForensics++ video id, from `{train,val,test}.json`.

    Args:
        root: The folder with `original_sequences`; the lists are looked for in `splits` and
            `dataset/splits` below it, and beside it.

    Returns:
        id -> split; empty where there are no lists.

    Raises:
        DataError: A list is not the JSON it should be, or an id is in two of them.
    """
    return {name: split for split, pairs in _read_pairs(root).items() for pair in pairs for name in pair}


def common_split(ids: Sequence[str], split_of: Mapping[str, str]) -> str:
    """The split of a video: that of all its identities, or "" where they differ or one has none."""
    splits = {split_of.get(name, "") for name in ids}
    return splits.pop() if len(splits) == 1 else ""


def _read_pairs(root: Path) -> dict[str, list[list[str]]]:
    pairs_of: dict[str, list[list[str]]] = {}
    split_of: dict[str, str] = {}
    for folder in (root / "splits", root / "dataset" / "splits", root):
        for split in SPLIT_NAMES:
            file = folder / f"{split}.json"
            if not file.is_file():
                continue
            pairs_of[split] = _pairs(file)
            for name in (name for pair in pairs_of[split] for name in pair):
                if split_of.setdefault(name, split) != split:
                    raise DataError(f"{file}: id {name} is also in the {split_of[name]} list")
        if split_of:
            break
    return pairs_of


def _pairs(file: Path) -> list[list[str]]:
    pairs = read_json(file)
    sound = isinstance(pairs, list) and all(
        isinstance(pair, list) and pair and all(isinstance(name, str) for name in pair) for pair in pairs
    )
    if not sound:
        raise DataError(f'{file}: expected a list of pairs of ids such as ["071", "054"]')
    return pairs


def _read(root: Path, options: SourceOptions) -> Source:
    """Read a FaceForensics++ tree, complete or not, DeepFakeDetection included.

    A fake belongs to a split only if both its ids do. DeepFakeDetection has no official split and is by
    custom only tested on: all of it is "test".
    """
    dataset = options.dataset or "ffpp"
    pairs_of = _read_pairs(root)
    split_of = {name: split for split, pairs in pairs_of.items() for pair in pairs for name in pair}
    items: list[SourceItem] = []
    strange: list[str] = []
    masks: dict[str, dict[str, Path]] = {}
    for origin, compression, label, found in _files(root):
        ids = () if found.kind == "unreadable" else _ids(origin, found.stem)
        if ids is None:
            strange.append(found.path.relative_to(root).as_posix())
            continue
        if label and origin not in masks:  # the same masks for every compression
            masks[origin] = _masks(root / "manipulated_sequences" / origin / "masks")
        official = common_split(ids, split_of)
        items.append(
            make_item(
                found,
                dataset=dataset,
                label=label,
                method=origin,
                video="/".join(filter(None, (compression, origin, found.stem))),
                ids=ids,
                split="test" if origin in _ACTORS else official,
                official=official,
                compression=compression,
                mask=masks[origin].get(found.stem) if label else None,
            )
        )
    notes = _notes(items, strange, lists_found=bool(split_of))
    return Source("ffpp", dataset, items, notes, list(_expected(items, pairs_of)))


def _files(root: Path) -> Iterator[tuple[str, str, int, Found]]:
    """Origin ("youtube", "Deepfakes" ...), compression, label and file of everything in the tree."""
    for branch, label in _BRANCHES:
        origins, trouble = _folders(root / branch)
        yield from (("", "", label, found) for found in trouble)
        for origin in origins:
            inner, trouble = _folders(origin)
            yield from ((origin.name, "", label, found) for found in trouble)
            for folder in inner:
                compression = _COMPRESSIONS.get(folder.name)
                if compression is not None:  # masks lie beside the compressions
                    files = (found for found in walk(folder) if found.kind != "image")
                    yield from ((origin.name, compression, label, found) for found in files)


def _folders(folder: Path) -> tuple[list[Path], list[Found]]:
    """The folders in a folder; or the folder itself, so that it is reported, where it cannot be read."""
    if not folder.is_dir():
        return [], []
    try:
        list_folder(folder)
    except MediaError:
        return [], [Found(folder, folder.name, "unreadable")]
    return subfolders(folder), []


def _masks(folder: Path) -> dict[str, Path]:
    return {found.stem: found.path for found in walk(folder) if found.kind == "video"}


def _ids(origin: str, stem: str) -> tuple[str, ...] | None:
    if origin in _ACTORS:
        match = re.match(r"(\d\d)(?:_(\d\d))?__", stem)
        return tuple(f"actor{number}" for number in match.groups() if number) if match else None
    return tuple(stem.split("_")) if re.fullmatch(r"\d{3}(_\d{3})?", stem) else None


def _notes(items: list[SourceItem], strange: list[str], *, lists_found: bool) -> list[str]:
    notes: list[str] = []
    if not lists_found:
        notes.append(
            "no splits/train.json, val.json, test.json: the split column is empty. Put the official lists "
            "into the folder, or choose one split for everything"
        )
    if any(name.startswith("actor") for item in items for name in item.source_ids):
        notes.append(
            'DeepFakeDetection (actors) has no official split; by custom it is used for testing only ("test")'
        )
        if any(item.method == "DeepFakeDetection" and item.mask is None for item in items):
            notes.append(
                "DeepFakeDetection shows two people, one of them forged; without "
                "DeepFakeDetection/masks/videos the wrong face may be taken"
            )
    unlisted = [item for item in items if item.source_ids and not item.split]
    if lists_found and unlisted:
        notes.append(
            f"{len(unlisted)} videos have no split: their ids are in no list, or in two: "
            f"{unlisted[0].video_id}"
        )
    if strange:
        notes.append(f"{len(strange)} videos ignored, names unlike 000.mp4 or 000_001.mp4: {strange[0]}")
    return notes


def _expected(items: list[SourceItem], pairs_of: dict[str, list[list[str]]]) -> Iterator[Expectation]:
    """What the complete dataset has, for each compression at hand."""
    there: dict[tuple[str, str], set[str]] = {}
    for item in items:
        origin = item.video_id.split("/")[-2] if item.source_ids else ""
        there.setdefault((item.compression, origin), set()).add(item.video_id.rpartition("/")[2])
    reals = {split: [name for pair in pairs for name in pair] for split, pairs in pairs_of.items()}
    fakes = {s: [f"{a}_{b}" for p in pairs for a, b in (p, p[::-1])] for s, pairs in pairs_of.items()}
    for compression in sorted({compression for compression, origin in there if origin not in ("", *_ACTORS)}):
        for origin in ("youtube", *_METHODS, "FaceShifter"):
            present = there.get((compression, origin), set())
            if origin == "FaceShifter" and not present:  # came later, and not everybody has it
                continue
            names = reals if origin == "youtube" else fakes
            known = [name for group in names.values() for name in group]
            if not known and origin == "youtube":
                known = [f"{i:03d}" for i in range(_COUNT)]
            yield Expectation(
                method="real" if origin == "youtube" else origin,
                label=int(origin != "youtube"),
                compression=compression,
                count=_COUNT,
                origin=_ORIGIN,
                splits={split: len(group) for split, group in names.items()},
                missing=tuple(name for name in known if name not in present),
            )
    for compression, origin in sorted(there):
        if origin == "DeepFakeDetection":
            yield Expectation(origin, 1, _ACTOR_FAKES, _ORIGIN, compression)
        elif origin == "actors":
            yield Expectation("real", 0, _ACTOR_REALS, _ORIGIN, compression)


LAYOUT = Layout(
    title="FaceForensics++",
    fits=lambda root: bool(names_in(root) & {"original_sequences", "manipulated_sequences"}),
    read=_read,
    example="original_sequences/youtube/c23/videos/000.mp4",
)
