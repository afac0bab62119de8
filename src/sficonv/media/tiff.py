"""The directories of TIFF files, and telling camera raw files, most of which are TIFF, from pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from sficonv.errors import MediaError
from sficonv.media.pixels import ORIENTATION

_MAGIC = {
    b"FUJIFILMCCD-RAW": "RAF",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\0": "RW2",
    b"FOVb": "X3F",
    b"\0MRM": "MRW",
}
_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "dng nef nrw cr2 arw srf sr2 pef srw 3fr fff iiq mef mos erf kdc dcr raw rwl gpr".split()  # noqa: SIM905
)
_MOST_ENTRIES, _MOST_PAGES = 512, 20_000
_FIRST_PAGES = 16  # among which a sensor's picture would be
_KIND, _OLD_KIND, _WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 255, 256, 257, 262, 330, 50706
_OF_SENSORS = (32803, 34892)  # colour filter array, linear raw
# Types of TIFF numbers that matter here: the letter of `struct`, and bytes.
_SIZES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 13: ("I", 4), 16: ("Q", 8), 18: ("Q", 8)}


def raw_format(path: Path, header: bytes) -> str:
    """The name of a camera's raw format, "" for any other file.

    Args:
        path: The file.
        header: Its first bytes, at least 16.

    Example:
        >>> raw_format(Path("a.cr2"), b"II*\\0\\x10\\0\\0\\0CR\\2\\0....")
        'CR2'
    """
    name = next((name for magic, name in _MAGIC.items() if header.startswith(magic)), "")
    if name:
        return name
    if header[4:12] == b"ftypcrx ":
        return "CR3"
    if header[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return ""
    if header[8:10] == b"CR":
        return "CR2"
    if path.suffix.lower() in _SUFFIXES:
        return path.suffix[1:].upper()
    try:
        return _of_tiff(_Tiff(np.memmap(path, np.uint8, "r")))
    except (OSError, ValueError, struct.error):
        return ""


@dataclass(frozen=True)
class Page:
    """One picture of a TIFF file.

    Attributes:
        number: Its place among all directories of the file, from 0.
        offset: Where its directory lies, in bytes.
        tags: The integers in it by the number of their tag; empty for a page behind the end of a cut file.
    """

    number: int
    offset: int
    tags: dict[int, list[int]]

    @property
    def is_reduced(self) -> bool:
        """Whether it is a smaller copy or a mask of another page."""
        return bool(self.tags.get(_KIND, [0])[0] & 5) or self.tags.get(_OLD_KIND) == [2]


def pages(path: Path) -> list[Page]:
    """The pictures in a TIFF file; none where its directories cannot be read.

    Smaller copies and masks are left out, unless there is nothing else.
    """
    try:
        every = list(_Tiff(np.memmap(path, np.uint8, "r")).chain())
    except (OSError, ValueError, struct.error):
        return []
    return [page for page in every if not page.is_reduced] or every[:1]


def alone(path: Path, page: Page) -> np.ndarray:
    """A TIFF file as if this page were its only one and stored upright, for decoders that turn it badly.

    Returns:
        uint8 `(bytes,)`: the file itself, mapped into memory, with a few changed bytes in copied pages.
    """
    tiff = _Tiff(np.memmap(path, np.uint8, "c"))
    tiff.put(tiff.word, 8 if tiff.is_big else 4, page.offset)
    for tag, _, _, place in tiff.entries(page.offset):
        if tag == ORIENTATION:
            tiff.put("H", place, 1)
    return np.asarray(tiff.data)


def raw_error(path: Path) -> MediaError:
    """What to say of a camera raw file."""
    return MediaError(
        f"{path}: camera raw, which holds the values of the sensor and not a picture; export it as JPEG or "
        "TIFF from the camera or a raw converter, and judge that"
    )


class _Tiff:
    """A TIFF or BigTIFF file, mapped into memory."""

    def __init__(self, data: np.ndarray) -> None:
        start = bytes(data[:4])
        self.data = data
        self.order = "<" if start.startswith(b"II") else ">"
        self.is_big = start[2:] in (b"+\0", b"\0+")
        self.word = "Q" if self.is_big else "I"  # offsets and sizes
        self._count, self._head, self._entry = ("Q", 8, 20) if self.is_big else ("H", 2, 12)

    def get(self, letters: str, at: int) -> tuple[int, ...]:
        """Numbers at an offset, by the letters of `struct`."""
        return struct.unpack_from(self.order + letters, self.data.data, at)

    def put(self, letter: str, at: int, number: int) -> None:
        """Write one number."""
        struct.pack_into(self.order + letter, self.data.data, at, number)

    def chain(self) -> Iterator[Page]:
        """The pages that follow one another; one that should follow but lies behind the end comes last."""
        (at,) = self.get(self.word, 8 if self.is_big else 4)
        seen: set[int] = set()
        while at and at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            yield Page(len(seen) - 1, at, self.tags(at))
            try:
                (count,) = self.get(self._count, at)
                (at,) = self.get(self.word, at + self._head + self._entry * count)
            except struct.error:
                return

    def entries(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """Tag, type, number of values and where these lie, of each entry of a directory."""
        (count,) = self.get(self._count, at)
        for entry in range(min(count, _MOST_ENTRIES)):
            place = at + self._head + self._entry * entry
            tag, kind, number = self.get(f"HH{self.word}", place)
            place += 12 if self.is_big else 8
            if number * _SIZES.get(kind, ("", 1))[1] > (8 if self.is_big else 4):
                (place,) = self.get(self.word, place)
            yield tag, kind, number, place

    def tags(self, at: int) -> dict[int, list[int]]:
        """The integers of the directory at an offset, as far as they lie in what was read."""
        found: dict[int, list[int]] = {}
        try:
            for tag, kind, number, place in self.entries(at):
                if kind in _SIZES and number <= 64:
                    found[tag] = list(self.get(f"{number}{_SIZES[kind][0]}", place))
        except struct.error:
            pass
        return found


def _of_tiff(tiff: _Tiff) -> str:
    """Whether the picture that opens a TIFF file is the preview of what a sensor saw."""
    chain = [page.tags for page in islice(tiff.chain(), _FIRST_PAGES)]
    if not chain:
        return ""
    if _DNG_VERSION in chain[0]:
        return "DNG"
    below = [[tiff.tags(at) for at in tags.get(_SUB_IFDS, [])] for tags in chain]
    photometric = {value for tags in chain + sum(below, []) for value in tags.get(_PHOTOMETRIC, [])}
    if photometric & set(_OF_SENSORS):
        return "RAW"
    reduced = bool(chain[0].get(_KIND, [0])[0] & 1)
    larger = any(_pixels(tags) > _pixels(chain[0]) for tags in below[0])
    return "RAW" if larger or (reduced and below[0]) else ""


def _pixels(tags: dict[int, list[int]]) -> int:
    width, height = tags.get(_WIDTH) or [0], tags.get(_HEIGHT) or [0]
    return width[0] * height[0]
