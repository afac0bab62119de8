"""WildDeepfake (Zi et al., 2020): archives of face sequences, read without unpacking them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sficonv.datasets.layouts.base import (
    Found,
    Layout,
    list_folder,
    make_item,
    subfolders,
    take_validation,
    walk,
)
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Source, SourceItem
from sficonv.errors import DataError, MediaError
from sficonv.media.archives import frame_number, is_archive, list_archive

_FOLDERS = {
    f"{kind}_{split}": (kind == "fake", split) for kind in ("real", "fake") for split in ("train", "test")
}
_SEQUENCES = 7_314  # of all four folders together


def _read(root: Path, options: SourceOptions) -> Source:
    """Read WildDeepfake: label and split are the folder's; one archive comes from one video."""
    dataset = options.dataset or "wilddeepfake"
    items: list[SourceItem] = []
    notes: list[str] = []
    for folder in subfolders(root):
        name = _folder_name(folder)
        if name not in _FOLDERS:
            continue
        label, split = _FOLDERS[name]
        for archive, found, members in _sequences(folder, notes):
            if (said := _label_inside(found.video)) not in (None, label):
                kind = "fake" if said else "real"
                raise DataError(
                    f"{found.path}: {found.video} is {kind} by its name, but lies in {folder.name}"
                )
            item = make_item(
                found,
                dataset=dataset,
                label=label,
                video=f"{name}/{found.video}",
                ids=(f"{name}/{archive}",),
                split=split,
            )
            items.append(replace(item, members=members))
    items, more = take_validation(items, options.fractions)
    notes += [
        *more,
        "the images are face crops already: prepare them with detect=False (--no-detect)",
        "an identity here is an archive, that is, a video: the people in it are not published",
    ]
    videos = len({item.video_id for item in items})
    if videos < _SEQUENCES:
        notes.append(f"{videos} of the {_SEQUENCES:,} published face sequences are there")
    return Source("wilddeepfake", dataset, items, notes, [])


def _sequences(folder: Path, notes: list[str]) -> Iterator[tuple[str, Found, tuple[str, ...]]]:
    """Archive, sequence and its frames: packed, or where an archive has been unpacked in place, unpacked."""
    try:
        names = {entry.name for entry in list_folder(folder)}
    except MediaError:
        yield folder.name, Found(folder, folder.name, "unreadable"), ()
        return
    packed = [folder / name for name in names if is_archive(Path(name))]
    unpacked = {path.name for path in subfolders(folder)}
    for path in sorted(packed, key=lambda path: (frame_number(_stem(path)), path.name)):
        stem = _stem(path)
        if stem in unpacked:
            continue
        members, problem = list_archive(path)
        if problem:
            notes.append(problem)
        for sequence, frames in _by_folder(stem, members).items():
            yield stem, Found(path, sequence, "video"), tuple(frames)
        if not members:
            yield stem, Found(path, stem, "video"), ()
    for name in sorted(unpacked):
        for found in walk(folder / name):
            # An archive holds a folder of its own name: 0/real/12.
            inner = found.video.removeprefix(f"{name}/")
            yield name, replace(found, video=f"{name}/{inner}"), ()


def _by_folder(stem: str, members: list[str]) -> dict[str, list[str]]:
    sequences: dict[str, list[str]] = {}
    for member in members:
        parts = [part for part in PurePosixPath(member).parent.parts if part != "."]
        inner = parts[1:] if parts[:1] == [stem] else parts
        sequences.setdefault("/".join((stem, *inner)), []).append(member)
    for frames in sequences.values():
        frames.sort(key=lambda frame: (frame_number(frame), frame))
    return sequences


def _label_inside(video: str) -> int | None:
    """What a folder called `real` or `fake` inside the archive says."""
    said = [int(part.lower() == "fake") for part in video.split("/") if part.lower() in ("real", "fake")]
    return said[-1] if said else None


def _stem(path: Path) -> str:
    return re.sub(r"\.(tar\.gz|tgz|tar)$", "", path.name, flags=re.IGNORECASE)


def _folder_name(folder: Path) -> str:
    return re.sub(r"[ -]+", "_", folder.name.lower())


def _fits(root: Path) -> bool:
    """The four folders, with archives or with what was in them (a number, then real or fake)."""
    for folder in subfolders(root):
        if _folder_name(folder) not in _FOLDERS:
            continue
        try:
            names = [entry.name for entry in list_folder(folder)]
        except MediaError:
            continue
        if any(is_archive(Path(name)) for name in names):
            return True
        if any(
            {below.name.lower() for below in subfolders(inner)} & {"real", "fake"}
            for inner in subfolders(folder)[:3]
        ):
            return True
    return False


LAYOUT = Layout(title="WildDeepfake", fits=_fits, read=_read, example="real_train/0.tar.gz")
