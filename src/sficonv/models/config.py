"""What a detector expects of its input, carried by every model as `model.config`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build the same model again and to feed it.

    Args:
        name: Registered name, as in `create_model(name)`.
        options: All options of the model (for example `alpha`, `beta`), also those left at their defaults.
        num_classes: Number of logits. The detectors of this library have 2: 0 = real, 1 = fake.
        image_size: Side of the square input, in pixels.
        mean: Per-channel mean subtracted from RGB in [0, 1].
        std: Per-channel standard deviation RGB in [0, 1] is divided by.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 2
    image_size: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def to_dict(self) -> dict[str, Any]:
        """The same values as plain JSON types."""
        options = {k: str(v) if isinstance(v, Fraction) else v for k, v in self.options.items()}
        return {**asdict(self), "options": options, "mean": list(self.mean), "std": list(self.std)}


def to_input(images: Tensor, config: ModelConfig) -> Tensor:
    """Turn 8-bit face crops into what the model of `config` reads.

    The one place where pixels become numbers: training, evaluation, scanning and export all call it,
    so a score cannot differ because somebody resized or normalised differently.

    Args:
        images: RGB crops, `uint8`, `(B, 3, H, W)`; any H and W.
        config: The model's `config`.

    Returns:
        `float32`, `(B, 3, image_size, image_size)`, resized with anti-aliasing where the size differs.

    Raises:
        ValueError: If `images` is not `uint8` `(B, 3, H, W)`.

    Example:
        >>> x = to_input(torch.zeros(2, 3, 128, 128, dtype=torch.uint8), ModelConfig("resnet26"))
        >>> x.shape
        torch.Size([2, 3, 256, 256])
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    x = images.float().div_(255)
    size = (config.image_size, config.image_size)
    if x.shape[-2:] != size:
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False).clamp_(0, 1)
    mean = torch.tensor(config.mean, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=x.device).view(1, 3, 1, 1)
    return x.sub_(mean).div_(std)
