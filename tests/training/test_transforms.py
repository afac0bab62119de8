import numpy as np
import pytest
import torch
from skimage.data import astronaut
from torchvision.transforms import v2

from sficonv.training.transforms import DownUp, UniformNoise, evaluation, finetune_train, paper_train


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(astronaut()[:256, 96:352].transpose(2, 0, 1)))


@pytest.mark.parametrize("make", [paper_train, finetune_train, evaluation])
@pytest.mark.parametrize("side", [256, 200])
def test_any_size_becomes_uint8_of_the_wanted_size(make, side: int, face: torch.Tensor) -> None:
    image = make(256)(face[:, :side, :180])
    assert image.shape == (3, 256, 256)
    assert image.dtype == torch.uint8


def test_evaluation_leaves_an_image_of_the_right_size_as_it_is(face: torch.Tensor) -> None:
    assert torch.equal(evaluation(256)(face), face)


def test_paper_is_flip_and_rotation_by_ten_degrees() -> None:
    kinds = [type(step) for step in paper_train().transforms]
    assert kinds == [v2.Resize, v2.RandomHorizontalFlip, v2.RandomRotation]
    assert paper_train().transforms[1].p == 0.5
    assert paper_train().transforms[2].degrees == [-10, 10]


def test_both_images_of_a_pair_get_the_same_parameters(face: torch.Tensor) -> None:
    steps = [
        step.transforms[0] if isinstance(step, v2.RandomApply) else step
        for step in finetune_train().transforms
    ]
    for step in steps:
        for seed in range(8):
            torch.manual_seed(seed)
            first, second = step(torch.stack([face, face]))
            # Noise differs from image to image, only its strength does not.
            assert isinstance(step, UniformNoise) or torch.equal(first, second), step


def test_every_finetune_step_changes_something(face: torch.Tensor) -> None:
    torch.manual_seed(0)
    for transform in finetune_train().transforms[1:]:
        assert any(not torch.equal(transform(face), face) for _ in range(300)), transform


def test_noise_has_one_strength_for_both_images() -> None:
    grey = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    noisy = UniformNoise(8)(grey).to(torch.int16) - 128
    assert noisy[0].abs().max() == noisy[1].abs().max()
    assert not torch.equal(noisy[0], noisy[1])


def test_down_up_removes_detail_and_keeps_the_size(face: torch.Tensor) -> None:
    def detail(image: torch.Tensor) -> float:
        return image.float().diff(dim=-1).abs().mean().item()

    torch.manual_seed(0)
    soft = DownUp(0.3, 0.4)(face)
    assert soft.shape == face.shape
    assert detail(soft) < 0.8 * detail(face)
