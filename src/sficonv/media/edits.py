"""What people do to a photograph without meaning to deceive: edits that should change no verdict.

Each edit depends on the image alone. They are mild on purpose: what a phone, a messenger or a photo editor
does at its defaults. `corruptions` holds the damage that may well change a verdict.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Edit = Callable[[np.ndarray], np.ndarray]


def edit(image: np.ndarray, name: str) -> np.ndarray:
    """Edit one image.

    Args:
        image: uint8 `(H, W, 3)`, RGB.
        name: A key of `EDITS`.

    Returns:
        A new uint8 array `(h, w, 3)`; its size changes where the edit changes it.

    Raises:
        ValueError: There is no such edit, or the array is not a uint8 RGB image.

    Example:
        >>> from skimage.data import astronaut
        >>> edit(astronaut(), "half size").shape
        (256, 256, 3)
    """
    if name not in EDITS:
        raise ValueError(f"there is no edit {name!r}; there are {', '.join(EDITS)}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is a uint8 array (H, W, 3), got {image.dtype} {image.shape}")
    return np.ascontiguousarray(EDITS[name](image))


def _saved(quality: int) -> Edit:
    def save(image: np.ndarray) -> np.ndarray:
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]

    return save


def _scaled(factor: float) -> Edit:
    def scale(image: np.ndarray) -> np.ndarray:
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))

    return scale


def _cropped(image: np.ndarray) -> np.ndarray:
    """A twentieth off each side."""
    top, left = image.shape[0] // 20, image.shape[1] // 20
    return image[top : image.shape[0] - top, left : image.shape[1] - left]


def _rotated(image: np.ndarray) -> np.ndarray:
    """Straightened by 3 degrees, as photo editors do it, at the same size."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 3.0, 1.0)
    cubic, mirrored = cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101
    return np.asarray(cv2.warpAffine(image, turn, (width, height), flags=cubic, borderMode=mirrored))


def _graded(image: np.ndarray) -> np.ndarray:
    """Warmer, a little brighter in the middle tones, more colour."""
    x = (image / 255.0) ** 0.9 * np.array([1.04, 1.0, 0.94])
    grey = x.mean(axis=2, keepdims=True)
    return np.asarray((np.clip(grey + 1.2 * (x - grey), 0, 1) * 255).round(), dtype=np.uint8)


def _sharpened(image: np.ndarray) -> np.ndarray:
    """Unsharp mask: radius 1, amount 0.8."""
    return np.asarray(cv2.addWeighted(image, 1.8, cv2.GaussianBlur(image, (0, 0), 1.0), -0.8, 0))


def _screenshot(image: np.ndarray) -> np.ndarray:
    """Shown at three quarters of its size on a display, captured, and sent as JPEG."""
    return _saved(85)(_scaled(0.75)(image))


EDITS: dict[str, Edit] = {
    "mirrored": lambda image: image[:, ::-1],
    "saved at JPEG 75": _saved(75),
    "half size": _scaled(0.5),
    "cropped": _cropped,
    "rotated": _rotated,
    "colour-graded": _graded,
    "sharpened": _sharpened,
    "screenshot": _screenshot,
}
"""The edits by name, in the order in which they are shown."""
