"""Faces: what a detector answers, and cutting them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sficonv.media.resize import resize


@dataclass(frozen=True)
class Face:
    """One detected face, in the pixels of the image it was found in.

    Attributes:
        box: `(x0, y0, x1, y1)`; may reach outside the image.
        landmarks: float32 `(5, 2)`, x and y of right eye, left eye, nose tip, right and left mouth corner
            (right is the person's right, so on the left of the picture).
        score: The detector's own confidence: YuNet's lies between 0 and 1, dlib's is a margin above 0.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float

    @property
    def area(self) -> float:
        """Area of the box in pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


class FaceDetector(Protocol):
    """Anything that finds faces; see `sficonv.faces.detectors` for the two that are built in."""

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Find the faces of one RGB image, uint8 `(H, W, 3)`; the largest box comes first."""

    def largest(self, image: np.ndarray, *, passes: int = 1) -> Face | None:
        """Find the largest face alone, refined as by `refine`; `None` if there is none."""

    def refine(self, image: np.ndarray, face: Face, *, passes: int = 1) -> Face:
        """Look closer at a face found in an image, as often as `passes` says; the same object if in vain."""


def crop_face(
    image: np.ndarray, face: Face, *, margin: float = 1.3, size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square around a face and bring it to a fixed size.

    The square is centred on the box, its side is `margin` times the longer side of the box. Where it
    reaches over the edge of the image, the edge pixels are repeated. Large faces are averaged down
    (no aliasing), small ones enlarged by cubic interpolation.

    Args:
        image: uint8 `(H, W, 3)`, RGB: the one in which the face was found.
        face: What to cut out.
        margin: Side of the square relative to the longer side of the box.
        size: Side of the result in pixels.

    Returns:
        The crop, uint8 `(size, size, 3)`, and the landmarks in its pixels, float32 `(5, 2)`.

    Raises:
        ValueError: `margin` or `size` is not positive.

    Example:
        >>> from skimage.data import astronaut
        >>> from sficonv.faces.detectors import YuNet
        >>> image = astronaut()
        >>> crop, landmarks = crop_face(image, YuNet()(image)[0])
        >>> crop.shape
        (256, 256, 3)
    """
    if margin <= 0 or size < 1:
        raise ValueError(f"margin and size must be positive, got {margin} and {size}")
    x0, y0, x1, y1 = face.box
    side = max(1, round(margin * max(x1 - x0, y1 - y0)))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    crop = resize(_cut(image, left, top, side), (size, size))
    landmarks = (face.landmarks - np.array([left, top], np.float32)) * np.float32(size / side)
    return crop, landmarks.astype(np.float32)


def _cut(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return image[top : top + side, left : left + side]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return image[rows[:, None], columns[None, :]]
