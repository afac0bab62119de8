"""Aligning by five points, checked against points whose place is known."""

import cv2
import numpy as np
import pytest

from sficonv.faces.alignment import TEMPLATE, align_face, similarity
from sficonv.faces.face import Face


def face_with(points: np.ndarray) -> Face:
    return Face((0.0, 0.0, 1.0, 1.0), points.astype(np.float32), 1.0)


def turned(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift


def test_similarity_is_exact_where_it_can_be() -> None:
    target = turned(TEMPLATE, 40, 250, (30, -20))
    matrix = similarity(TEMPLATE, target)
    assert np.abs(TEMPLATE @ matrix[:, :2].T + matrix[:, 2] - target).max() < 1e-4


def test_similarity_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    # Unknowns a, b, x, y of [[a, -b, x], [b, a, y]], solved by a general method.
    rows = [[p[0], -p[1], 1, 0] for p in source] + [[p[1], p[0], 0, 1] for p in source]
    a, b, x, y = np.linalg.lstsq(np.array(rows), target.T.ravel(), rcond=None)[0]
    assert similarity(source, target) == pytest.approx(np.array([[a, -b, x], [b, a, y]]))


@pytest.mark.parametrize("degrees", [-60, 0, 25, 180])
@pytest.mark.parametrize("side", [40, 150, 900])
@pytest.mark.parametrize("margin", [1.0, 1.3, 2.0])
def test_dots_at_the_landmarks_come_to_the_template(degrees: float, side: float, margin: float) -> None:
    points = turned(TEMPLATE - 0.5, degrees, side, (500, 480))
    image = np.zeros((1000, 1000, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (round(x), round(y)), max(1, int(side) // 60), (255, 255, 255), -1)
    crop, landmarks = align_face(image, face_with(points), margin=margin, size=256)
    expected = 256 * (0.5 + (TEMPLATE - 0.5) * 1.3 / margin)
    assert crop.shape == (256, 256, 3) and crop.dtype == np.uint8
    assert np.abs(landmarks - expected).max() < 0.01
    for x, y in expected:
        around = crop[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9, 0].astype(float)
        assert around.max() > 30
        rows, columns = np.mgrid[-8:9, -8:9]
        centre = (around * columns).sum() / around.sum(), (around * rows).sum() / around.sum()
        assert np.abs(centre).max() < 0.5 * 256 / side + 1.2  # the dots lie on whole pixels


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    crop, _ = align_face(stripes, face_with(TEMPLATE * 1024), size=64)
    assert 120 <= crop[4:-4, 4:-4].min() <= crop[4:-4, 4:-4].max() <= 135


def test_outside_the_image_the_edge_is_repeated() -> None:
    image = np.full((100, 100, 3), 90, np.uint8)
    image[:, :50] = 10
    for size in (32, 256):
        crop, _ = align_face(image, face_with(TEMPLATE * 100 + [40, 0]), size=size)
        assert set(np.unique(crop)) <= set(range(0, 100)) and (crop[:, -size // 4 :] == 90).all()


def test_what_cannot_be_aligned_is_said() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    for points in (np.full((5, 2), np.nan), np.full((5, 2), 7.0)):
        with pytest.raises(ValueError, match="cannot be aligned"):
            align_face(image, face_with(points))
    with pytest.raises(ValueError, match="positive"):
        align_face(image, face_with(TEMPLATE), margin=0)
