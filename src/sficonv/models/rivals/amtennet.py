"""AMTENnet (Guo et al., "Fake face detection via adaptive manipulation traces extraction network",
CVIU 2021)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model

Variant = Literal["paper", "original"]
SIZES: dict[Variant, int] = {"paper": 256, "original": 128}


class AMTEN(nn.Module):
    """Adaptive manipulation traces extraction: what a learned convolution predicts wrongly, reused twice.

    There is no activation in it. `(B, 3, H, W)` to `(B, 12, H, W)`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.predict = nn.Conv2d(3, 3, 3, padding=1)
        self.predict.bias = nn.Parameter(torch.zeros(3), requires_grad=False)  # as the original holds it
        self.reuse1 = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1))
        self.reuse2 = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        difference = self.predict(x) - x
        trace = torch.cat((self.reuse1(difference), difference), 1)
        return torch.cat((self.reuse2(trace), trace), 1)


def _stage(c_in: int, c_out: int, kernel: int, padding: int, norm: bool = True) -> nn.Sequential:
    """Convolution, pooling, ReLU, normalisation: in this order. Caffe rounds pooled sizes up."""
    layers = [nn.Conv2d(c_in, c_out, kernel, padding=padding), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.BatchNorm2d(c_out)] if norm else []))


class AMTENnet(nn.Module):
    """AMTEN and four convolutions; nothing stands between the linear layers, as in the original.

    Args:
        image_size: Side of the input in pixels; the first linear layer fits this one size.
        variant: `"paper"`: padded convolutions and one hidden layer of 300, which has the 9.88M parameters
            that the SFIConv paper states at 256 px. `"original"`: conv5 and conv6 without padding and two
            hidden layers, as published for 128 px (2.02M).

    Raises:
        ValueError: For another variant, or an image that the four poolings leave nothing of.

    Example:
        >>> AMTENnet(64)(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    def __init__(self, image_size: int = 256, variant: Variant = "paper") -> None:
        super().__init__()
        if variant not in get_args(Variant):
            raise ValueError(f"amtennet: variant must be one of {get_args(Variant)}, got {variant!r}")
        if image_size < 32:
            raise ValueError(f"amtennet: image_size must be at least 32 px, got {image_size}")
        padding = 1 if variant == "paper" else 0
        self.amten = AMTEN()
        self.conv4 = _stage(12, 24, 3, 1)
        self.conv5 = _stage(24, 48, 3, padding)
        self.conv6 = _stage(48, 64, 3, padding)
        self.conv7 = _stage(64, 128, 1, 0, norm=False)
        side = image_size
        for shrink in (0, 2 - 2 * padding, 2 - 2 * padding, 0):
            side = (side - shrink) // 2
        hidden = [nn.Linear(300, 300)] if variant == "original" else []
        self.fc = nn.Sequential(nn.Linear(128 * side * side, 300), *hidden, nn.Linear(300, 2))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, image_size, image_size)` in [0, 1] to logits `(B, 2)`."""
        x = self.conv7(self.conv6(self.conv5(self.conv4(self.amten(x)))))
        return self.fc(x.flatten(1))


@register_model
def amtennet(*, image_size: int | None = None, variant: Variant = "paper") -> tuple[nn.Module, ModelConfig]:
    """AMTENnet; `image_size` defaults to 256 px for `variant="paper"` and 128 px for `"original"`."""
    size = SIZES.get(variant, 256) if image_size is None else image_size
    model = AMTENnet(size, variant)
    return model, ModelConfig("amtennet", image_size=size, mean=(0, 0, 0), std=(1, 1, 1))
