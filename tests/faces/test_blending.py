"""Forgeries by blending: what the paper says must hold, on a real face."""

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from sficonv.faces import blending
from sficonv.faces.blending import (
    BLEND_RATIOS,
    cross_blend,
    move_slightly,
    self_blend,
    self_blend_with_mask,
    shift_statistics,
)

# The face in scikit-image's photograph of Eileen Collins, in a crop of 160 px at (144, 30), enlarged to 256.
LANDMARKS = np.float32([[96, 114], [159, 120], [120, 154], [91, 178], [150, 182]])
UNKNOWN = np.full((5, 2), np.nan, np.float32)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return cv2.resize(astronaut()[30:190, 144:304], (256, 256), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("landmarks", [LANDMARKS, UNKNOWN])
def test_only_the_masked_area_differs_from_the_target(
    face: np.ndarray, landmarks: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    blended: list[tuple[np.ndarray, ...]] = []
    blend = blending._blend

    def spy(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
        blended.append((source, target, mask))
        return blend(source, target, mask)

    monkeypatch.setattr(blending, "_blend", spy)
    changed = 0
    for seed in range(20):
        fake = self_blend(face, landmarks, np.random.default_rng(seed))
        assert fake.shape == face.shape
        assert fake.dtype == np.uint8
        source, target, mask = blended.pop()
        assert np.array_equal(fake[mask == 0], target[mask == 0])
        assert (fake != target).any()
        full = mask == 1
        assert np.array_equal(fake[full], source[full])
        changed += not np.array_equal(target, face)
    assert 3 < changed < 17  # the copy whose statistics change is the source or the target


def test_same_generator_same_forgery(face: np.ndarray) -> None:
    first, again, other = (self_blend(face, LANDMARKS, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_forgery_is_subtle(face: np.ndarray) -> None:
    distance = [
        np.abs(self_blend(face, LANDMARKS, np.random.default_rng(seed)).astype(int) - face).mean()
        for seed in range(40)
    ]
    assert 0.05 < np.median(distance) < 20


def test_statistics_change_without_moving_the_image(face: np.ndarray) -> None:
    for seed in range(10):
        shifted = shift_statistics(face, np.random.default_rng(seed))
        a, b = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).ravel() for x in (face, shifted))
        assert np.corrcoef(a, b)[0, 1] > 0.9


def test_cross_blend_aligns_the_donor_and_matches_its_colours(face: np.ndarray) -> None:
    turn = cv2.getRotationMatrix2D((128, 128), 20, 0.8)
    donor = np.clip(cv2.warpAffine(face, turn, (256, 256)) * 0.5, 0, 255).astype(np.uint8)
    donor_landmarks = (LANDMARKS @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
    fake = cross_blend(face, LANDMARKS, donor, donor_landmarks, np.random.default_rng(0))
    assert fake.shape == face.shape
    assert (fake != face).any()
    # It is the same face, turned and darkened: aligned and colour-matched, little of it remains.
    assert np.abs(fake.astype(int) - face).mean() < 5


def test_the_mask_that_is_returned_is_the_one_that_was_used(face: np.ndarray) -> None:
    strengths = set()
    for seed in range(60):
        fake, mask = self_blend_with_mask(face, LANDMARKS, np.random.default_rng(seed))
        assert np.array_equal(fake, self_blend(face, LANDMARKS, np.random.default_rng(seed)))
        assert mask.shape == (256, 256) and mask.dtype == np.float32
        strengths.add(round(float(mask.max()) * 4) / 4)
    assert strengths == set(BLEND_RATIOS)


def test_the_source_is_scaled_and_shifted_within_the_limits_of_the_paper() -> None:
    dot = np.zeros((200, 200), np.float32)
    dot[50:150, 50:150] = 1
    centres, sides = [], []
    for seed in range(200):
        image, mask = move_slightly(
            np.repeat((255 * dot).astype(np.uint8)[..., None], 3, 2), dot, np.random.default_rng(seed)
        )
        assert np.abs(image[..., 0] / 255 - mask).max() < 0.01  # both move alike
        y, x = np.nonzero(mask > 0.5)
        centres.append((x.mean() - 99.5, y.mean() - 99.5))
        sides.append((np.ptp(x) + 1, np.ptp(y) + 1))
    assert 5 <= np.abs(centres).max() <= 6.5  # 3 % of 200
    assert 94 <= np.min(sides) <= 97 and 103 <= np.max(sides) <= 106
