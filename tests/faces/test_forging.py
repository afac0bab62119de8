"""Forging in batches: what a forgery may change, and what it must not."""

import numpy as np
import pytest
import torch

from sficonv.faces.alignment import TEMPLATE
from sficonv.faces.forging import paste, self_blend, shift_statistics
from sficonv.faces.outlines import random_regions
from sficonv.media.batches import Draw


@pytest.fixture(scope="module")
def faces(astronaut: np.ndarray) -> torch.Tensor:
    crops = [astronaut[y : y + 128, x : x + 128] for y, x in ((40, 170), (60, 160), (50, 180), (45, 165))]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def outlines() -> torch.Tensor:
    return torch.from_numpy(random_regions(TEMPLATE * 128, 128, 4, np.random.default_rng(0)))


def test_a_self_blend_differs_only_inside_its_mask(faces: torch.Tensor, outlines: torch.Tensor) -> None:
    real, fake, mask = self_blend(faces, outlines, Draw(1, "cpu"))
    outside = (mask == 0).expand_as(real)
    assert torch.equal(real[outside], fake[outside])
    assert ((real - fake).abs().amax((1, 2, 3)) > 1).all()


def test_a_pasted_face_differs_only_inside_its_mask(faces: torch.Tensor, outlines: torch.Tensor) -> None:
    points = torch.from_numpy(TEMPLATE).expand(4, -1, -1)
    real, fake, mask = paste(faces, outlines, points, faces.flip(0), points, Draw(1, "cpu"))
    assert torch.equal(real, faces)
    outside = (mask == 0).expand_as(real)
    assert torch.equal(real[outside], fake[outside])


def test_the_donors_landmarks_come_to_lie_on_the_faces() -> None:
    """A bright spot at a landmark of the donor appears at that landmark of the covered face."""
    points = torch.from_numpy(TEMPLATE).expand(1, -1, -1)
    turn = torch.tensor([[0.8, -0.2], [0.2, 0.8]])
    donor_points = (points - 0.5) @ turn.T + 0.5 + torch.tensor([0.05, -0.03])
    donor = torch.zeros(1, 3, 256, 256)
    for x, y in (donor_points[0] * 256).long().tolist():
        donor[..., y - 2 : y + 3, x - 2 : x + 3] = 255
    whole = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    grey = torch.full((1, 3, 256, 256), 128.0)
    _, fake, _ = paste(grey, whole, points, donor, donor_points, Draw(2, "cpu"))
    spots = fake[0].mean(0) > float(fake[0].mean(0).median()) + 0.2
    for x, y in (points[0] * 256).long().tolist():
        assert spots[y - 4 : y + 5, x - 4 : x + 5].any()


def test_forgeries_repeat_with_the_seed(faces: torch.Tensor, outlines: torch.Tensor) -> None:
    first, again, other = (self_blend(faces, outlines, Draw(seed, "cpu")).fake for seed in (4, 4, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_statistics_of_any_number_of_images(faces: torch.Tensor, count: int) -> None:
    images = faces[:1].expand(count, -1, -1, -1)
    changed = shift_statistics(images, Draw(1, "cpu"))
    assert changed.shape == images.shape and bool(changed.isfinite().all())
    assert float(changed.min()) >= 0 and float(changed.max()) <= 255
