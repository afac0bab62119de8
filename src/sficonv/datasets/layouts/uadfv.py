"""UADFV (Li et al., 2018): 49 real videos and a forgery of each."""

from __future__ import annotations

import re
from pathlib import Path

from sficonv.datasets.layouts.base import Layout, child, make_item, walk
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Expectation, Source, SourceItem
from sficonv.errors import first_few

_FOLDERS = {"real": 0, "fake": 1}
_COUNT = 49


def _read(root: Path, options: SourceOptions) -> Source:
    """Read UADFV: 0007_fake.mp4 is made from 0007.mp4, so that number is the identity of both."""
    dataset = options.dataset or "uadfv"
    items: list[SourceItem] = []
    strange: list[str] = []
    for name, label in _FOLDERS.items():
        folder = child(root, name)
        for found in walk(folder) if folder is not None else ():
            match = re.fullmatch(r"(\d{4})(_fake)?", found.stem)
            if found.kind != "unreadable" and (match is None or bool(match[2]) != bool(label)):
                strange.append(f"{name}/{found.path.name}")
                continue
            ids = (match[1],) if match else ()
            item = make_item(
                found,
                dataset=dataset,
                label=label,
                video=f"{name}/{found.stem}",
                ids=ids,
                split="test",
                official="",
            )
            items.append(item)
    notes = ['UADFV has no official split and is too small to train on: all of it is "test"']
    if strange:
        notes.append(
            f"{len(strange)} files ignored, unlike real/0000.mp4 or fake/0000_fake.mp4: {first_few(strange)}"
        )
    there = {item.video_id.rpartition("/")[2] for item in items}
    expected = []
    for label, method, ending in ((0, "real", ""), (1, "fake", "_fake")):
        names = (f"{i:04d}{ending}" for i in range(_COUNT))
        missing = tuple(name for name in names if name not in there)
        expected.append(Expectation(method, label, _COUNT, "the UADFV publication", "", {}, missing))
    return Source("uadfv", dataset, items, notes, expected)


def _fits(root: Path) -> bool:
    folder = child(root, "fake")
    if folder is None:
        return False
    first = next((found for found in walk(folder) if found.kind != "unreadable"), None)
    return first is not None and re.fullmatch(r"\d{4}_fake", first.stem) is not None


LAYOUT = Layout(title="UADFV", fits=_fits, read=_read, example="fake/0000_fake.mp4")
