"""Pixels of any kind as 8-bit RGB, upright, on white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sficonv.errors import MediaError

ORIENTATION = 274  # the number of the EXIF and TIFF tag
_STRIP = 256  # rows brought from 16 to 8 bits at a time


@dataclass(frozen=True)
class Picture:
    """An image, and what a reader should know about it.

    Attributes:
        pixels: uint8 `(H, W, 3)`, RGB, upright.
        notes: In plain words, what was left out or may mislead: metadata that was not read, missing rows,
            high dynamic range.
        damage: What is wrong with the file, "" for a sound one. The pixels are those that could be decoded.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    damage: str = ""


def to_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of a Pillow image: uint8 `(H, W, 3)`, upright, on white."""
    image.load()  # may find the orientation, or apply it
    orientation = orientation_of(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _upright(_to_8_bits(np.asarray(image)[..., None])[0], orientation)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return _upright(np.array(image.convert("RGB")), orientation)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where damaged metadata do not say it."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # parsers raise anything at all on damaged metadata, which cost no picture
        return 1


def deep_picture(
    pixels: np.ndarray | None, orientation: int, notes: Sequence[str] = (), *, inverted: bool = False
) -> Picture:
    """What OpenCV decoded with more than 8 bits: it keeps all of them, where Pillow drops the low ones.

    Args:
        pixels: `(H, W)` or `(H, W, C)`, BGR.
        orientation: As of EXIF.
        notes: What there is to say already.
        inverted: Whether the smallest value is white.
    """
    if pixels is None:
        raise ValueError("its pixels cannot be decoded")
    values, more = _to_8_bits(pixels.reshape(*pixels.shape[:2], -1), bgr=True)
    return Picture(_upright(~values if inverted else values, orientation), (*notes, *more))


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse what is too large to be decoded.

    Raises:
        MediaError: More pixels than allowed.
    """
    if width * height > max_pixels:
        raise MediaError(
            f"{path}: {width} x {height} pixels is more than the limit of {max_pixels:,}; make it "
            "smaller, or raise max_pixels (scan --max-pixels, serve --max-megapixels)"
        )


def _to_8_bits(values: np.ndarray, *, bgr: bool = False) -> tuple[np.ndarray, list[str]]:
    """Numbers `(H, W, C)` of any range as RGB: grey or colour, with or without alpha, never cut off at 255.

    The sensors of cameras and microscopes give 8, 10, 12 or 14 bits, which many programs store in 16 as they
    are; float pixels reach up to 1, 255 or 65535.
    """
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 65535:
        raise ValueError(f"pixels from {low:g} to {high:g}; save the image with 8 or 16 bits")
    notes = []
    if values.dtype.kind == "f":
        full = next(limit for limit in (1, 255, 65535) if high <= limit)
    else:
        most = 15 if values.dtype == np.int16 else 16
        bits = next(bits for bits in (8, 10, 12, 14, most) if high < 2**bits)
        full = 2**bits - 1
        if bits < most:
            notes.append(f"its pixels use {bits} of 16 bits: brightened to show them")
    height, width, channels = values.shape
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        strip = values[top : top + _STRIP].astype(np.float32) * np.float32(255 / full)
        colour = strip[..., :1] if channels < 3 else strip[..., :3]
        if channels in (2, 4):
            alpha = strip[..., -1:] / 255
            colour = colour * alpha + 255 * (1 - alpha)
        out[top : top + _STRIP] = np.rint(colour[..., ::-1] if bgr else colour)
    return out, notes


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as its EXIF orientation says that it is to be shown."""
    turns = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}.get(orientation, 0)
    turned = np.rot90(pixels, turns) if turns else pixels
    return np.ascontiguousarray(turned[:, ::-1] if orientation in (2, 4, 5, 7) else turned)
