"""FFIW-10K (Zhou et al., 2021): videos of several people of whom some were forged."""

from __future__ import annotations

from pathlib import Path

from sficonv.datasets.identity_split import SPLIT_NAMES
from sficonv.datasets.layouts.base import (
    Layout,
    child,
    make_item,
    names_in,
    subfolders,
    take_validation,
    walk,
)
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Expectation, Source, SourceItem

_BRANCHES = (("source", 0), ("target", 1))
_VAL_COUNT = 250  # in source/val and in target/val
_RELEASE = "ffiw10k-v1-release"


def _read(root: Path, options: SourceOptions) -> Source:
    """Read FFIW-10K: source is real, target is fake, target_mask shows which of the faces."""
    root = child(root, _RELEASE) or root
    dataset = options.dataset or "ffiw"
    branches = [(folder, label) for name, label in _BRANCHES if (folder := child(root, name)) is not None]
    has_test = any("test" in names_in(folder) for folder, _ in branches)
    items: list[SourceItem] = []
    for branch, label in branches:
        for folder in subfolders(branch):
            given = folder.name.lower()
            if given not in SPLIT_NAMES:
                continue
            mask_folder = root / "target_mask" / folder.name
            masks = {m.video: m.path for m in walk(mask_folder) if m.kind == "video"} if label else {}
            split = "test" if given == "val" and not has_test else given
            for found in walk(folder):
                item = make_item(
                    found,
                    dataset=dataset,
                    label=label,
                    video=f"{branch.name.lower()}/{given}/{found.video}",
                    ids=(f"{given}/{found.video}",),
                    split=split,
                    official=given,
                    mask=masks.get(found.video),
                )
                items.append(item)
    notes = [
        "videos of the same name in source and target count as the same scene and stay in one split",
        "a frame shows about three faces, some of them forged: without masks the wrong face may be taken",
    ]
    if not has_test and any(item.official_split == "val" for item in items):
        notes.append('no test folder: by custom val is used as the test set ("test")')
        items, more = take_validation(items, options.fractions)
        notes += more
    expected = []
    for label, method in ((0, "real"), (1, "fake")):
        train = sum(item.label == label and item.official_split == "train" for item in items)
        splits = {"val" if has_test else "test": _VAL_COUNT}
        expected.append(
            Expectation(method, label, train + _VAL_COUNT, "its val folders; train as found", "", splits)
        )
    return Source("ffiw", dataset, items, notes, expected)


def _fits(root: Path) -> bool:
    names = names_in(root)
    if _RELEASE in names:
        return True
    target = child(root, "target")
    return {"source", "target"} <= names and target is not None and bool(names_in(target) & set(SPLIT_NAMES))


LAYOUT = Layout(title="FFIW-10K", fits=_fits, read=_read, example="source/train/a.mp4 and target/train/a.mp4")
