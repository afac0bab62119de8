"""Pictures at another size."""

from __future__ import annotations

import cv2
import numpy as np


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring `(H, W)` or `(H, W, 3)` to `size`, (width, height): averaged down, or enlarged bicubically.

    Example:
        >>> resize(np.zeros((4, 4, 3), np.uint8), (8, 2)).shape
        (2, 8, 3)
    """
    if image.shape[1::-1] == size:
        return image
    shrinks = size[0] < image.shape[1] or size[1] < image.shape[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
