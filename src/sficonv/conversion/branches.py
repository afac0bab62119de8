"""What the converted graph does with a pair of branches between two SFIConv layers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from sficonv.nn.sampling import resize
from sficonv.nn.sficonv import Ratio, SpaceFreq, frequency_size

GraphRatio = float | tuple[int, int]
"""Beta as an argument in a graph: a float, or `(numerator, denominator)` of a fraction."""


def for_graph(beta: Ratio) -> GraphRatio:
    """Beta as it is written in a graph.

    Example:
        >>> for_graph(0.5), for_graph(Fraction(7, 10))
        (0.5, (7, 10))
    """
    return (beta.numerator, beta.denominator) if isinstance(beta, Fraction) else float(beta)


def match_frequency(fre: Tensor, spa: Tensor, beta: GraphRatio) -> Tensor:
    """Bring `fre` to the size that belongs to `spa` where pooling of odd sides gave another one."""
    ratio = Fraction(*beta) if isinstance(beta, tuple) else beta
    if fre.ndim == 3:  # a constant (C, H, W) that broadcasts over the batch
        return match_frequency(fre[None], spa, beta)[0]
    return resize(fre, (frequency_size(spa.shape[-2], ratio), frequency_size(spa.shape[-1], ratio)))


def fuse(spa: Tensor, fre: Tensor) -> Tensor:
    """Join two branches to one tensor `[spa | fre]` at the spatial branch's resolution."""
    return torch.cat((spa, resize(fre, (spa.shape[-2], spa.shape[-1]))), 1)


def join(spa: Tensor, fre: Tensor) -> Tensor:
    """Join the branches of a pooled value."""
    return torch.cat((spa, fre), 1)


def split_plain(x: Tensor, fre_channels: int, beta: GraphRatio) -> SpaceFreq:
    """Split a tensor `[spa | fre]` by channels and bring the high-frequency part to its resolution.

    `x` is a map `(B, C, H, W)`, or what broadcasts to one: a gate `(B, C, 1, 1)`, a weight `(C, 1, 1)`.
    """
    border = x.shape[-3] - fre_channels
    return SpaceFreq(x[..., :border, :, :], match_frequency(x[..., border:, :, :], x, beta))


def spread(x: Tensor, beta: GraphRatio) -> SpaceFreq:
    """Give both branches a map of one channel that is spread over all of them."""
    return SpaceFreq(x, match_frequency(x, x, beta))


def pair_shape(spa: Tensor, fre: Tensor) -> tuple[int, ...]:
    """Shape of the tensor that `fuse` would make."""
    return (spa.shape[0], spa.shape[1] + fre.shape[1], *spa.shape[2:])


def at_least(x: Tensor, height: int, width: int) -> Tensor:
    """Enlarge a map that is smaller than a window, so that it gives one value (of pooling: its own)."""
    return resize(x, (max(x.shape[-2], height), max(x.shape[-1], width)))


def one_channel(x: Tensor) -> Tensor:
    """A stand-in for a branch without channels, where only its size matters (pooling refuses 0 channels)."""
    return x.new_zeros(x.shape[0], 1, *x.shape[-2:])


def no_channels(x: Tensor) -> Tensor:
    """The branch without channels again."""
    return x[:, :0]


class Reorder(nn.Module):
    """Put the channels of a map `(..., C, H, W)`, or of a pooled value `(B, C)`, into another order."""

    index: Tensor

    def __init__(self, index: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(index), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1 if x.ndim == 2 else -3, self.index)


class BranchDrop(nn.Module):
    """Drop-path on two branches: one draw per sample for both of them."""

    def __init__(self, drop: nn.Module) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: SpaceFreq) -> SpaceFreq:
        if not self.training:
            return x
        scale = self.drop(x.spa.new_ones(x.spa.shape[0], 1, 1, 1))
        return SpaceFreq(x.spa * scale, x.fre * scale)
