"""Bringing a face upright by its five points."""

from __future__ import annotations

import cv2
import numpy as np

from sficonv.faces.face import Face
from sficonv.media.resize import resize

# Where the five points of an upright face lie in a crop of margin 1.3, as a share of its side.
TEMPLATE = np.array([[0.37, 0.405], [0.63, 0.405], [0.50, 0.555], [0.385, 0.675], [0.615, 0.675]], np.float32)
_TEMPLATE_MARGIN = 1.3


def align_face(
    image: np.ndarray, face: Face, *, margin: float = 1.3, size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a face turned upright, moved and scaled so that its five points lie where every face has them.

    The least-squares similarity transform (turn, scale, shift; nothing is stretched or mirrored) takes the
    landmarks to `TEMPLATE`. Over the edge of the image the edge pixels are repeated. Large faces are averaged
    down before they are turned (no aliasing).

    Args:
        image: uint8 `(H, W, 3)`, RGB: the one in which the face was found.
        face: What to cut out; its landmarks decide, not its box.
        margin: As in `crop_face`: 1.3 shows a face about as large as a crop of that margin does.
        size: Side of the result in pixels.

    Returns:
        The crop, uint8 `(size, size, 3)`, and the landmarks in its pixels, float32 `(5, 2)`.

    Raises:
        ValueError: `margin` or `size` is not positive, or the landmarks are unknown or all in one place.

    Example:
        >>> from skimage.data import astronaut
        >>> from sficonv.faces.detectors import YuNet
        >>> image = astronaut()
        >>> crop, landmarks = align_face(image, YuNet()(image)[0])
        >>> bool(abs(landmarks[0, 1] - landmarks[1, 1]) < 5)  # the eyes lie level
        True
    """
    if margin <= 0 or size < 1:
        raise ValueError(f"margin and size must be positive, got {margin} and {size}")
    if not np.isfinite(face.landmarks).all() or not np.ptp(face.landmarks, axis=0).any():
        raise ValueError("a face cannot be aligned: its landmarks are unknown or all in one place")
    target = size * (0.5 + (TEMPLATE - 0.5) * (_TEMPLATE_MARGIN / margin))
    to_crop = similarity(face.landmarks, target)
    scale = float(np.hypot(*to_crop[:, 0]))
    part, from_part = _averaged_down(image, to_crop, scale, size) if scale < 1 else (image, to_crop)
    crop = cv2.warpAffine(
        part, from_part, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return crop, (face.landmarks @ to_crop[:, :2].T + to_crop[:, 2]).astype(np.float32)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity transform `(2, 3)` that takes one set of points `(n, 2)` to another."""
    s, t = (points @ np.array([1, 1j]) for points in (source.astype(np.float64), target.astype(np.float64)))
    s0, t0 = s.mean(), t.mean()
    factor = np.vdot(s - s0, t - t0) / max(np.vdot(s - s0, s - s0).real, 1e-9)
    shift = t0 - factor * s0
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _averaged_down(
    image: np.ndarray, to_crop: np.ndarray, scale: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that the crop shows, reduced to the crop's scale, and the map from there."""
    height, width = image.shape[:2]
    to_image = cv2.invertAffineTransform(to_crop)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ to_image[:, :2].T + to_image[:, 2]
    pad = 4 / scale
    left, top = (
        int(np.clip(v, 0, n - 1)) for v, n in zip(corners.min(0) - pad, (width, height), strict=True)
    )
    right, bottom = (
        int(np.clip(v, low + 1, n))
        for v, low, n in zip(np.ceil(corners.max(0) + pad), (left, top), (width, height), strict=True)
    )
    part = image[top:bottom, left:right]
    reduced = resize(part, (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))))
    steps = np.array([part.shape[1] / reduced.shape[1], part.shape[0] / reduced.shape[0]])
    # Pixel centres: x_image = left + steps * (x_reduced + 0.5) - 0.5
    origin = np.array([left, top]) + 0.5 * steps - 0.5
    linear = to_crop[:, :2] * steps
    return reduced, np.column_stack([linear, to_crop[:, :2] @ origin + to_crop[:, 2]])
