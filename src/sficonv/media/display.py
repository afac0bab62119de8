"""From a frame as it is stored to the picture that is shown: turned, mirrored, with square pixels."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sficonv.media.container import MAX_PIXELS
from sficonv.media.pixels import to_rgb
from sficonv.media.resize import resize

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_NEARLY_SQUARE = 0.02
_MOST_STRETCHED = 4.0


def as_displayed(frame: VideoFrame, stream: VideoStream) -> np.ndarray:
    """The picture that a player shows: uint8 `(H, W, 3)`, RGB; what is transparent lies on white."""
    image = resize(_opaque(frame), _square(frame, stream))
    transposed, mirrored, upside_down = _orientation(frame)
    if transposed:
        image = image.swapaxes(0, 1)
    if upside_down:
        image = image[::-1]
    if mirrored:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _opaque(frame: VideoFrame) -> np.ndarray:
    if not any(part.is_alpha for part in frame.format.components):
        return frame.to_ndarray(format="rgb24")
    return to_rgb(Image.fromarray(frame.to_ndarray(format="rgba")))


def displayed_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height of `as_displayed`."""
    width, height = _square(frame, stream)
    return (height, width) if _orientation(frame)[0] else (width, height)


def quarter_turns(frame: VideoFrame) -> int:
    """By how many quarters a stored frame is turned anticlockwise to be shown, mirrors aside."""
    return round(frame.rotation / 90) % 4


def _square(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height with square pixels, before turning."""
    ratio = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
    if not 1 / _MOST_STRETCHED <= ratio <= _MOST_STRETCHED or abs(ratio - 1) < _NEARLY_SQUARE:
        return frame.width, frame.height
    wider = round(frame.width * ratio), frame.height
    taller = frame.width, round(frame.height / ratio)
    enlarged, shrunk = (wider, taller) if ratio > 1 else (taller, wider)
    return enlarged if enlarged[0] * enlarged[1] <= MAX_PIXELS else shrunk


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """Whether rows become columns, then whether left and right, top and bottom change places.

    The matrix takes a stored point (x, y) to (a x + c y, b x + d y) on the display. Turns by other angles
    than quarters are rounded.
    """
    side_data: Any = frame.side_data  # its type names a mapping, iterating gives the entries
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("<9i", bytes(data)[:36])
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return False, a < 0, d < 0
            return True, c < 0, b < 0
    return False, False, False
