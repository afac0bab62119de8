"""What both images of a pair go through alike."""

import numpy as np
import pytest
import torch

from sficonv.media.batches import Draw
from sficonv.training.augmentation import PairAugmentation

STILL = PairAugmentation(
    full=1, rotation=0, stretch=0, reduced=0, colour=0, blur=0, noise=0, sharpen=0, codec=0, twice=0
)


@pytest.fixture(scope="module")
def faces(astronaut: np.ndarray) -> torch.Tensor:
    crops = [astronaut[y : y + 128, x : x + 128] for y, x in ((40, 170), (0, 0), (200, 180), (300, 165))] * 3
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("seed", range(3))
def test_two_equal_images_stay_equal(faces: torch.Tensor, seed: int) -> None:
    """All parameters are shared; of the noise only the strength is, so it is left out here."""
    mask = torch.zeros(len(faces), 1, 128, 128)
    real, fake, _ = PairAugmentation(noise=0)(faces, faces, mask, Draw(seed, "cpu"))
    assert torch.equal(real, fake)
    assert not torch.equal(real, faces)


def test_a_mark_and_its_mask_move_alike(faces: torch.Tensor) -> None:
    only_geometry = PairAugmentation(reduced=0, colour=0, blur=0, noise=0, sharpen=0, codec=0, twice=0)
    mask = torch.zeros(len(faces), 1, 128, 128)
    mask[..., 50:80, 40:70] = 1
    real, fake, moved = only_geometry(faces * 0, faces * 0 + 200 * mask, mask, Draw(1, "cpu"))
    assert float(((fake - real)[:, :1] / 200 - moved).abs().mean()) < 0.01


def test_only_mirrored_and_moved_a_little_where_nothing_is_asked_for(faces: torch.Tensor) -> None:
    real, _, _ = STILL(faces, faces, faces[:, :1] * 0, Draw(1, "cpu"))
    mirrored = (real - faces.flip(-1)).abs().mean((1, 2, 3)) < 14
    same = (real - faces).abs().mean((1, 2, 3)) < 14
    assert bool((mirrored | same).all()) and bool(mirrored.any()) and bool(same.any())


def test_pixels_are_whole_numbers_in_range(faces: torch.Tensor) -> None:
    for x in PairAugmentation()(faces, faces.flip(0), faces[:, :1] * 0, Draw(2, "cpu"))[:2]:
        assert torch.equal(x, x.round()) and float(x.min()) >= 0 and float(x.max()) <= 255


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_pairs(faces: torch.Tensor, count: int) -> None:
    real, fake, mask = PairAugmentation()(faces[:count], faces[:count], faces[:count, :1] * 0, Draw(1, "cpu"))
    assert real.shape == fake.shape == (count, 3, 128, 128) and mask.shape == (count, 1, 128, 128)
