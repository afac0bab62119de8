"""What the converted graph does with a pair of branches between two SFIConv layers."""

from __future__ import annotations

import torch
from torch import Tensor

from sficonv.nn.sampling import resize
from sficonv.nn.sficonv import SpaceFreq, frequency_size


def match_frequency(fre: Tensor, spa: Tensor, beta: float) -> Tensor:
    """Bring `fre` to the size that belongs to `spa` where pooling of odd sides gave another one."""
    return resize(fre, (frequency_size(spa.shape[-2], beta), frequency_size(spa.shape[-1], beta)))


def fuse(spa: Tensor, fre: Tensor) -> Tensor:
    """Join two branches to one tensor `[spa | fre]` at the spatial branch's resolution."""
    return torch.cat((spa, resize(fre, (spa.shape[-2], spa.shape[-1]))), 1)


def split_plain(x: Tensor, fre_channels: int, beta: float) -> SpaceFreq:
    """Split a tensor `[spa | fre]` by channels and bring the high-frequency part to its resolution."""
    spa, fre = x[:, : x.shape[1] - fre_channels], x[:, x.shape[1] - fre_channels :]
    return SpaceFreq(spa, match_frequency(fre, x, beta))


def at_least(x: Tensor, height: int, width: int) -> Tensor:
    """Enlarge a map that is smaller than a pooling window, so that pooling it gives one value, its own."""
    return resize(x, (max(x.shape[-2], height), max(x.shape[-1], width)))


def one_channel(x: Tensor) -> Tensor:
    """A stand-in for a branch without channels, where only its size matters (pooling refuses 0 channels)."""
    return x.new_zeros(x.shape[0], 1, *x.shape[-2:])


def no_channels(x: Tensor) -> Tensor:
    """The branch without channels again."""
    return x[:, :0]
