"""PNG files piece by piece: what carries pixels is kept, what is damaged or merely describes them is not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_LARGE = 2**20
_MOST_CHUNKS = 1_000_000
_HDR = {16: "PQ", 18: "HLG"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True)
class Chunk:
    """One piece of a PNG file: kind, where its data begin, how long they are."""

    kind: bytes
    start: int
    size: int


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """The pieces of a PNG file in order, as far as they are there whole."""
    end = file.seek(0, 2)
    at = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head)
        if at + 12 + size > end:
            return
        yield Chunk(kind, at + 8, size)
        at += 12 + size


def animation_frames(path: Path) -> int:
    """How many pictures an animated PNG holds; 0 for a still one."""
    try:
        with path.open("rb") as file:
            for chunk in chunks(file):
                if chunk.kind == b"acTL" and chunk.size >= 4:
                    file.seek(chunk.start)
                    return int.from_bytes(file.read(4), "big")
                if chunk.kind == b"IDAT":
                    break
    except OSError:
        pass
    return 0


def only_pixels(path: Path) -> tuple[bytes, list[str]]:
    """A PNG file without its metadata, and what a reader should know of what was left out.

    Decoders refuse a file for the size of its texts and colour profile, or for a wrong checksum in a piece
    that carries no pixels. Nothing of that changes the picture.

    Args:
        path: A PNG file.

    Returns:
        The bytes of the file with the pieces that make the picture, and notes.

    Raises:
        OSError: It cannot be read.
    """
    parts, notes = [SIGNATURE], []
    with path.open("rb") as file:
        for chunk in chunks(file):
            file.seek(chunk.start - 8)
            raw = file.read(chunk.size + 12)
            data = raw[8:-4]
            sound = zlib.crc32(raw[4:-4]) == int.from_bytes(raw[-4:], "big")
            carries_pixels = chunk.kind in (b"IHDR", b"PLTE", b"IDAT", b"fdAT", b"fcTL", b"IEND")
            if not sound and not carries_pixels:
                name = chunk.kind.decode("latin-1")
                notes.append(f"a piece of metadata ({name}) is damaged and was not read (wrong checksum)")
            elif chunk.kind in _TEXTS and _unpacked(chunk.kind, data) > _LARGE:
                what = "a colour profile" if chunk.kind == b"iCCP" else "text"
                notes.append(f"more than 1 MB of metadata ({what}) was not read")
            elif chunk.kind == b"cICP" and len(data) == 4:
                notes += hdr_notes(data[1])
            elif chunk.kind in _KEPT:
                parts.append(raw)
    return b"".join(parts), notes


def hdr_notes(transfer: int) -> list[str]:
    """What to say of a picture or video with these transfer characteristics (ITU-T H.273)."""
    if transfer not in _HDR:
        return []
    return [
        f"high dynamic range ({_HDR[transfer]}), judged without tone mapping: it looks flatter and duller "
        "than on a screen, and the detector has seen no such pictures"
    ]


def rescued(path: Path, max_pixels: int) -> tuple[bytes, float] | None:
    """A PNG file that is cut or damaged, mended with black where its pixels are missing.

    Args:
        path: The file.
        max_pixels: Larger ones are left alone.

    Returns:
        A sound PNG file, and the share of its rows that could be decoded; `None` where that is none of them,
        or the rows are stored interlaced.
    """
    data = path.read_bytes()
    if len(data) < 33 or data[12:16] != b"IHDR":
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if interlaced or colour not in _CHANNELS or not 0 < width * height <= max_pixels:
        return None
    row = 1 + (width * _CHANNELS[colour] * depth + 7) // 8
    pixels = _inflated(_packed(data), row * height)
    filters = np.frombuffer(pixels, np.uint8)[: len(pixels) // row * row : row]
    # Behind the damage, what is unpacked is noise for a while: it shows by filters that there are not.
    rows = int(np.argmax(filters > 4)) if (filters > 4).any() else len(filters)
    if not rows:
        return None
    whole = pixels[: rows * row] + bytes(row * (height - rows))
    with path.open("rb") as file:
        kept = [(c, data[c.start : c.start + c.size]) for c in chunks(file) if c.kind in (b"PLTE", b"tRNS")]
    parts = [SIGNATURE, _chunk(b"IHDR", data[16:29]), *(_chunk(c.kind, content) for c, content in kept)]
    parts += [_chunk(b"IDAT", zlib.compress(whole, 1)), _chunk(b"IEND", b"")]
    return b"".join(parts), rows / height


def _packed(data: bytes) -> bytes:
    """The compressed pixels, also of a last piece that is cut, whatever the checksums say."""
    parts, at = [], len(SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            parts.append(data[at + 8 : at + 8 + size])
        elif not kind.isalpha():
            break
        at += 12 + size
    return b"".join(parts)


def _inflated(packed: bytes, most: int) -> bytes:
    decoder, out = zlib.decompressobj(), bytearray()
    try:
        for at in range(0, len(packed), 1024):  # small steps: what comes before the damage is kept
            out += decoder.decompress(packed[at : at + 1024], most - len(out) or 1)
            if len(out) >= most or decoder.eof:
                break
            while decoder.unconsumed_tail and len(out) < most:
                out += decoder.decompress(decoder.unconsumed_tail, most - len(out))
    except zlib.error:
        pass
    return bytes(out[:most])


def _unpacked(kind: bytes, data: bytes) -> int:
    """Size of a text or profile, unpacked, as far as it matters."""
    if kind == b"tEXt":
        return len(data)
    rest = data.partition(b"\0")[2]
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        if not packed:
            return len(rest)
    else:
        rest = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(rest, _LARGE + 1))
    except zlib.error:
        return 0


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
