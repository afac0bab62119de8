"""DF40 (Yan et al., 2024): forgeries by 40 methods as face crops, made from FaceForensics++ and Celeb-DF."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sficonv.datasets.layouts.base import (
    Found,
    Layout,
    has_classes,
    make_item,
    names_in,
    subfolders,
    walk,
)
from sficonv.datasets.layouts.ffpp import common_split, read_ffpp_splits
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Source, SourceItem
from sficonv.errors import first_few

_DOMAINS = ("ff", "cdf")
_CLASSES = {"real": 0, "fake": 1}


def _read(root: Path, options: SourceOptions) -> Source:
    """Read DF40: ff goes by the lists of FaceForensics++, all else (cdf, methods with a real/) only tests."""
    dataset = options.dataset or "df40"
    split_of = read_ffpp_splits(root)
    items: list[SourceItem] = []
    ignored: list[str] = []
    for method in subfolders(root):
        for domain, label, found in _files(method):
            if not domain:
                ignored.append(f"{method.name}/{found.video}")
                continue
            ids = _ids(found.stem) or (f"{method.name}/{found.video}",)
            of_ff = common_split(ids, split_of)
            items.append(
                make_item(
                    found,
                    dataset=dataset,
                    label=label,
                    method=method.name,
                    video=f"{method.name}/{domain}/{found.video}",
                    ids=ids,
                    split=of_ff if domain == "ff" else "test",
                    official=of_ff if domain == "ff" else "",
                )
            )
    notes = list(_notes(items, ignored, lists_found=bool(split_of)))
    return Source("df40", dataset, items, notes)


def _files(method: Path) -> Iterator[tuple[str, int, Found]]:
    """Domain ("ff", "cdf", "real", "fake", or "" for none), label and file."""
    for folder in subfolders(method):
        name = folder.name.lower()
        domain = name if name in (*_DOMAINS, *_CLASSES) else ""
        for found in walk(folder):
            yield domain, _CLASSES.get(name, 1), found


def _ids(stem: str) -> tuple[str, ...]:
    """FaceForensics++ ids of 000_003, Celeb-DF's people of id0_id1_0000; none of other names."""
    if re.fullmatch(r"\d{3}(_\d{3})?", stem):
        return tuple(stem.split("_"))
    return tuple(dict.fromkeys(re.findall(r"id\d+", stem)))


def _notes(items: list[SourceItem], ignored: list[str], *, lists_found: bool) -> Iterator[str]:
    yield "the images are face crops already: prepare them with detect=False (--no-detect)"
    domains = {item.video_id.split("/")[2] for item in items}
    if domains & {"cdf", *_CLASSES}:
        yield 'forgeries of Celeb-DF (cdf) and methods with their own real/ are for testing only ("test")'
    without = [item.video_id for item in items if not item.split]
    if without and not lists_found:
        yield (
            "forgeries of FaceForensics++ (ff) follow its lists: put splits/train.json, val.json, test.json "
            f"into the folder; until then {len(without)} images have no split"
        )
    elif without:
        yield f"{len(without)} images have names that no list contains: {first_few(without)}"
    if not any(item.label == 0 for item in items):
        yield "no real images: DF40 uses those of FaceForensics++ and Celeb-DF; prepare them beside it"
    if ignored:
        yield f"{len(ignored)} files ignored, not below ff, cdf, real or fake: {first_few(ignored)}"


def _fits(root: Path) -> bool:
    """Folders of methods, of which one at least has an ff or cdf half."""
    return not has_classes(root) and any(names_in(folder) & set(_DOMAINS) for folder in subfolders(root))


LAYOUT = Layout(title="DF40", fits=_fits, read=_read, example="simswap/ff/frames/000_003/000.png")
