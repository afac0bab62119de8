"""WebP animations piece by piece: how many pictures there are, and what is left of a file that was cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_HEAD = 12


def animation_frames(path: Path) -> int:
    """How many pictures a WebP file holds, the last of which may be cut; 0 for a still one."""
    return sum(kind == b"ANMF" for kind, _ in _chunks(path.read_bytes()))


def whole_part(path: Path) -> tuple[bytes, bool]:
    """A WebP animation without a picture that was cut off at its end, and whether there was such a one."""
    data = path.read_bytes()
    end = max((end for _, end in _chunks(data) if end <= len(data)), default=_HEAD)
    cut = int.from_bytes(data[4:8], "little") + 8 > len(data)
    return (b"RIFF" + (end - 8).to_bytes(4, "little") + data[8:end] if cut else data), cut


def _chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each chunk; the end of the last one may lie behind that of the file."""
    at = _HEAD
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        yield data[at : at + 4], end
        at = end
