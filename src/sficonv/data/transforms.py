"""Augmentations on uint8 tensors, drawn from torch's generator.

Given a pair stacked as `(2, 3, H, W)`, every transform uses the same parameters for both images: a
real face and its forgery then differ in nothing but the forgery. Normalisation is not done here;
the batch goes through `sficonv.models.to_input`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2


def paper_train(size: int = 256) -> v2.Compose:
    """The paper's augmentation: square size, horizontal flip, rotation by up to 10 degrees."""
    return v2.Compose([evaluation(size), v2.RandomHorizontalFlip(), v2.RandomRotation(10)])


def finetune_train(size: int = 256) -> v2.Compose:
    """Augmentation for detectors that must survive other cameras, codecs and sizes.

    Flip, slight affine motion, colour, lower resolution, blur, noise, and JPEG, now and then as hard as a
    video codec. Most images keep the traces of a blend: with every image degraded, a short training
    learns little from forgeries made on the fly.
    """
    bilinear = InterpolationMode.BILINEAR
    return v2.Compose(
        [
            evaluation(size),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.RandomAffine(5, (0.03, 0.03), (0.95, 1.05), interpolation=bilinear)], 0.3),
            v2.RandomApply([v2.ColorJitter(0.2, 0.2, 0.2, 0.02)], 0.3),
            v2.RandomApply([DownUp(0.5, 0.9)], 0.15),
            v2.RandomApply([v2.GaussianBlur(5, (0.3, 1.2))], 0.05),
            v2.RandomApply([UniformNoise(6)], 0.05),
            v2.RandomApply([v2.JPEG((15, 40))], 0.1),
            v2.RandomApply([v2.JPEG((40, 100))], 0.5),
        ]
    )


def evaluation(size: int = 256) -> v2.Transform:
    """No augmentation: only the size, and not even that where it fits already."""
    return v2.Resize((size, size), antialias=True)


class DownUp(nn.Module):
    """Shrink by a random factor and enlarge again, as small faces in a frame look once cropped.

    Args:
        smallest, largest: range of the factor, each in (0, 1].

    `(..., 3, H, W)` uint8 to the same shape.
    """

    def __init__(self, smallest: float, largest: float) -> None:
        super().__init__()
        self.smallest, self.largest = smallest, largest

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        factor = self.smallest + (self.largest - self.smallest) * torch.rand(()).item()
        # Antialiasing off now and then: real pipelines contain both kinds of scaler.
        antialias = bool(torch.rand(()) < 0.8)
        small = v2.functional.resize(
            images, [max(1, int(height * factor)), max(1, int(width * factor))], antialias=antialias
        )
        return v2.functional.resize(small, [height, width], antialias=antialias)


class UniformNoise(nn.Module):
    """Add noise of a random strength up to `strength` grey levels to uint8 images `(..., 3, H, W)`.

    The noise itself differs between the images of a pair, as sensor noise would; its strength does not.
    """

    def __init__(self, strength: int) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, images: Tensor) -> Tensor:
        reach = int(torch.randint(1, self.strength + 1, ()))
        noise = torch.randint(-reach, reach + 1, images.shape, dtype=torch.int16)
        return (images.to(torch.int16) + noise).clamp_(0, 255).to(torch.uint8)
