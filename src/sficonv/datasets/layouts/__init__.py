"""Dataset trees and lists as people have them -> a flat list of source videos and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

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
    plain,
    uadfv,
    wilddeepfake,
)
from sficonv.datasets.layouts.base import Layout, list_folder, subfolders
from sficonv.datasets.options import LayoutName, SourceOptions
from sficonv.datasets.source import Source, clean_text
from sficonv.errors import DataError, first_few

LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)

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
    "folder": plain.LAYOUT,
}
_SPECIAL = frozenset[str]().union(*(layout.options for layout in _LAYOUTS.values()))


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


def read_source(
    root: str | Path,
    options: SourceOptions = SourceOptions(),  # noqa: B008  (frozen)
    **changes: Any,
) -> Source:
    """Read a dataset's tree or list. No file of it is opened, archives and lists aside.

    Args:
        root: Folder of the dataset, or a list file.
        options: How to read it.
        **changes: Single fields of `options`, such as `split="test"`.

    Returns:
        The items, notes on how they were read, and what the complete dataset would have.

    Raises:
        DataError: No such folder, unknown layout, no media in it, contradicting folder names, a list that is
            damaged or contradicts the folders, a pattern that does not fit, a method or compression that is
            not there, an option that the layout does not have.

    Example:
        >>> read_source("data/FaceForensics++").notes  # doctest: +SKIP
        []
    """
    root, options = Path(root), replace(options, **changes)
    if options.layout is not None and options.layout not in _LAYOUTS:
        raise DataError(f"unknown layout {options.layout!r}; known: {', '.join(LAYOUTS)}")
    found, folder = _detect(root) if options.layout is None else (options.layout, root)
    if not folder.exists():
        raise DataError(f"{folder}: no such folder or file")
    if options.split is not None and options.split not in SPLIT_NAMES:
        raise DataError(f"split must be one of {', '.join(SPLIT_NAMES)}, got {options.split!r}")
    if options.fake_label not in (None, 0, 1):
        raise DataError(
            f"fake_label must be 0 or 1: the number that means fake in the list; got {options.fake_label}"
        )
    _check_options(found, options)
    source = (kind := _LAYOUTS[found]).read(folder, options)
    if not source.items:
        raise DataError(
            f"{folder}: a {kind.title} tree without videos or images; expected for example {kind.example}"
        )
    items = source.items
    if options.split is not None:
        items = [replace(item, split=options.split) for item in items]
    if (methods := options.methods) is not None:
        _check_known("method", methods, {item.method for item in items})
        items = [item for item in items if item.label == 0 or item.method in methods]
    if (compressions := options.compressions) is not None:
        _check_known("compression", compressions, {item.compression for item in items})
        items = [item for item in items if item.compression in compressions]
    twice = [name for name, times in Counter(item.name for item in items).items() if times > 1]
    if twice:
        raise DataError(f"{root}: the same video is there twice: {first_few(twice)}")
    return replace(source, items=items, notes=list(map(clean_text, source.notes)))


def _check_options(layout: LayoutName, options: SourceOptions) -> None:
    default = SourceOptions()
    for name in sorted(_SPECIAL - _LAYOUTS[layout].options):
        if getattr(options, name) == getattr(default, name):
            continue
        known = [entry.title for entry in _LAYOUTS.values() if name in entry.options]
        raise DataError(f"{name} is for {' and '.join(known)}, not for {_LAYOUTS[layout].title}")


def _check_known(what: str, wanted: Sequence[str], known: set[str]) -> None:
    if unknown := sorted(set(wanted) - known):
        raise DataError(
            f"no {what} {', '.join(unknown)} here; there are: {', '.join(sorted(known)) or 'none'}"
        )
