"""Cutting faces out, on a real photograph."""

import numpy as np
import pytest

from sficonv.faces.detectors import YuNet
from sficonv.faces.face import Face, FaceDetector, crop_face


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return YuNet()


@pytest.fixture(scope="module")
def face(detector: FaceDetector, astronaut: np.ndarray) -> Face:
    return detector(astronaut)[0]


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
