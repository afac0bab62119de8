"""What a detector expects of its input, carried by every model as `model.config`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MIN_SIZE = 32
"""Smallest side in pixels: every trunk here halves its input five times."""


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
        fixed_size: The weights fit `image_size` only; other models take any size of at least `MIN_SIZE`.
            The registry fills it in.
        frames: Frames of a face that are judged together, see `sficonv.models.clips`; 1 for single images.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 2
    image_size: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    fixed_size: bool = False
    frames: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The values that a model card holds, as plain JSON types."""
        options = {k: str(v) if isinstance(v, Fraction) else v for k, v in self.options.items()}
        values = {**asdict(self), "options": options, "mean": list(self.mean), "std": list(self.std)}
        del values["fixed_size"], values["frames"]  # follow from the name and the options
        return values

    def with_image_size(self, image_size: int | None) -> ModelConfig:
        """The same config for inputs of another size; `None` keeps it.

        Raises:
            ValueError: If the model's weights do not fit that size.
        """
        if image_size is None or image_size == self.image_size:
            return self
        if self.fixed_size:
            raise ValueError(
                f"{self.name} was built for {self.image_size} px and cannot take {image_size} px: build "
                f"another one with create_model({self.name!r}, image_size={image_size})"
            )
        if image_size < MIN_SIZE:
            raise ValueError(f"{self.name}: image_size must be at least {MIN_SIZE} px, got {image_size}")
        return replace(self, image_size=image_size)


def check_input(model: nn.Module, args: tuple[Any, ...]) -> None:
    """Refuse a batch that the model cannot read; `create_model` makes every model do so before it runs.

    Args:
        model: A model with a `config`.
        args: What it is called with; `(B, 3, H, W)` is expected first, or `(B, T, 3, H, W)` of a model of
            clips.

    Raises:
        ValueError: Naming the model, the size that it takes and the shape that it was given.
    """
    config: Any = model.config
    shape = tuple(args[0].shape) if args else ()
    right = len(shape) in ((4, 5) if config.frames > 1 else (4,)) and shape[-3] == 3
    sides = f"{config.image_size}, {config.image_size}" if config.fixed_size else "H, W"
    wanted = f"images (B, 3, {sides})" + (f" or clips (B, T, 3, {sides})" if config.frames > 1 else "")
    if config.fixed_size:
        if not right or shape[-2:] != (config.image_size, config.image_size):
            raise ValueError(f"{config.name} takes {wanted}, got {shape}")
    elif not right or min(shape[-2:]) < MIN_SIZE:
        raise ValueError(f"{config.name} takes {wanted} of at least {MIN_SIZE} px a side, got {shape}")


def to_input(images: Tensor, config: ModelConfig) -> Tensor:
    """Turn 8-bit face crops into what the model of `config` reads.

    The one place where pixels become numbers: training, evaluation, scanning and export all call it,
    so a score cannot differ because somebody resized or normalised differently.

    Args:
        images: RGB crops, `uint8`, `(B, 3, H, W)`, or clips of them, `(B, T, 3, H, W)`; any H and W.
        config: The model's `config`.

    Returns:
        `float32`, `(B, 3, image_size, image_size)`, resized with anti-aliasing where the size differs; clips
        stay clips.

    Raises:
        ValueError: If `images` is not `uint8`, or of another shape.

    Example:
        >>> x = to_input(torch.zeros(2, 3, 128, 128, dtype=torch.uint8), ModelConfig("resnet26"))
        >>> x.shape
        torch.Size([2, 3, 256, 256])
    """
    if images.ndim == 5:
        return to_input(images.flatten(0, 1), config).unflatten(0, images.shape[:2])
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
    x = images.float().div_(255)
    size = (config.image_size, config.image_size)
    if x.shape[-2:] != size:
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False).clamp_(0, 1)
    mean = torch.tensor(config.mean, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=x.device).view(1, 3, 1, 1)
    return x.sub_(mean).div_(std)


def to_inputs(images: Sequence[Tensor], config: ModelConfig) -> Tensor:
    """`to_input` of crops `(3, H, W)`, each of any size."""
    if len({image.shape for image in images}) == 1:
        return to_input(torch.stack(list(images)), config)
    return torch.cat([to_input(image[None], config) for image in images])
