"""Nearest resizing, and convolution computed only where nearest resizing keeps it.

A compiler that is at work (`torch.compile`, `torch.export`, tracing) gets the plain forms: it fuses
operations and arranges memory by itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def is_eager() -> bool:
    """Whether operations run as they are called, not on their way into a compiler or a trace."""
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing())


def conv_size(size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Size:
    """Spatial size of a convolution's output, `(H, W)`."""
    return (
        (size[0] + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1,
        (size[1] + 2 * padding[1] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1,
    )


def resize(x: Tensor, size: Size) -> Tensor:
    """Nearest-neighbour interpolation I(T, beta) of eq. (8) to `size`; free where nothing changes."""
    if x.shape[-2] == size[0] and x.shape[-1] == size[1]:
        return x
    if not x.shape[1]:  # a branch without channels (alpha = 0 or 1)
        return x.new_empty(x.shape[0], 0, *size)
    if x.is_cpu and x.requires_grad and torch.is_grad_enabled() and is_eager():
        return _Resize.apply(x, size)
    return F.interpolate(x, size=size, mode="nearest")


class _Resize(torch.autograd.Function):
    """`F.interpolate`, whose own gradient is twenty times slower in the channels-last format than this one:
    PyTorch (seen with 2.15) has it for the other format only, and copies back and forth."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: Size) -> Tensor:
        ctx.given = (x.shape[-2], x.shape[-1])
        return F.interpolate(x, size=size, mode="nearest")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        sums = grads[0].permute(0, 2, 3, 1).contiguous()
        for axis, given in enumerate(ctx.given, start=1):
            shape = list(sums.shape)
            shown = torch.from_numpy(_sources(given, shape[axis]))
            shape[axis] = given
            sums = sums.new_zeros(shape).index_add_(axis, shown, sums)
        return sums.permute(0, 3, 1, 2), None


def average_pool(x: Tensor, stride: Size) -> Tensor:
    """Average pooling that gives the size of a padded convolution with this stride, for odd sides too."""
    if not x.shape[1]:  # pooling refuses a branch without channels
        return x[:, :, :: stride[0], :: stride[1]]
    # said only where it matters: ONNX Runtime keeps pooling of whole windows in its fast memory format
    odd = x.shape[-2] % stride[0] != 0 or x.shape[-1] % stride[1] != 0
    return F.avg_pool2d(x, stride, ceil_mode=odd)


def add_upsampled(x: Tensor, low: Tensor) -> Tensor:
    """`x + resize(low, size of x)`, without a pass over memory for the resizing where that can be had.

    Args:
        x: `(B, C, H, W)`, the output of an operation that does not need it again: where nothing is recorded
            for a gradient, the sum takes its place.
        low: `(B, C, h, w)`, at most as large.

    Returns:
        `(B, C, H, W)`.

    Example:
        >>> add_upsampled(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 1, 1)).sum()
        tensor(4.)
    """
    (height, width), (h, w) = x.shape[-2:], low.shape[-2:]
    if (h, w) == (height, width):
        return add(x, low)
    if not (is_eager() and _repeats(h, height) and _repeats(w, width)):
        return add(x, resize(low, (height, width)))
    return _AddTiles.apply(x, low) if torch.is_grad_enabled() else _add_tiles(x, low, x)


def _add_tiles(x: Tensor, low: Tensor, out: Tensor) -> Tensor:
    """`add_upsampled` into `out`, where every sample of `low` belongs to a tile of `x`."""
    n, c, h, w = low.shape
    tiled = (n, c, h, x.shape[-2] // h, w, x.shape[-1] // w)
    tiles = x.view(tiled)
    into = tiles if out is x else out.view(tiled)
    torch.add(tiles, low.view(n, c, h, 1, w, 1), out=into)
    return out


class _AddTiles(torch.autograd.Function):
    """`_add_tiles` with a pooling as the gradient of `low`: that of a broadcast sum is slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor) -> Tensor:
        ctx.tile = (x.shape[-2] // low.shape[-2], x.shape[-1] // low.shape[-1])
        return _add_tiles(x, low, torch.empty_like(x))  # not a view: what follows may work in place

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return grads[0], F.avg_pool2d(grads[0], ctx.tile, divisor_override=1)


def add(x: Tensor, y: Tensor) -> Tensor:
    """`x + y`, in the memory of `x` where nothing is recorded for a gradient."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


@lru_cache
def _sources(given: int, size: int) -> np.ndarray:
    """Which of `given` positions each of `size` shows after nearest resizing.

    Computed in float32, as `F.interpolate` does, which is not exact for every multiple.
    """
    return (np.arange(size, dtype=np.float32) * np.float32(given / size)).astype(np.int64)


@lru_cache
def _repeats(low: int, high: int) -> bool:
    """Whether nearest resizing from `low` to `high` repeats every sample equally often."""
    return high % low == 0 and np.array_equal(_sources(low, high), np.arange(high) // (high // low))


def uniform_step(full: int, kept: int) -> int | None:
    """The step s if nearest resizing from `full` to `kept` samples keeps 0, s, 2s, ...; else None.

    Example:
        >>> uniform_step(64, 32), uniform_step(9, 4), uniform_step(64, 48)
        (2, 2, None)
    """
    step, rest = full // kept, full % kept  # not divmod, which torch.compile cannot trace for free sizes
    return step if rest * (kept - 1) < kept else None


def _steps(full: Size, kept: Size) -> Size | None:
    """`uniform_step` of both sides, where both have one."""
    rows, columns = uniform_step(full[0], kept[0]), uniform_step(full[1], kept[1])
    return None if rows is None or columns is None else (rows, columns)


def strided_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    dilation: Size = (1, 1),
    groups: int = 1,
) -> Tensor:
    """`F.conv2d`, but the input of a strided 1 x 1 kernel is sliced first: the same numbers.

    oneDNN (seen with torch 2.15 on AVX-512) writes past its buffer in the backward pass of a strided 1 x 1
    convolution in channels-last format when the input channels are no multiple of 16, as they often are in a
    branch. Slicing avoids that code and is no slower.
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
    multiples of 4 at 1/4) that is a strided convolution, and a 1 x 1 kernel reads only the selected
    positions: both compute exactly `size` outputs. In every other case (3 x 3 at beta = 3/4) everything is
    computed and then selected, which measures faster than any way of computing less (docs/performance.md).

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
    given: Size = (x.shape[-2], x.shape[-1])
    full = conv_size(given, kernel, stride, padding, dilation)
    if full == size:
        return strided_conv2d(x, weight, bias, stride, padding, dilation, groups)
    steps = _steps(full, size)
    if steps is not None:
        grid: Size = (steps[0] * stride[0], steps[1] * stride[1])
        if conv_size(given, kernel, grid, padding, dilation) != size:
            x, padding = _crop(x, kernel, grid, padding, dilation, size), (0, 0)
        return strided_conv2d(x, weight, bias, grid, padding, dilation, groups)
    if kernel == (1, 1) and padding == (0, 0):
        x = resize(x[:, :, :: stride[0], :: stride[1]], size)
        return F.conv2d(x, weight, bias, groups=groups)
    return resize(F.conv2d(x, weight, bias, stride, padding, dilation, groups), size)


def with_samples(x: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """`x` and `resize(x, size)`, for two readers whose gradients then meet in one pass over memory.

    The gradient of a slice is a map of zeros with few values in it, made, filled and added at every layer.
    Here the values are added in place to the gradient that the first reader, a convolution, made for `x`.

    Example:
        >>> x, samples = with_samples(torch.arange(4.0).view(1, 1, 2, 2), (1, 1))
        >>> samples
        tensor([[[[0.]]]])
    """
    steps = _steps((x.shape[-2], x.shape[-1]), size)
    if steps is None:
        return x, resize(x, size)
    grid = _grid(steps, size)
    if x.requires_grad and torch.is_grad_enabled() and is_eager():
        return _WithSamples.apply(x, grid)
    return x, x[grid]


def _grid(steps: Size, size: Size) -> tuple[slice, ...]:
    """Indices of the `size` positions that lie `steps` apart."""
    rows, columns = (slice(0, step * (kept - 1) + 1, step) for step, kept in zip(steps, size, strict=True))
    return slice(None), slice(None), rows, columns


class _WithSamples(torch.autograd.Function):
    """See `with_samples`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: tuple[slice, ...]) -> tuple[Tensor, Tensor]:
        ctx.grid = grid
        return x.view_as(x), x[grid]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        of_x, of_samples = grads
        own = of_x.is_contiguous() or of_x.is_contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled() or not own:  # a graph of the gradient is recorded, or memory is shared
            of_x = of_x.clone(memory_format=torch.contiguous_format)
        of_x[ctx.grid] += of_samples
        return of_x, None


def samples_cheaply(full: Size, size: Size, kernel: Size, padding: Size) -> bool:
    """Whether `sampled_conv2d` computes less than all `full` positions to give `size` of them.

    Example:
        >>> [samples_cheaply((64, 64), (kept, kept), (3, 3), (1, 1)) for kept in (32, 48)]
        [True, False]
    """
    if full == size:
        return False
    if kernel == (1, 1) and padding == (0, 0):
        return True
    return _steps(full, size) is not None


def _crop(x: Tensor, kernel: Size, grid: Size, padding: Size, dilation: Size, size: Size) -> Tensor:
    """Pad explicitly so that a strided convolution without padding gives exactly `size`."""
    pads: list[int] = []
    for axis in (1, 0):
        extent = (size[axis] - 1) * grid[axis] + dilation[axis] * (kernel[axis] - 1) + 1
        pads += [padding[axis], extent - padding[axis] - x.shape[axis - 2]]
    return F.pad(x, pads)
