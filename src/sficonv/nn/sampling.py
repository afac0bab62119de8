"""Nearest resizing, and convolution computed only where nearest resizing keeps it."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
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
    if not _rows_first(x):
        return F.interpolate(x, size=size, mode="nearest")
    if size[0] < x.shape[-2]:  # the order with the smaller map in between
        return _columns(_rows(x, size[0]), size[1])
    return _rows(_columns(x, size[1]), size[0])


def _rows_first(x: Tensor) -> bool:
    """Whether `F.interpolate` would copy `x` to channels-last and back, as it does on the CPU."""
    return x.stride(-1) == 1 and _on_plain_cpu(x)


def _on_plain_cpu(x: Tensor) -> bool:
    """On the CPU, and not on its way into a compiler, which arranges memory by itself."""
    return x.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing())


def _rows(x: Tensor, kept: int) -> Tensor:
    return x if kept == x.shape[-2] else x.index_select(-2, _positions(x.shape[-2], kept, x.device))


def _columns(x: Tensor, kept: int) -> Tensor:
    full = x.shape[-1]
    pattern = _pattern(full, kept)
    if kept == full or not pattern:
        return x if kept == full else x.index_select(-1, _positions(full, kept, x.device))
    given = x.unflatten(-1, (-1, full * len(pattern) // kept)).unbind(-1)
    if torch.is_grad_enabled() and x.requires_grad:
        return torch.stack([given[i] for i in pattern], -1).flatten(-2)
    taken = x.new_empty(*given[0].shape, len(pattern))  # a stack of contiguous tensors is five times slower
    for place, i in enumerate(pattern):
        taken[..., place] = given[i]
    return taken.flatten(-2)


@lru_cache
def _pattern(full: int, kept: int) -> tuple[int, ...]:
    """What nearest resizing takes of every `p` samples, with `p` to `q` as `full` to `kept`.

    Empty where `q` is large, or where rounding disturbs the pattern.
    """
    p, q = full // gcd(full, kept), kept // gcd(full, kept)
    steps = np.arange(kept, dtype=np.float32) * np.float32(full / kept)  # as in _positions
    regular = np.array_equal(steps.astype(np.int64), np.arange(kept) * p // q)
    return tuple(i * p // q for i in range(q)) if q <= 8 and regular else ()


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
    size, low_size = x.shape[-2:], low.shape[-2:]
    if size == low_size:
        return add(x, low)
    if not _on_plain_cpu(x) or not all(map(_repeats, low_size, size)):
        return add(x, resize(low, (size[0], size[1])))
    return _AddTiles.apply(x, low) if torch.is_grad_enabled() else _add_tiles(x, low, x)


def _add_tiles(x: Tensor, low: Tensor, out: Tensor) -> Tensor:
    """`add_upsampled` into `out`, where every sample of `low` belongs to a tile of `x`."""
    h, w = low.shape[-2:]
    if low.stride(-1) == 1:
        repeated = _columns(low, x.shape[-1]).unsqueeze(-2)
        torch.add(x.unflatten(-2, (h, -1)), repeated, out=out.unflatten(-2, (h, -1)))
        return out
    tiles, into = (t.unflatten(-1, (w, -1)).unflatten(-3, (h, -1)) for t in (x, out))
    torch.add(tiles, low[:, :, :, None, :, None], out=into)  # channels-last: channels in the innermost loop
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


def _repeats(low: int, high: int) -> bool:
    """Whether nearest resizing from `low` to `high` repeats every sample equally often."""
    return len(_pattern(low, high)) * low == high


def uniform_step(full: int, kept: int) -> int | None:
    """The step s if nearest resizing from `full` to `kept` samples keeps 0, s, 2s, ...; else None.

    Example:
        >>> uniform_step(64, 32), uniform_step(9, 4), uniform_step(64, 48)
        (2, 2, None)
    """
    step, rest = divmod(full, kept)
    return step if rest * (kept - 1) < kept else None


def _positions(full: int, kept: int, device: torch.device) -> Tensor:
    """What nearest resizing keeps; in float32, as `F.interpolate` computes it, which is not always exact."""
    steps = torch.arange(kept, dtype=torch.float32, device=device) * (full / kept)
    return steps.long().clamp_(max=full - 1)


def strided_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size = (0, 0),
    dilation: Size = (1, 1),
    groups: int = 1,
) -> Tensor:
    """`F.conv2d` around two weak spots of the CPU's libraries: the same numbers.

    The input of a strided 1 x 1 kernel is sliced first. oneDNN (seen with torch 2.15 on AVX-512) writes past
    its buffer in the backward pass of a strided 1 x 1 convolution in channels-last format when the input
    channels are no multiple of 16, as they often are in a branch. Slicing avoids that code and is no slower.

    The few positions of a small branch are made the rows of the matrix product, not its columns. PyTorch
    multiplies small batches by BLAS, image by image, and a product with 2 to 15 columns is up to six times
    slower there than one with as many rows. An exported graph is for any batch and another runtime, so it
    does not ask for the batch.
    """
    kernel: Size = (weight.shape[-2], weight.shape[-1])
    by_blas = groups == 1 and not torch.compiler.is_exporting() and x.shape[0] < 16 and _rows_first(x)
    if kernel == (1, 1) and padding == (0, 0) and stride != (1, 1):
        x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
    if not by_blas:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    size = conv_size((x.shape[-2], x.shape[-1]), kernel, stride, padding, dilation)
    if not 1 < size[0] * size[1] < 16 or (kernel != (1, 1) and x.shape[0] > 1):
        return F.conv2d(x, weight, bias, stride, padding, dilation)
    if kernel != (1, 1):
        x = F.unfold(x, kernel, dilation, padding, stride).unflatten(-1, size)
        weight = weight.flatten(1)[:, :, None, None]
    return F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, bias).contiguous()


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
    full = conv_size((x.shape[-2], x.shape[-1]), kernel, stride, padding, dilation)
    if full == size:
        return strided_conv2d(x, weight, bias, stride, padding, dilation, groups)
    steps = [uniform_step(f, k) for f, k in zip(full, size, strict=True)]
    if steps[0] is not None and steps[1] is not None:
        grid: Size = (steps[0] * stride[0], steps[1] * stride[1])
        if conv_size((x.shape[-2], x.shape[-1]), kernel, grid, padding, dilation) != size:
            x, padding = _crop(x, kernel, grid, padding, dilation, size), (0, 0)
        return strided_conv2d(x, weight, bias, grid, padding, dilation, groups)
    if kernel == (1, 1) and padding == (0, 0):
        x = resize(x[:, :, :: stride[0], :: stride[1]], size)
        return F.conv2d(x, weight, bias, groups=groups)
    return resize(F.conv2d(x, weight, bias, stride, padding, dilation, groups), size)


def samples_cheaply(full: Size, size: Size, kernel: Size, padding: Size) -> bool:
    """Whether `sampled_conv2d` computes less than all `full` positions to give `size` of them.

    Example:
        >>> [samples_cheaply((64, 64), (kept, kept), (3, 3), (1, 1)) for kept in (32, 48)]
        [True, False]
    """
    regular = all(uniform_step(f, k) is not None for f, k in zip(full, size, strict=True))
    return full != size and (regular or (kernel == (1, 1) and padding == (0, 0)))


def _crop(x: Tensor, kernel: Size, grid: Size, padding: Size, dilation: Size, size: Size) -> Tensor:
    """Pad explicitly so that a strided convolution without padding gives exactly `size`."""
    pads: list[int] = []
    for axis in (1, 0):
        extent = (size[axis] - 1) * grid[axis] + dilation[axis] * (kernel[axis] - 1) + 1
        pads += [padding[axis], extent - padding[axis] - x.shape[axis - 2]]
    return F.pad(x, pads)
