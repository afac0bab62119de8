"""GIF files block by block: whether the end is there, which decoders do not say."""

from __future__ import annotations

from pathlib import Path

_END, _EXTENSION, _PICTURE = 0x3B, 0x21, 0x2C


def is_whole(path: Path) -> bool:
    """Whether the blocks of a GIF file follow one another to the mark of its end."""
    data = path.read_bytes()
    at = 13 + _colours(data[10:11])
    while at < len(data) and data[at] != _END:
        if data[at] == _EXTENSION:
            at += 2
        elif data[at] == _PICTURE:
            at += 11 + _colours(data[at + 9 : at + 10])
        elif data[at]:
            return False
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return at < len(data)


def _colours(flags: bytes) -> int:
    """Bytes of the colour table that such flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
