"""DeeperForensics-1.0 (Jiang et al., 2020), whose real videos are those of FaceForensics++."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sficonv.datasets.identity_split import SPLIT_NAMES
from sficonv.datasets.layouts.base import (
    Found,
    Layout,
    make_item,
    names_in,
    read_lines,
    subfolders,
    walk,
)
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Expectation, Source, SourceItem
from sficonv.errors import DataError, first_few

_TARGETS = Path("original_sequences", "youtube", "c23")
_COUNT = 1_000  # in each folder of manipulated_videos
_NAME = re.compile(r"(\d{3})_([MW]\d{3})")


def _read(root: Path, options: SourceOptions) -> Source:
    """Read the forgeries of DeeperForensics, and the FaceForensics++ originals where they lie beside them."""
    dataset = options.dataset or "deeperforensics"
    split_of = _splits(root)
    target_split = {name[:3]: split for name, split in split_of.items()}
    items: list[SourceItem] = []
    strange: list[str] = []
    for method, label, found in _files(root):
        match = _NAME.fullmatch(found.stem) if label else re.fullmatch(r"\d{3}", found.stem)
        if match is None and found.kind != "unreadable":
            strange.append(f"{method}/{found.path.name}")
            continue
        ids = (match[1], f"actor{match[2]}") if match and label else (found.stem,)
        items.append(
            make_item(
                found,
                dataset=dataset,
                label=label,
                method=method,
                video=f"{method}/{found.stem}",
                ids=ids,
                split=(split_of if label else target_split).get(found.stem, ""),
            )
        )
    if not any(item.label for item in items):
        items = []  # the real videos alone are FaceForensics++
    notes = list(_notes(items, strange, split_of))
    return Source("deeperforensics", dataset, items, notes, list(_expected(items, split_of)))


def _files(root: Path) -> Iterator[tuple[str, int, Found]]:
    for found in walk(root / _TARGETS):
        yield "real", 0, found
    for folder in subfolders(root / "manipulated_videos"):
        for found in walk(folder):
            yield folder.name, 1, found


def _splits(root: Path) -> dict[str, str]:
    """Split of each forgery (000_M101) by the lists."""
    split_of: dict[str, str] = {}
    for split in SPLIT_NAMES:
        file = root / "lists" / "splits" / f"{split}.txt"
        for number, line in read_lines(file) if file.is_file() else ():
            name = Path(line.split()[0].replace("\\", "/")).stem
            if _NAME.fullmatch(name) is None:
                raise DataError(f"{file}: line {number} is {line[:80]!r}; expected for example 000_M101.mp4")
            if split_of.setdefault(name, split) != split:
                raise DataError(f"{file}: line {number}: {name} is also in the {split_of[name]} list")
    return split_of


def _notes(items: list[SourceItem], strange: list[str], split_of: dict[str, str]) -> Iterator[str]:
    if not any(item.label == 0 for item in items):
        yield (
            "no real videos: by the dataset's own documentation these are the c23 originals of "
            "FaceForensics++, not source_videos. Put (or link) them into "
            f"{_TARGETS.as_posix()}/videos, or evaluate together with a prepared FaceForensics++"
        )
    if not split_of:
        yield "no lists/splits/train.txt, val.txt, test.txt: the split column is empty"
    elif unlisted := [item.video_id for item in items if item.source_ids and not item.split]:
        yield f"{len(unlisted)} videos are in no split list: {first_few(unlisted)}"
    if strange:
        yield f"{len(strange)} videos ignored, names unlike 000_M101.mp4: {first_few(strange)}"


def _expected(items: list[SourceItem], split_of: dict[str, str]) -> Iterator[Expectation]:
    there: dict[str, set[str]] = {}
    for item in items:
        there.setdefault(item.method, set()).add(item.video_id.rpartition("/")[2])
    splits = Counter(split_of.values())
    there.setdefault("real", set())
    for method, present in sorted(there.items()):
        listed = sorted({name[:3] for name in split_of} if method == "real" else split_of)
        missing = tuple(name for name in listed if name not in present)
        origin = "the DeeperForensics-1.0 documentation"
        yield Expectation(method, int(method != "real"), _COUNT, origin, "", splits, missing)


def _fits(root: Path) -> bool:
    kinds = names_in(root / "manipulated_videos")
    return any(kind.startswith(("end_to_end", "reenact_postprocess")) for kind in kinds)


LAYOUT = Layout(
    title="DeeperForensics-1.0", fits=_fits, read=_read, example="manipulated_videos/end_to_end/000_M101.mp4"
)
