"""Nearest resizing, and convolution computed only where nearest resizing keeps it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def conv_size(size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Size:
    """Spatial size of a convolution's output, `(H, W)`."""
    h, w = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    return h, w


def resize(x: Tensor, size: Size) -> Tensor:
    """Nearest-neighbour interpolation I(T, beta) of eq. (8) to `size`; free where nothing changes."""
    if x.shape[-2:] == torch.Size(size):
        return x
    if not x.shape[1]:  # a branch without channels (alpha = 0 or 1)
        return x.new_empty(x.shape[0], 0, *size)
    return F.interpolate(x, size=size, mode="nearest")


def uniform_step(full: int, kept: int) -> int | None:
    """The step s if nearest resizing from `full` to `kept` samples keeps 0, s, 2s, ...; else None.

    Example:
        >>> uniform_step(64, 32), uniform_step(9, 4), uniform_step(64, 48)
        (2, 2, None)
    """
    step, rest = divmod(full, kept)
    return step if rest * (kept - 1) < kept else None


def _positions(full: int, kept: int, device: torch.device) -> Tensor:
    # asked of interpolate itself: it computes positions in float32, which exact integers do not always match
    index = torch.arange(full, dtype=torch.float32, device=device)
    return F.interpolate(index[None, None], size=kept, mode="nearest")[0, 0].long()


def strided_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size = (0, 0),
    dilation: Size = (1, 1),
    groups: int = 1,
) -> Tensor:
    """`F.conv2d`, with the input of a strided 1 x 1 kernel sliced first: the same numbers.

    oneDNN (seen with torch 2.15 on AVX-512) writes past its buffer in the backward pass of a strided 1 x 1
    convolution in channels-last format when the input channels are no multiple of 16, as they often are
    in a branch. Slicing avoids that code and is no slower.
    """
    if weight.shape[-2:] == (1, 1) and padding == (0, 0) and stride != (1, 1):
        x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def sampled_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    size: Size,
    *,
    stride: Size = (1, 1),
    padding: Size = (0, 0),
    dilation: Size = (1, 1),
    groups: int = 1,
) -> Tensor:
    """`resize(F.conv2d(x, weight, bias, ...), size)` for a smaller `size`, without the outputs it drops.

    Nearest resizing selects positions. Where those lie on a regular grid (every even size at beta = 1/2,
    multiples of 4 at 1/4) that is a strided convolution; a 1 x 1 kernel reads only the selected positions;
    in every other case the k x k windows of the selected positions are gathered side by side and read
    with stride k. All three compute exactly `size` outputs.

    Args:
        x: Input `(B, C, H, W)`.
        weight: Kernel `(C_out, C / groups, k, k)`.
        bias: `(C_out,)` or None.
        size: Wanted spatial size, at most the convolution's own.
        stride: As in `F.conv2d`, like `padding`, `dilation` and `groups`.

    Returns:
        `(B, C_out, *size)`.

    Example:
        >>> x, weight = torch.randn(1, 8, 32, 32), torch.randn(4, 8, 3, 3)
        >>> sampled_conv2d(x, weight, None, (16, 16), padding=(1, 1)).shape
        torch.Size([1, 4, 16, 16])
    """
    kernel: Size = (weight.shape[-2], weight.shape[-1])
    full = conv_size((x.shape[-2], x.shape[-1]), kernel, stride, padding, dilation)
    if full == size:
        return strided_conv2d(x, weight, bias, stride, padding, dilation, groups)
    steps = [uniform_step(f, k) for f, k in zip(full, size, strict=True)]
    if steps[0] is not None and steps[1] is not None:
        grid: Size = (steps[0] * stride[0], steps[1] * stride[1])
        if conv_size((x.shape[-2], x.shape[-1]), kernel, grid, padding, dilation) != size:
            x, padding = _crop(x, kernel, grid, padding, dilation, size), (0, 0)
        return strided_conv2d(x, weight, bias, grid, padding, dilation, groups)
    for axis in (0, 1):
        first = _positions(full[axis], size[axis], x.device) * stride[axis]
        taps = torch.arange(kernel[axis], device=x.device) * dilation[axis]
        if padding[axis]:
            pad = [0, 0, padding[axis], padding[axis]] if axis == 0 else [padding[axis], padding[axis]]
            x = F.pad(x, pad)
        x = x.index_select(axis - 2, (first[:, None] + taps).flatten())
    return F.conv2d(x, weight, bias, stride=kernel, groups=groups)


def _crop(x: Tensor, kernel: Size, grid: Size, padding: Size, dilation: Size, size: Size) -> Tensor:
    """Pad explicitly so that a strided convolution without padding gives exactly `size`."""
    pads: list[int] = []
    for axis in (1, 0):
        extent = (size[axis] - 1) * grid[axis] + dilation[axis] * (kernel[axis] - 1) + 1
        pads += [padding[axis], extent - padding[axis] - x.shape[axis - 2]]
    return F.pad(x, pads)
