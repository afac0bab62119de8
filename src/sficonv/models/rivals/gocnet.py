"""GocNet (Guo et al., "Rethinking gradient operator for exposing AI-enabled face forgeries", Expert Systems
with Applications 2023).

Two ResNets: one reads the image through a gradient operator ("tensor pre-processing"), the other the image
itself, with an attention in every block that follows the gradient of the block's maps ("manipulation trace
attention").
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model

KERNEL = ((0.0, 1.0, 1.0), (-1.0, 0.0, 1.0), (-1.0, -1.0, 0.0))
"""The gradient operator: it looks along the diagonal and sums to 0."""
POOL = 7
"""Side, in positions, of the windows in which the streams' last maps are averaged."""


class GradientOperator(nn.Module):
    """The fixed kernel over each channel by itself. Borders are repeated: a flat area gives 0 there too.

    Args:
        channels: Channels of the map.

    Example:
        >>> GradientOperator(3)(torch.ones(1, 3, 8, 8)).abs().max()
        tensor(0.)
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = torch.tensor(KERNEL).repeat(channels, 1, 1, 1)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, self.kernel, groups=self.kernel.shape[0])


class ManipulationTraceAttention(nn.Module):
    """Weigh the channels by what they hold on average and at most, and the positions by the gradient.

    The strength of the gradient starts at 0, where all positions weigh alike.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, channels // 16, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // 16, channels, 1, bias=False),
        )
        self.gradient = GradientOperator(1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        average, most = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        traces = self.gradient(x.mean(1, keepdim=True))
        return x * ((self.weigh(average) + self.weigh(most)).sigmoid() + (self.gamma * traces).sigmoid())


class GocNet(nn.Module):
    """The two streams; their last maps are added and averaged in windows, which a linear layer reads.

    Args:
        image_size: Side of the input in pixels.
        pretrained: Start both streams from ImageNet weights.

    Example:
        >>> GocNet(64).eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    def __init__(self, image_size: int = 299, pretrained: bool = False) -> None:
        super().__init__()
        trunk: dict[str, Any] = {"num_classes": 0, "global_pool": "", "pretrained": pretrained}
        self.front = GradientOperator(3)
        self.gradient_stream = timm.create_model("resnet18", **trunk)
        attention: dict[str, Any] = {"attn_layer": lambda channels, **_: ManipulationTraceAttention(channels)}
        self.image_stream = timm.create_model("resnet18", block_args=attention, **trunk)
        side = -(-image_size // 32)
        window = min(POOL, side)
        self.pool = nn.AvgPool2d(window, 1)
        self.classify = nn.Linear(512 * (side - window + 1) ** 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, image_size, image_size)` to logits `(B, 2)`."""
        maps = self.gradient_stream(self.front(x)) + self.image_stream(x)
        return self.classify(self.pool(maps).flatten(1))


@register_model
def gocnet(*, image_size: int = 299, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
    """GocNet, from its abstract and what its authors' code (Apache-2.0) does.

    Stated there: the kernel, both modules and where they stand, the sum of the streams, and a linear layer on
    8,192 features, which with windows of 7 positions only inputs of 289 to 320 px give. Chosen here: 299 of
    these; smaller inputs are averaged as a whole; the gradient is taken of the channels' mean, not of
    their sum, because the sum of 512 channels drives the sigmoid into its ends as soon as `gamma` is not 0;
    borders are repeated, because zeros would be edges; attention weighs the map (the code hands on the
    attention in the map's place, and its blocks hold a convolution that nothing reads); ImageNet's
    normalisation, because both streams can start from ImageNet weights.
    """
    if image_size < 32:
        raise ValueError(f"gocnet: image_size must be at least 32 px, got {image_size}")
    return GocNet(image_size, pretrained), ModelConfig("gocnet", image_size=image_size)
