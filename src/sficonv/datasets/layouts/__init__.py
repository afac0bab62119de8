"""Dataset trees and lists as people have them -> a flat list of source videos and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from sficonv.datasets.folders import read_folder
from sficonv.datasets.identity_split import SPLIT_NAMES
from sficonv.datasets.layouts import (
    celebdf,
    deeperforensics,
    deepfakebench,
    df40,
    dfdc,
    dfdc_preview,
    ffiw,
    ffpp,
    hff,
    lists,
    uadfv,
    wilddeepfake,
)
from sficonv.datasets.layouts.base import Layout, ReadOptions, list_folder, subfolders
from sficonv.datasets.source import Source, SourceItem, clean_text
from sficonv.errors import DataError

LayoutName = Literal[
    "deepfakebench",
    "csv",
    "txt",
    "deeperforensics",
    "ffpp",
    "celebdf",
    "dfdcp",
    "dfdc",
    "wilddeepfake",
    "ffiw",
    "hff",
    "uadfv",
    "df40",
    "folder",
]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)


def _read_plain(root: Path, options: ReadOptions) -> Source:
    return read_folder(
        root,
        dataset=options.dataset or root.resolve().name or "data",
        label=options.label,
        video_pattern=options.video_pattern,
        video_folders=options.video_folders,
        split_fractions=options.split_fractions,
    )


# In the order in which they are tried: what has unmistakable names first, plain folders last.
_LAYOUTS: dict[LayoutName, Layout] = {
    "deepfakebench": deepfakebench.LAYOUT,
    "csv": lists.CSV,
    "txt": lists.TEXT,
    "deeperforensics": deeperforensics.LAYOUT,
    "ffpp": ffpp.LAYOUT,
    "celebdf": celebdf.LAYOUT,
    "dfdcp": dfdc_preview.LAYOUT,
    "dfdc": dfdc.LAYOUT,
    "wilddeepfake": wilddeepfake.LAYOUT,
    "ffiw": ffiw.LAYOUT,
    "hff": hff.LAYOUT,
    "uadfv": uadfv.LAYOUT,
    "df40": df40.LAYOUT,
    "folder": Layout(
        title="plain folders",
        fits=Path.is_dir,
        read=_read_plain,
        options=frozenset({"label", "video_pattern", "video_folders"}),
    ),
}


def detect_layout(root: str | Path) -> LayoutName:
    """Say which layout a folder or a list file has.

    Args:
        root: A folder, or a CSV, text or JSON list.

    Returns:
        One of `LAYOUTS`; "folder" for a folder that looks like none of the others.

    Raises:
        DataError: There is no such folder or file, or a file that is no list.

    Example:
        >>> detect_layout(".")
        'folder'
    """
    return _detect(Path(root))[0]


def _detect(root: Path) -> tuple[LayoutName, Path]:
    """The layout, and the folder that has it: `root`, or the only folder in it."""
    if not root.exists():
        raise DataError(f"{root}: no such folder or file")
    for name, layout in _LAYOUTS.items():
        if name != "folder" and layout.fits(root):
            return name, root
    if not root.is_dir():
        raise DataError(f"{root}: not a known list; expected a folder, or a .csv, .tsv, .txt or .json file")
    inner = subfolders(root)
    if len(inner) == 1 and len(list_folder(root)) == 1:  # as an archive often unpacks
        for name, layout in _LAYOUTS.items():
            if name != "folder" and layout.fits(inner[0]):
                return name, inner[0]
    return "folder", root


def list_source(root: str | Path, *, layout: LayoutName | None = None, **options: object) -> list[SourceItem]:
    """List the videos and images of a data set; `read_source` without the notes.

    Args:
        root: Folder or list of the data set.
        layout: One of `LAYOUTS`; default: what `detect_layout` says.
        **options: As of `read_source`.

    Raises:
        DataError: As `read_source`.

    Example:
        >>> list_source("data/FaceForensics++")[0].video_id  # doctest: +SKIP
        'ffpp/c23/youtube/000'
    """
    return read_source(root, layout=layout, **options).items  # type: ignore[arg-type]


def read_source(
    root: str | Path,
    *,
    layout: LayoutName | None = None,
    dataset: str | None = None,
    label: int | None = None,
    video_pattern: str | None = None,
    video_folders: bool = False,
    fake_label: int | None = None,
    base_folder: str | Path | None = None,
    split: str | None = None,
    split_fractions: Sequence[float] = (0.7, 0.15, 0.15),
    methods: Sequence[str] | None = None,
    compressions: Sequence[str] | None = None,
) -> Source:
    """Read a data set's tree or list. No file of it is opened, archives and lists aside.

    Args:
        root: Folder of the data set, or a list file.
        layout: One of `LAYOUTS`; default: what `detect_layout` says.
        dataset: Name of the data set; default: the layout's, or the name of the folder or list.
        label: For a folder without real/ and fake/ sub-folders: the label of all its files (0 real, 1 fake).
        video_pattern: For plain folders: a regular expression searched in each file name without suffix.
            Its named group `video` is the video, `ids` (optional) its identities separated by `_`, and
            `frame` (optional) the frame number.
        video_folders: For plain folders: the images in one folder are the frames of one video.
        fake_label: For CSV and text lists: the number that means fake in them, 0 or 1. Default: 1 in a CSV;
            in text lists it has to follow from the folders in the paths.
        base_folder: For lists: the folder that their paths are relative to; default: found out from the
            list's own folder and those above it.
        split: Put everything into this split, whatever lists or folders say.
        split_fractions: Of train, val and test, where nothing says which file belongs to which split. Where
            only a validation set is missing, the share of val in train and val is taken from the training
            set.
        methods: Keep only these manipulations (real files always stay).
        compressions: Keep only these ("raw", "c23", "c40").

    Returns:
        The items, notes on how they were read, and what the complete data set would have.

    Raises:
        DataError: No such folder, unknown layout, no media in it, contradicting folder names, a list that is
            damaged or contradicts the folders, a pattern that does not fit, a method or compression that is
            not there, an option that the layout does not have.

    Example:
        >>> read_source("data/FaceForensics++").notes  # doctest: +SKIP
        []
    """
    root = Path(root)
    if layout is not None and layout not in _LAYOUTS:
        raise DataError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    found, folder = _detect(root) if layout is None else (layout, root)
    if not folder.exists():
        raise DataError(f"{folder}: no such folder or file")
    if split is not None and split not in SPLIT_NAMES:
        raise DataError(f"split must be one of {', '.join(SPLIT_NAMES)}, got {split!r}")
    if fake_label not in (None, 0, 1):
        raise DataError(
            f"fake_label must be 0 or 1: the number that means fake in the list; got {fake_label}"
        )
    options = ReadOptions(
        dataset=dataset,
        label=label,
        video_pattern=video_pattern,
        video_folders=video_folders,
        fake_label=fake_label,
        base_folder=None if base_folder is None else Path(base_folder),
        split_fractions=split_fractions if split is None else None,
    )
    _check_options(found, options)
    source = _LAYOUTS[found].read(folder, options)
    items = source.items
    if split is not None:
        items = [replace(item, split=split) for item in items]
    if methods is not None:
        _check_known("method", methods, {item.method for item in items})
        items = [item for item in items if item.label == 0 or item.method in methods]
    if compressions is not None:
        _check_known("compression", compressions, {item.compression for item in items})
        items = [item for item in items if item.compression in compressions]
    twice = [name for name, times in Counter(item.name for item in items).items() if times > 1]
    if twice:
        raise DataError(f"{root}: the same video is there twice: {', '.join(twice[:3])}")
    return replace(source, items=items, notes=list(map(clean_text, source.notes)))


def _check_options(layout: LayoutName, options: ReadOptions) -> None:
    for name in sorted(options.given() - _LAYOUTS[layout].options):
        known = [entry.title for entry in _LAYOUTS.values() if name in entry.options]
        raise DataError(f"{name} is for {' and '.join(known)}, not for {_LAYOUTS[layout].title}")


def _check_known(what: str, wanted: Sequence[str], known: set[str]) -> None:
    if unknown := sorted(set(wanted) - known):
        raise DataError(
            f"no {what} {', '.join(unknown)} here; there are: {', '.join(sorted(known)) or 'none'}"
        )
