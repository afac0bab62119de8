"""The directories of TIFF files, and telling camera raw files, most of which are TIFF, from pictures."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from sficonv.errors import MediaError

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
_MOST_ENTRIES = 512
ORIENTATION = 274
_REDUCED, _WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 256, 257, 262, 330, 50706
_OF_SENSORS = (32803, 34892)  # colour filter array, linear raw
_SIZES = {1: 1, 3: 2, 4: 4, 13: 4}  # bytes of the types of TIFF numbers that matter here


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
    if header[:4] not in (b"II*\0", b"MM\0*"):
        return ""
    if header[8:10] == b"CR":
        return "CR2"
    if path.suffix.lower() in _SUFFIXES:
        return path.suffix[1:].upper()
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return _of_tiff(_Tiff.of(data))
    except (OSError, ValueError):
        return ""


def first_directory(path: Path) -> dict[int, list[int]]:
    """The integer tags of the first picture of a TIFF file; empty where they cannot be read."""
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            tiff = _Tiff.of(data)
            return tiff.directory(tiff.first)
    except (OSError, ValueError):
        return {}


def upright_bytes(path: Path) -> bytes:
    """A TIFF file whose first picture claims to be stored upright, for decoders that turn it badly."""
    data = bytearray(path.read_bytes())
    tiff = _Tiff.of(data)
    (count,) = struct.unpack_from(f"{tiff.order}H", data, tiff.first)
    for place in range(tiff.first + 2, tiff.first + 2 + 12 * count, 12):
        if struct.unpack_from(f"{tiff.order}H", data, place)[0] == ORIENTATION:
            struct.pack_into(f"{tiff.order}H", data, place + 8, 1)
    return bytes(data)


def raw_error(path: Path) -> MediaError:
    """What to say of a camera raw file."""
    return MediaError(
        f"{path}: camera raw, which holds the values of the sensor and not a picture; export it as JPEG or "
        "TIFF from the camera or a raw converter, and judge that"
    )


@dataclass(frozen=True)
class _Tiff:
    data: mmap | bytearray
    order: str
    first: int

    @classmethod
    def of(cls, data: mmap | bytearray) -> _Tiff:
        order = "<" if data[:2] == b"II" else ">"
        return cls(data, order, struct.unpack_from(f"{order}I", data, 4)[0] if len(data) >= 8 else 0)

    def directory(self, at: int) -> dict[int, list[int]]:
        """The integer tags of the directory at an offset; empty where it does not lie in what was read."""
        tags: dict[int, list[int]] = {}
        try:
            (count,) = struct.unpack_from(f"{self.order}H", self.data, at)
            for entry in range(min(count, _MOST_ENTRIES)):
                tag, kind, number = struct.unpack_from(f"{self.order}HHI", self.data, at + 2 + 12 * entry)
                size = _SIZES.get(kind, 0)
                if not size or number > 64:
                    continue
                place = at + 10 + 12 * entry
                if size * number > 4:
                    (place,) = struct.unpack_from(f"{self.order}I", self.data, place)
                letter = {1: "B", 2: "H", 4: "I"}[size]
                tags[tag] = list(struct.unpack_from(f"{self.order}{number}{letter}", self.data, place))
        except struct.error:
            pass
        return tags


def _of_tiff(tiff: _Tiff) -> str:
    """Whether the picture that opens a TIFF file is the preview of what a sensor saw."""
    first = tiff.directory(tiff.first)
    if _DNG_VERSION in first:
        return "DNG"
    below = [tiff.directory(at) for at in first.get(_SUB_IFDS, [])]
    photometric = {value for tags in (first, *below) for value in tags.get(_PHOTOMETRIC, [])}
    if photometric & set(_OF_SENSORS):
        return "RAW"
    reduced = bool(first.get(_REDUCED, [0])[0] & 1)
    larger = any(_pixels(tags) > _pixels(first) for tags in below)
    return "RAW" if larger or (reduced and below) else ""


def _pixels(tags: dict[int, list[int]]) -> int:
    width, height = tags.get(_WIDTH) or [0], tags.get(_HEIGHT) or [0]
    return width[0] * height[0]
