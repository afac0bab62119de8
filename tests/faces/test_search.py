"""Small faces in large pictures, and faces that lie on their side."""

import cv2
import numpy as np
import pytest

from sficonv.faces.detectors import YuNet
from sficonv.faces.search import FaceSearch, turned_upright


def search(image: np.ndarray, *, still: bool = True) -> FaceSearch:
    made = FaceSearch(YuNet(), smallest=40, still=still)
    made.found = made(image)  # type: ignore[attr-defined]
    return made


def on_canvas(face: np.ndarray, width: int, height: int, at: tuple[int, int]) -> np.ndarray:
    canvas = np.full((height, width, 3), (90, 110, 130), np.uint8)
    canvas[at[1] : at[1] + face.shape[0], at[0] : at[0] + face.shape[1]] = face
    return canvas


@pytest.mark.parametrize("at", [(100, 80), (1900, 700), (3700, 1500)])
def test_a_small_face_in_a_large_picture_is_found_where_it_is(
    astronaut: np.ndarray, at: tuple[int, int]
) -> None:
    small = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)  # the face: 46 px wide
    picture = on_canvas(small, 4000, 1800, at)
    assert YuNet()(picture) == []
    made = search(picture)
    (found,) = made.found  # type: ignore[attr-defined]
    x = (found.face.box[0] + found.face.box[2]) / 2 - at[0]
    assert x == pytest.approx(112, abs=12) and found.turns == 0
    assert 38 < found.face.box[2] - found.face.box[0] < 70
    assert made.notes() == []


def test_a_face_found_at_both_scales_is_one(astronaut: np.ndarray) -> None:
    picture = on_canvas(cv2.resize(astronaut, (1500, 1500)), 3000, 1600, (700, 50))
    assert len(search(picture).found) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_face_on_its_side_is_turned_upright(astronaut: np.ndarray, turns: int) -> None:
    made = search(np.ascontiguousarray(np.rot90(astronaut, -turns)))
    (found,) = made.found  # type: ignore[attr-defined]
    assert found.turns == turns
    assert "1 of 1 faces lie on their side or stand upside down" in made.notes()[0]
    x0, y0, x1, y1 = found.face.box
    middle = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]]) / 512
    _, upright = turned_upright(np.zeros((8, 8, 3), np.uint8), middle, turns)
    assert upright[0] * 512 == pytest.approx((222, 118), abs=20)  # where the face is in the photograph


def test_an_upright_face_is_left_as_it_is(astronaut: np.ndarray) -> None:
    made = search(astronaut)
    assert [found.turns for found in made.found] == [0] and made.notes() == []  # type: ignore[attr-defined]


def test_the_points_turn_with_the_crop() -> None:
    crop = np.zeros((10, 10, 3), np.uint8)
    crop[2, 7] = 255  # x 7, y 2
    turned, points = turned_upright(crop, np.array([[0.75, 0.25]]), 1)
    row, column = np.argwhere(turned[..., 0])[0]
    assert points[0] * 10 == pytest.approx((column + 0.5, row + 0.5))


def test_where_nothing_is_found_it_says_what_was_looked_for() -> None:
    assert "no face of about 40 px or more" in search(np.full((900, 3000, 3), 90, np.uint8)).notes()[0]
    assert "no face of about 20 px or more" in search(np.full((300, 300, 3), 90, np.uint8)).notes()[0]


def test_in_a_long_video_the_closer_look_is_given_up_by_and_by_and_that_is_said() -> None:
    made = FaceSearch(YuNet(), smallest=40, still=False)
    looks = []
    made._in_tiles = lambda image, overlap: looks.append(1) or []  # type: ignore[method-assign]
    made._turned_over = lambda image: []  # type: ignore[method-assign]
    for _ in range(40):
        made(np.full((1080, 3840, 3), 90, np.uint8))
    assert 4 <= len(looks) <= 10
    assert (
        f"faces below about 120 px were not looked for in {40 - len(looks)} of 40 frames" in made.notes()[0]
    )
