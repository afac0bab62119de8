"""JPEG files segment by segment: what makes the picture is kept, what merely describes it is not."""

from __future__ import annotations

_KEPT = {0xE0, 0xE1, 0xEE}  # JFIF, EXIF, and Adobe's, which tells the colours
_DESCRIBING = {*range(0xE0, 0xF0), 0xFE}
_START_OF_SCAN, _END = 0xDA, b"\xff\xd9"


def mended(data: bytes) -> bytes:
    """A JPEG file without the metadata over which decoders may stumble, and with an end."""
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _START_OF_SCAN:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in _KEPT or data[at + 1] not in _DESCRIBING:
            parts.append(data[at:end])
        at = end
    return b"".join([*parts, data[at:], _END])
