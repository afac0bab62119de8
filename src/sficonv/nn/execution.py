"""How the terms of eq. (2) to (8) are computed: all that makes SFIConv fast, nothing of what it means.

`sficonv.py` says what a layer computes. Here stand the ways to compute it with fewer operations, products or
passes over memory, each of which gives the numbers of its plain form:

- convolutions that read the same branch, or give the same one, are one convolution;
- a term that is resized to fewer positions is computed only there (`sampling.py`);
- a term that is enlarged and added is never stored enlarged;
- on the CPU branches travel in the channels-last memory format, whatever that of the network around them:
  convolutions of small maps are faster in it (docs/performance.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sficonv.nn.constrained import MCSConv
from sficonv.nn.sampling import (
    Size,
    add,
    add_upsampled,
    conv_size,
    is_eager,
    resize,
    sampled_conv2d,
    samples_cheaply,
    strided_conv2d,
    with_samples,
)

Rows = tuple[int, int]
"""How many channels are spatial, and how many high-frequency."""


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over a map: `(height, width)` each, as in `nn.Conv2d`."""

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size

    @property
    def is_point(self) -> bool:
        """Whether an output depends on the one value at its own position."""
        return self.kernel == self.stride == (1, 1) and self.padding == (0, 0)

    def output(self, size: Size) -> Size:
        """Size of the output for an input of `size`."""
        return conv_size(size, self.kernel, self.stride, self.padding, self.dilation)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1) -> Tensor:
        """The convolution."""
        return strided_conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)

    def sample(self, x: Tensor, weight: Tensor, bias: Tensor | None, size: Size, groups: int = 1) -> Tensor:
        """The convolution, resized to `size`."""
        return sampled_conv2d(
            x, weight, bias, size,
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=groups,
        )  # fmt: skip


# -- memory format ----------------------------------------------------------------------------------


def prefers_channels_last(x: Tensor) -> bool:
    """Whether branches travel channels-last where `x` is."""
    return x.is_cpu and is_eager()


def for_branches(x: Tensor) -> Tensor:
    """`x` in the memory format that branches travel in; free where it has it already.

    Example:
        >>> for_branches(torch.randn(1, 8, 4, 4)).stride()
        (128, 1, 32, 8)
    """
    return x.contiguous(memory_format=torch.channels_last) if prefers_channels_last(x) else x


def for_network(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the format of the network around the branches, which a kernel `(C_out, C_in, k, k)` of it shows.

    Example:
        >>> for_network(for_branches(torch.randn(1, 8, 4, 4)), torch.randn(8, 8, 1, 1)).stride()
        (128, 16, 4, 1)
    """
    return x.contiguous() if prefers_channels_last(x) and like.stride(-1) == 1 else x


# -- the parts of a kernel that its convolutions read -------------------------------------------------


class Columns(NamedTuple):
    """A kernel by what it reads: one convolution for each branch, whose output is split."""

    from_spa: Tensor  # [S->S; S->F]
    from_fre: Tensor  # [F->S; F->F]
    bias: Tensor | None


class PointParts(NamedTuple):
    """A 1 x 1 kernel: the high-frequency output reads both branches side by side."""

    s2s: Tensor
    f2s: Tensor
    to_fre: Tensor  # [S->F, F->F]
    bias_spa: Tensor | None
    bias_fre: Tensor | None


Parts = Columns | PointParts


def split_kernel(weight: Tensor, bias: Tensor | None, rows: Rows, columns: Rows, geometry: Geometry) -> Parts:
    """Cut a kernel `(C_out, C_in, k, k)`, channels in the order `[spa | fre]`, into what `interact` reads.

    On the CPU the parts come in the branches' format, in which the convolutions want them.
    """
    # split, not slices: its gradient is one copy, theirs a map of zeros for each
    if geometry.is_point and all(rows) and all(columns):
        to_spa, to_fre = weight.split(rows, 0)
        s2s, f2s = to_spa.split(columns, 1)
        kernels = (for_branches(s2s), for_branches(f2s), for_branches(to_fre))
        return PointParts(*kernels, *split_bias(bias, rows))
    from_spa, from_fre = weight.split(columns, 1)
    return Columns(for_branches(from_spa), for_branches(from_fre), bias)


def split_bias(bias: Tensor | None, rows: Rows) -> tuple[Tensor | None, Tensor | None]:
    """The bias of each branch."""
    if bias is None:
        return None, None
    spa, fre = bias.split(rows)
    return spa, fre


# -- Stage 1 ------------------------------------------------------------------------------------------


def generate_fre(
    x: Tensor, mcs: MCSConv | None, weight: Tensor, bias: Tensor | None, size: Size, geometry: Geometry,
    groups: int,
) -> Tensor:  # fmt: skip
    """The high-frequency output of Stage 1, `I(f(MCSConv(x)), beta)`.

    Args:
        x: `(B, C, H, W)`.
        mcs: Makes the trace maps that the kernel reads; None where it reads `x` itself.
        weight: Kernel `(C_fre, C / groups, k, k)`.
        bias: `(C_fre,)` or None.
        size: Size of the output.
        geometry: How the kernel moves.
        groups: Its groups.

    Returns:
        `(B, C_fre, *size)`.
    """
    if mcs is None:
        return geometry.sample(x, weight, bias, size, groups)
    if not geometry.is_point:
        return geometry.sample(mcs(x), weight, bias, size, groups)
    # a 1 x 1 kernel reads the trace maps only at the positions that remain
    pad = mcs.kernel_size // 2
    trace = sampled_conv2d(x, mcs.kernel(), None, size, padding=(pad, pad), groups=mcs.channels)
    return F.conv2d(trace, weight, bias, groups=groups)


# -- Stages 2 and 3 -----------------------------------------------------------------------------------


def interact(
    spa: Tensor, fre: Tensor, parts: Parts, rows: Rows, size: Size, fre_size: Size, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """The sums of eq. (4) and (5), or of eq. (7) where `rows` has no high-frequency ones.

    Args:
        spa, fre: The branches `(B, C_spa, H, W)` and `(B, C_fre, h, w)`.
        parts: The kernel, from `split_kernel`.
        rows: Channels of the outputs.
        size, fre_size: Sizes of the outputs.
        geometry: How the kernel moves.

    Returns:
        `(B, C_spa_out, *size)` and `(B, C_fre_out, *fre_size)`.
    """
    if isinstance(parts, PointParts):
        return _interact_points(spa, fre, parts, fre_size)
    from_spa, from_fre, bias = parts
    f2s, f2f = geometry.convolve(fre, from_fre).split(rows, 1)
    f2f = resize(f2f, fre_size)
    if not from_spa.shape[1]:  # alpha = 1: nothing is spatial
        return _biased(resize(f2s, size), f2f, bias)
    if not rows[1]:
        return add_upsampled(geometry.convolve(spa, from_spa, bias), f2s), f2f
    if not samples_cheaply(size, fre_size, geometry.kernel, geometry.padding):
        # everything is computed before anything is dropped: one convolution for both. The sums are new maps:
        # a sum in place would hold on to the whole of it, in strides that the next layer has to copy
        s2s, s2f = geometry.convolve(spa, from_spa, bias).split(rows, 1)
        return s2s + resize(f2s, size), resize(s2f, fre_size) + f2f
    (to_spa, to_fre), (bias_spa, bias_fre) = from_spa.split(rows), split_bias(bias, rows)
    s2s = geometry.convolve(spa, to_spa, bias_spa)
    s2f = geometry.sample(spa, to_fre, bias_fre, fre_size)
    return add_upsampled(s2s, f2s), add(s2f, f2f)


def _interact_points(spa: Tensor, fre: Tensor, parts: PointParts, fre_size: Size) -> tuple[Tensor, Tensor]:
    spa, samples = with_samples(spa, fre_size)
    s2s, f2s = F.conv2d(spa, parts.s2s, parts.bias_spa), F.conv2d(fre, parts.f2s)
    both = torch.cat((samples, resize(fre, fre_size)), 1)
    return add_upsampled(s2s, f2s), F.conv2d(both, parts.to_fre, parts.bias_fre)


def _biased(spa: Tensor, fre: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    if bias is None:
        return spa, fre
    to_spa, to_fre = bias[:, None, None].split((spa.shape[1], fre.shape[1]))
    return spa + to_spa, fre + to_fre
