"""Masks in the shape of a face, from five and from 68 points."""

import numpy as np
import pytest

from sficonv.faces.face_masks import HULLS, REGIONS, blend_mask, face_outline, fill, hull_outline

# The face in scikit-image's photograph of Eileen Collins, in a crop of 160 px at (144, 30), enlarged to 256.
LANDMARKS = np.float32([[96, 114], [159, 120], [120, 154], [91, 178], [150, 182]])
UNKNOWN = np.full((5, 2), np.nan, np.float32)


def points_68() -> np.ndarray:
    """A round jaw, level brows, a straight nose, eyes and mouth, in the order of iBUG 300-W."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([128 + 70 * np.cos(angle), 110 + 100 * np.sin(angle)], axis=1)
    brows = np.stack([np.linspace(75, 181, 10), np.full(10, 95)], axis=1)
    nose = np.concatenate(
        [
            np.stack([np.full(4, 128), np.linspace(112, 145, 4)], axis=1),
            np.stack([np.linspace(115, 141, 5), np.full(5, 152)], axis=1),
        ]
    )
    eyes = np.concatenate(
        [np.tile([[x, 112]], (6, 1)) + np.linspace(-9, 9, 6)[:, None] * [1, 0] for x in (98, 158)]
    )
    mouth = np.stack(
        [128 + 25 * np.cos(np.linspace(0, 6, 20)), 178 + 8 * np.sin(np.linspace(0, 6, 20))], axis=1
    )
    return np.concatenate([jaw, brows, nose, eyes, mouth]).astype(np.float32)


@pytest.mark.parametrize("region", REGIONS)
def test_outline_lies_around_its_part_of_the_face(region: str) -> None:
    outlines = [face_outline(LANDMARKS, region, np.random.default_rng(seed)) for seed in range(20)]
    masks = np.mean([fill(outline, (256, 256)) > 0 for outline in outlines], axis=0)
    eyes, mouth = LANDMARKS[:2].mean(axis=0).astype(int), LANDMARKS[3:].mean(axis=0).astype(int)
    at_eyes, at_mouth = masks[eyes[1], eyes[0]], masks[mouth[1], mouth[0]]
    assert (at_eyes > 0.9) == (region in ("face", "inner", "eyes"))
    assert (at_mouth > 0.9) == (region in ("face", "inner", "lower", "mouth"))
    assert masks[5].max() < 0.5  # the upper border of the crop is hair or background


def test_turned_head_moves_the_outline_away_from_the_nose() -> None:
    def middle(landmarks: np.ndarray) -> float:
        return face_outline(landmarks, "face", np.random.default_rng(1))[:, 0].mean()

    right = LANDMARKS.copy()
    right[2, 0] += 15
    assert middle(right) < middle(LANDMARKS)


@pytest.mark.parametrize("landmarks", [LANDMARKS, UNKNOWN, LANDMARKS + 2000, np.zeros((5, 2), np.float32)])
def test_mask_is_soft_inside_the_range_and_never_empty(landmarks: np.ndarray) -> None:
    for seed in range(20):
        mask = blend_mask(landmarks, (256, 256), np.random.default_rng(seed))
        assert mask.shape == (256, 256)
        assert mask.dtype == np.float32
        assert 0.5 < mask.max() <= 1
        assert mask.min() == 0
        assert ((mask > 0) & (mask < 1)).any()


@pytest.mark.parametrize("region", HULLS)
def test_hull_covers_its_part_of_the_face(region: str) -> None:
    points = points_68()
    assert points.shape == (68, 2)
    outlines = [hull_outline(points, region, np.random.default_rng(seed)) for seed in range(20)]
    masks = np.mean([fill(outline, (256, 256)) > 0 for outline in outlines], axis=0)
    eyes, mouth, chin, forehead = masks[112, 128], masks[178, 128], masks[203, 128], masks[80, 128]
    assert mouth > 0.7
    assert (eyes > 0.7) == (region != "lower")
    assert (chin > 0.7) == (region != "inner")
    assert (forehead > 0.7) == (region == "forehead")


def test_hull_is_deformed_and_moves_with_the_points() -> None:
    first, again, other = (hull_outline(points_68(), "face", np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    moved = hull_outline(points_68() + 7, "face", np.random.default_rng(1))
    assert np.abs(moved - first - 7).max() < 1e-3


def test_blend_mask_takes_68_points() -> None:
    for seed in range(20):
        mask = blend_mask(points_68(), (256, 256), np.random.default_rng(seed))
        assert mask[165, 128] > 0.4 and mask[5].max() == 0 and ((mask > 0) & (mask < 1)).any()
