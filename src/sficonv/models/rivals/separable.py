"""Depthwise separable convolutions, for the parts of detectors that are to be light."""

from __future__ import annotations

from torch import nn


def separable(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """A depthwise 3x3 and a pointwise convolution, each with normalisation and activation.

    Args:
        in_channels, out_channels: Channels before and behind.
        stride: Of the first one.

    Example:
        >>> import torch
        >>> separable(4, 8, 2)(torch.rand(2, 4, 16, 16)).shape
        torch.Size([2, 8, 8, 8])
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
