"""Correlations between the channels of a map, which describe its texture wherever it lies: Gram matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.rivals.frequency import full_precision


def gram(x: Tensor) -> Tensor:
    """The correlations between all pairs of channels.

    Args:
        x: `(B, C, H, W)`.

    Returns:
        `(B, C (C + 1) / 2)` float32, the mean products over all positions of the pairs on and above the
        diagonal.

    Example:
        >>> gram(torch.ones(1, 2, 4, 4))
        tensor([[1., 1., 1.]])
    """
    with full_precision(x):
        flat = x.float().flatten(2)
        products = flat @ flat.transpose(1, 2) / flat.shape[2]
        first, second = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
        return products[:, first, second]


class Style(nn.Module):
    """A map reduced to a few channels, and a vector of features made of their correlations.

    Args:
        channels: Channels of the map.
        reduced: Channels that are correlated.
        features: Length of the vector.

    Example:
        >>> Style(16, 8, 32)(torch.rand(2, 16, 4, 4)).shape
        torch.Size([2, 32])
    """

    def __init__(self, channels: int, reduced: int, features: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, reduced, 1, bias=False), nn.BatchNorm2d(reduced))
        self.embed = nn.Sequential(
            nn.Linear(reduced * (reduced + 1) // 2, features), nn.LayerNorm(features), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, features)`."""
        return self.embed(F.normalize(gram(self.reduce(x)), dim=1))
