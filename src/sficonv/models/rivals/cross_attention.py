"""Two streams of features that attend to each other, for F3-Net and the two-stream detector of Luo et al."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """One affinity between the positions of two maps, read in both directions.

    With query q of `a`, key k of `b` and A = q^T k / sqrt(channels of q), each map gets the other's values,
    weighted by the softmax of A over the other's positions, normalised and scaled by a factor that starts at
    0: at first nothing is mixed.

    Args:
        channels: Channels of both maps.
        key_channels: Channels of query and key.

    Example:
        >>> a, b = CrossAttention(8, 2)(torch.rand(1, 8, 4, 4), torch.rand(1, 8, 5, 5))
        >>> a.shape, b.shape
        (torch.Size([1, 8, 4, 4]), torch.Size([1, 8, 5, 5]))
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, key_channels, 1)
        self.key = nn.Conv2d(channels, key_channels, 1)
        self.value_a = nn.Conv2d(channels, channels, 1, bias=False)
        self.value_b = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm_a = nn.BatchNorm2d(channels)
        self.norm_b = nn.BatchNorm2d(channels)
        self.gamma_a = nn.Parameter(torch.zeros(1))
        self.gamma_b = nn.Parameter(torch.zeros(1))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """`a (B, C, H, W)` and `b (B, C, H', W')` to the same shapes."""
        query, key = self.query(a).flatten(2), self.key(b).flatten(2)
        affinity = query.transpose(1, 2) @ key / query.shape[1] ** 0.5  # (B, H W, H' W')
        from_b = self.value_b(b).flatten(2) @ affinity.softmax(2).transpose(1, 2)
        from_a = self.value_a(a).flatten(2) @ affinity.softmax(1)
        return (
            a + self.gamma_a * self.norm_a(from_b.view_as(a)),
            b + self.gamma_b * self.norm_b(from_a.view_as(b)),
        )
