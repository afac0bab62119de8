"""Regions of a face and their soft masks."""

import cv2
import numpy as np
import pytest
import torch

from sficonv.faces.alignment import TEMPLATE
from sficonv.faces.outlines import CORNERS, random_regions
from sficonv.faces.regions import fill, soft_mask
from sficonv.media.batches import Draw


def ring(count: int = 68) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([128 + 70 * np.cos(angle), 128 + 90 * np.sin(angle)], 1).astype(np.float32)


@pytest.mark.parametrize("points", [TEMPLATE * 256, ring()], ids=["five", "68"])
def test_a_filled_region_is_opencvs_polygon(points: np.ndarray) -> None:
    outlines = random_regions(points, 256, 12, np.random.default_rng(0))
    assert outlines.shape == (12, CORNERS, 2)
    for mask, outline in zip(fill(torch.from_numpy(outlines), 256)[:, 0].numpy(), outlines, strict=True):
        expected = np.zeros((256, 256), np.uint8)
        cv2.fillPoly(expected, [np.round(outline * 256).astype(np.int32)], 1)
        both = np.logical_and(mask, expected).sum() / np.logical_or(mask, expected).sum()
        assert both > 0.93 and mask.sum() > 300


def test_unknown_landmarks_take_the_usual_place_of_a_face() -> None:
    unknown = random_regions(np.full((5, 2), np.nan), 64, 2, np.random.default_rng(1))
    usual = random_regions(TEMPLATE * 64, 64, 2, np.random.default_rng(1))
    np.testing.assert_array_equal(unknown, usual)


def test_soft_masks_lie_on_the_face_and_fade() -> None:
    outlines = torch.from_numpy(random_regions(ring(), 256, 8, np.random.default_rng(2)))
    masks = soft_mask(outlines, 256, Draw(3, "cpu"))
    assert masks.shape == (8, 1, 256, 256)
    assert float(masks.min()) >= 0 and float(masks.max()) <= 1
    assert (masks.amax((1, 2, 3)) > 0.5).all()  # none is empty
    assert float(masks[..., :8, :8].max()) < 0.05  # nothing in the corner
    assert ((masks > 0.05) & (masks < 0.95)).any()


def test_masks_repeat_with_the_seed() -> None:
    outlines = torch.from_numpy(random_regions(ring(), 256, 2, np.random.default_rng(2)))
    assert torch.equal(soft_mask(outlines, 64, Draw(1, "cpu")), soft_mask(outlines, 64, Draw(1, "cpu")))
