"""Finding and cutting faces, on a real photograph."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from sficonv.data import faces as faces_module
from sficonv.data.faces import Face, FaceDetector, crop_face
from sficonv.errors import DataError


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def face(detector: FaceDetector, astronaut: np.ndarray) -> Face:
    return detector(astronaut)[0]


def test_one_face_where_it_is(detector: FaceDetector, astronaut: np.ndarray) -> None:
    (face,) = detector(astronaut)
    x0, y0, x1, y1 = face.box
    assert 160 < x0 < 200 and 50 < y0 < 90 and 250 < x1 < 290 and 170 < y1 < 210
    assert 0.9 < face.score <= 1
    assert face.landmarks.shape == (5, 2) and face.landmarks.dtype == np.float32
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 5.0])
def test_one_face_at_any_size(
    detector: FaceDetector, astronaut: np.ndarray, face: Face, scale: float
) -> None:
    resized = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (found,) = detector(resized)
    assert np.abs(np.array(found.box) / scale - face.box).max() < 12
    assert np.abs(found.landmarks / scale - face.landmarks).max() < 16


@pytest.mark.parametrize("side", [48, 90, 128, 256, 1024])
def test_a_face_that_fills_the_image(
    detector: FaceDetector, astronaut: np.ndarray, face: Face, side: int
) -> None:
    crop, _ = crop_face(astronaut, face, margin=1.0, size=side)
    assert len(detector(crop)) == 1


def test_several_faces_largest_first(detector: FaceDetector, astronaut: np.ndarray) -> None:
    half = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    both = np.full((512, 800, 3), 128, np.uint8)
    both[:256, :256], both[:, 288:] = half, astronaut
    large, small = detector(both)
    assert large.area > 3 * small.area and large.box[0] > 288 > small.box[2]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (300, 400)])
def test_no_face(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert detector(np.full((*shape, 3), 127, np.uint8)) == []


def test_arguments_are_checked(detector: FaceDetector) -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            detector(wrong)
    with pytest.raises(ValueError, match="long_side"):
        FaceDetector(long_side=8)
    with pytest.raises(ValueError, match="min_score"):
        FaceDetector(min_score=1.5)


def test_the_crop_is_a_square_around_the_box(astronaut: np.ndarray, face: Face) -> None:
    crop, landmarks = crop_face(astronaut, face, margin=1.3, size=256)
    assert crop.shape == (256, 256, 3) and crop.dtype == np.uint8
    side = 1.3 * max(face.box[2] - face.box[0], face.box[3] - face.box[1])
    centre = np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2
    expected = (face.landmarks - centre + side / 2) * 256 / side
    assert landmarks.shape == (5, 2) and landmarks.dtype == np.float32
    assert np.abs(landmarks - expected).max() < 2.5  # the square lies on whole pixels


def test_landmarks_point_at_the_same_places_in_the_crop(
    detector: FaceDetector, astronaut: np.ndarray, face: Face
) -> None:
    crop, landmarks = crop_face(astronaut, face)
    (again,) = detector(crop)
    assert np.abs(again.landmarks - landmarks).max() < 10


def test_outside_the_image_the_edge_is_repeated() -> None:
    image = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)
    points = np.zeros((5, 2), np.float32)
    crop, landmarks = crop_face(image, Face((-4.0, -4.0, 4.0, 4.0), points, 1.0), margin=1.0, size=8)
    assert (crop[:5, :5] == image[0, 0]).all() and crop[-1, -1, 0] == image[3, 3, 0]
    assert (landmarks == 4).all()
    crop, _ = crop_face(image, Face((500.0, 500.0, 508.0, 508.0), points, 1.0), margin=1.0, size=8)
    assert (crop == image[-1, -1]).all()


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    whole = Face((0.0, 0.0, 256.0, 256.0), np.zeros((5, 2), np.float32), 1.0)
    crop, _ = crop_face(stripes, whole, margin=1.0, size=64)
    assert set(np.unique(crop)) <= {127, 128}


def test_crop_arguments(astronaut: np.ndarray, face: Face) -> None:
    with pytest.raises(ValueError, match="margin and size"):
        crop_face(astronaut, face, margin=0)
    assert crop_face(astronaut, face, size=100)[0].shape == (100, 100, 3)


def test_a_missing_or_changed_network_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    faces_module._yunet.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install"):
        FaceDetector()
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="is missing"):
        FaceDetector()
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"something else")
    with pytest.raises(DataError, match="checksum"):
        FaceDetector()
