"""The Hybrid Fake Face dataset (Guo et al., 2021): images, real ones and those of five ways of forging."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from sficonv.datasets.layouts.base import (
    Found,
    Layout,
    child,
    make_item,
    subfolders,
    take_validation,
    walk,
)
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Source, SourceItem, with_distinct_names
from sficonv.errors import first_few

_CLASSES = {"real": 0, "fake": 1}
_METHODS = {"pggan", "stylegan", "glow", "stargan", "face2face"}
_IMAGES = 155_000


def _read(root: Path, options: SourceOptions) -> Source:
    """Read HFF: train/ trains, val/ is the fifth that the publications test on; sub-folders are the kinds."""
    dataset = options.dataset or "hff"
    has_test = child(root, "test") is not None
    items: list[SourceItem] = []
    kinds: set[str] = set()
    for folder in subfolders(root):
        given = folder.name.lower()
        if given not in ("train", "val", "test"):
            continue
        for name, label in _CLASSES.items():
            side = child(folder, name)
            for found in walk(side) if side is not None else ():
                kind = found.video.partition("/")[0] if found.kind == "frame" else ""
                kinds |= {kind} if kind and label else set()
                image = _as_image(found, f"{given}/{name}")
                item = make_item(
                    image,
                    dataset=dataset,
                    label=label,
                    method=kind,
                    video=image.video,
                    ids=(image.video,),
                    split="test" if given == "val" and not has_test else given,
                )
                items.append(item)
    notes = [
        "the authors' text lists say 0 = fake, 1 = real; here the folders are read, as 0 = real, 1 = fake",
        f"{len(items)} of about {_IMAGES:,} images are there",
        "the people in the images are not published, so each image counts as its own identity: a face and "
        "its forgeries may be in different splits",
        "the kinds differ in resolution (128 to 1024 pixels): a detector may learn that, not the forgery",
    ]
    if not has_test:
        notes.append('no test folder: val is the set that the publications test on ("test")')
        items, more = take_validation(items, options.fractions)
        notes += more
    if absent := sorted(_METHODS - {_plain(kind) for kind in kinds}):
        notes.append(f"some of the five kinds of forgery are missing: {first_few(absent, 5)}")
    return Source("hff", dataset, with_distinct_names(items), notes)


def _as_image(found: Found, prefix: str) -> Found:
    """No image belongs to a video here: each is one by itself, whatever folder it is in."""
    if found.kind != "frame":
        return replace(found, video=f"{prefix}/{found.video}")
    return Found(found.path, f"{prefix}/{found.video}/{found.path.stem}", "image")


def _plain(kind: str) -> str:
    return re.sub(r"[^a-z0-9]", "", kind.lower())


def _fits(root: Path) -> bool:
    """Two of its five kinds of forgery below train/fake or val/fake."""
    fakes = [
        child(folder, "fake")
        for folder in subfolders(root)
        if folder.name.lower() in ("train", "val", "test")
    ]
    kinds = {_plain(path.name) for fake in fakes if fake is not None for path in subfolders(fake)}
    return len(kinds & _METHODS) >= 2


LAYOUT = Layout(title="HFF", fits=_fits, read=_read, example="train/fake/StarGAN/a.png")
