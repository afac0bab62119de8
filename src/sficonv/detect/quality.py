"""How hard a file was compressed: beyond a point the traces that detectors look for are gone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from sficonv.media.video import VideoInfo

LOW_JPEG = 50
"""JPEG quality (1 to 100) below which blocks and blurred texture are plain to see."""
LOW_BITS = 0.015
"""Bits per pixel and frame: FaceForensics++ clips have 0.023 to 0.095 at c23 and 0.0024 to 0.0088 at c40."""

# Mean of the luminance table of the JPEG standard (annex K), from which the usual quality scale starts.
_STANDARD_MEAN = 57.625


def image_doubt(path: str | Path) -> str | None:
    """A reason for doubt if an image is a JPEG of low quality, else `None`.

    The quality is estimated from the quantisation table in the header, on the usual scale of libjpeg. It is
    that of the last time the file was saved.

    Args:
        path: An image that was read without an error.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.jpg"
        >>> Image.effect_noise((32, 32), 50).save(file, quality=20)
        >>> image_doubt(file)
        'heavily compressed (JPEG quality about 20): much of what the detector looks for is lost'
    """
    try:
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if not tables or 0 not in tables:
        return None
    scale = 100 * sum(tables[0]) / len(tables[0]) / _STANDARD_MEAN
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return _doubt(f"JPEG quality about {max(1, round(quality))}") if quality < LOW_JPEG else None


def bits_per_pixel(info: VideoInfo) -> float:
    """Of a whole file, by what `sficonv.media.video.probe` says of it; infinite where it has no length."""
    pixels = info.duration * info.fps * info.width * info.height
    return 8 * info.path.stat().st_size / pixels if pixels > 0 else math.inf


def video_doubt(info: VideoInfo) -> str | None:
    """A reason for doubt if a video spends very few bits on a pixel, else `None`.

    Args:
        info: Of `sficonv.media.video.probe`.
    """
    bits = bits_per_pixel(info)
    return _doubt(f"{bits:.4f} bits per pixel") if bits < LOW_BITS else None


def _doubt(how: str) -> str:
    return f"heavily compressed ({how}): much of what the detector looks for is lost"
