"""Augmentations on uint8 tensors, drawn from torch's generator.

Given a pair stacked as `(2, 3, H, W)`, every transform uses the same parameters for both images: a
real face and its forgery then differ in nothing but the forgery. Given `(images, Mask)` with torchvision's
`tv_tensors.Mask`, the mask moves with the images and keeps its values. Normalisation is not done here;
the batch goes through `sficonv.models.to_input`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.tv_tensors import Mask


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


class DownUp(v2.Transform):
    """Shrink by a random factor and enlarge again, as small faces in a frame look once cropped.

    Args:
        smallest, largest: range of the factor, each in (0, 1].

    `(..., 3, H, W)` uint8 to the same shape; a mask stays as it is.
    """

    def __init__(self, smallest: float, largest: float) -> None:
        super().__init__()
        self.smallest, self.largest = smallest, largest

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        factor = self.smallest + (self.largest - self.smallest) * torch.rand(()).item()
        # Antialiasing off now and then: real pipelines contain both kinds of scaler.
        return {"factor": factor, "antialias": bool(torch.rand(()) < 0.8)}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        if isinstance(inpt, Mask):
            return inpt
        height, width = inpt.shape[-2:]
        size = [max(1, int(side * params["factor"])) for side in (height, width)]
        small = v2.functional.resize(inpt, size, antialias=params["antialias"])
        return v2.functional.resize(small, [height, width], antialias=params["antialias"])


class UniformNoise(v2.Transform):
    """Add noise of a random strength up to `strength` grey levels to uint8 images `(..., 3, H, W)`.

    The noise itself differs between the images of a pair, as sensor noise would; its strength does not. A
    mask stays as it is.
    """

    def __init__(self, strength: int) -> None:
        super().__init__()
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"reach": int(torch.randint(1, self.strength + 1, ()))}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        if isinstance(inpt, Mask):
            return inpt
        reach = params["reach"]
        noise = torch.randint(-reach, reach + 1, inpt.shape, dtype=torch.int16)
        return (inpt.to(torch.int16) + noise).clamp_(0, 255).to(torch.uint8)
