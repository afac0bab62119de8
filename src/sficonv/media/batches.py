"""Operations on batches of images as tensors, on CUDA and CPU alike, each image with parameters of its own.

Images are float `(B, 3, H, W)`, RGB, 0 to 255; a parameter is a number or a tensor `(B,)`. Nothing here waits
for the device, and shapes never depend on values, so that a batch costs a few dozen kernels however it is
drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor


class Draw:
    """Random numbers of one batch, all from one generator on the device of the images.

    Args:
        seed: Decides every number.
        device: Where the numbers are made. CPU and CUDA give different ones.

    Example:
        >>> float(Draw(3, "cpu").uniform(1, 2.0, 4.0)) == float(Draw(3, "cpu").uniform(1, 2.0, 4.0))
        True
    """

    def __init__(self, seed: int, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seed)
        self.host = random.Random(seed)

    def parts(self, count: int, shares: Sequence[float]) -> list[slice]:
        """Cut `count` things into consecutive parts of about these shares, the odd ones at random."""
        at = self.host.random()
        ends = [min(count, math.floor(total * count + at)) for total in accumulate(shares)]
        ends[-1] = count
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def uniform(
        self, shape: int | tuple[int, ...], low: float | Tensor = 0.0, high: float | Tensor = 1.0
    ) -> Tensor:
        """Float tensor of `shape`, evenly between `low` and `high`."""
        shape = (shape,) if isinstance(shape, int) else shape
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers of `shape`."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, count: int, probability: float) -> Tensor:
        """Bool `(count,)`, true with a probability."""
        return torch.rand(count, generator=self.generator, device=self.device) < probability

    def integers(self, count: int, high: int) -> Tensor:
        """int64 `(count,)` in [0, high)."""
        return torch.randint(high, (count,), generator=self.generator, device=self.device)

    def among(self, count: int, values: tuple[float, ...]) -> Tensor:
        """Float `(count,)`, each one of `values`."""
        return torch.tensor(values, device=self.device)[self.integers(count, len(values))]

    def order(self, count: int) -> Tensor:
        """A permutation, int64 `(count,)`."""
        return torch.randperm(count, generator=self.generator, device=self.device)

    def weighted(self, weights: Tensor, count: int) -> Tensor:
        """int64 `(count,)`: indices drawn with replacement, with probabilities like `weights` `(N,)`."""
        at = torch.cumsum(weights.double(), 0)
        points = torch.rand(count, generator=self.generator, device=self.device, dtype=torch.float64) * at[-1]
        return torch.searchsorted(at, points).clamp_(max=len(at) - 1)


def spread(values: Tensor) -> Tensor:
    """A parameter `(B,)` as `(B, 1, 1, 1)`."""
    return values.view(-1, 1, 1, 1)


def gaussian_blur(images: Tensor, sigma: Tensor, *, largest: float) -> Tensor:
    """Blur each image with a Gaussian of its own; borders are mirrored.

    Args:
        images: Float `(B, C, H, W)`.
        sigma: `(B,)` pixels; 0 leaves an image as it is.
        largest: Bound of `sigma`: three times as far reach the kernels, whatever is in `sigma`.
    """
    count, channels, height, width = images.shape
    reach = min(max(1, math.ceil(3 * largest)), height - 1, width - 1)
    at = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (at / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    planes = F.pad(images, (reach,) * 4, mode="reflect").reshape(
        1, count * channels, *_plus(images, 2 * reach)
    )
    planes = F.conv2d(planes, kernels[:, None, None], groups=count * channels)
    planes = F.conv2d(planes, kernels[:, None, :, None], groups=count * channels)
    return planes.view(images.shape)


def _plus(images: Tensor, border: int) -> tuple[int, int]:
    return images.shape[-2] + border, images.shape[-1] + border


def affine(
    scale_x: Tensor, scale_y: Tensor, shift_x: Tensor, shift_y: Tensor, angle: Tensor | None = None
) -> Tensor:
    """Matrices `(B, 2, 3)` for `warp`: where each output pixel is read, in units of half the image's side.

    Args:
        scale_x, scale_y: `(B,)`, how many input pixels an output pixel spans; negative mirrors.
        shift_x, shift_y: `(B,)`, of the centre.
        angle: `(B,)` radians. Default none.
    """
    angle = torch.zeros_like(scale_x) if angle is None else angle
    cos, sin = angle.cos(), angle.sin()
    return torch.stack(
        [
            torch.stack([cos * scale_x, -sin * scale_y, shift_x], 1),
            torch.stack([sin * scale_x, cos * scale_y, shift_y], 1),
        ],
        1,
    )


def warp(images: Tensor, matrices: Tensor, *, mode: str = "bilinear", outside: str = "reflection") -> Tensor:
    """Read each image through an affine map.

    Args:
        images: Float `(B, C, H, W)`.
        matrices: `(B, 2, 3)`, see `affine`.
        mode: `"bilinear"` or `"bicubic"`.
        outside: `"reflection"` or `"zeros"`.
    """
    grid = F.affine_grid(matrices, [len(images), 1, *images.shape[-2:]], align_corners=False)
    return F.grid_sample(images, grid, mode=mode, padding_mode=outside, align_corners=False)


def shrink_matrix(matrices: Tensor, share: Tensor) -> Tensor:
    """`matrices`, then shrinking to the top left `share` `(B,)` of the canvas; the rest shows what lies
    beyond the picture."""
    scale = 1 / share.view(-1, 1, 1)
    linear, offset = matrices[..., :2], matrices[..., 2:]
    # a canvas point p shows the picture's point (p + 1) / share - 1
    return torch.cat([linear * scale, offset + (linear * (scale - 1)).sum(-1, keepdim=True)], -1)


def grow_matrix(share: Tensor) -> Tensor:
    """The way back from the top left `share` `(B,)` of a canvas to the whole of it: `(B, 2, 3)`."""
    zero = torch.zeros_like(share)
    return torch.stack(
        [torch.stack([share, zero, share - 1], 1), torch.stack([zero, share, share - 1], 1)], 1
    )


def lower_resolution(images: Tensor, share: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Shrink each image to a share of its size, smoothed as a camera's lens would, and enlarge it again.

    Args:
        images: Float `(B, C, H, W)`.
        share: `(B,)` in (0, 1].
        mode: How it is enlarged, `"bilinear"` or `"bicubic"`.
    """
    one, zero = torch.ones_like(share), torch.zeros_like(share)
    small = warp(antialiased(images, 1 / share), shrink_matrix(affine(one, one, zero, zero), share))
    return warp(small, grow_matrix(share), mode=mode).clamp(0, 255)


def antialiased(images: Tensor, factor: Tensor, *, largest: float = 5.0) -> Tensor:
    """Smoothed for being shrunk by `factor` `(B,)`, at most `largest`; factors up to 1 change nothing."""
    soft = 0.42 * (factor.clamp(1, largest) ** 2 - 1).sqrt()
    return gaussian_blur(images, soft, largest=0.42 * largest)


_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def to_ycc(images: Tensor) -> Tensor:
    """RGB to luma and two colour differences around 0, as JPEG has them."""
    return _mix(images, _YCC)


def from_ycc(images: Tensor) -> Tensor:
    """The way back from `to_ycc`."""
    return _mix(images, _RGB)


def _mix(images: Tensor, table: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.stack(
        [sum(c * images[:, i] for i, c in enumerate(row) if c) for row in table],  # type: ignore[misc]
        1,
    )


def change_colours(
    images: Tensor,
    *,
    gain: Tensor,
    offset: Tensor,
    saturation: Tensor,
    hue: Tensor,
    tint: Tensor | None = None,
) -> Tensor:
    """Brightness, contrast, saturation and hue.

    Args:
        images: Float `(B, 3, H, W)`.
        gain, offset: `(B,)`, of the luma around 128.
        saturation: `(B,)`, 1 changes nothing.
        hue: `(B,)` radians.
        tint: `(B, 3)`, added to the colours. Default none.
    """
    ycc = to_ycc(images)
    luma = (ycc[:, :1] - 128) * spread(gain) + 128 + spread(offset)
    cos, sin = spread(hue.cos() * saturation), spread(hue.sin() * saturation)
    blue, red = ycc[:, 1:2], ycc[:, 2:3]
    changed = from_ycc(torch.cat([luma, blue * cos - red * sin, blue * sin + red * cos], 1))
    if tint is not None:
        changed = changed + tint[:, :, None, None]
    return changed.clamp(0, 255)


# ITU-T T.81, annex K: the tables that nearly every encoder scales by its quality
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = tuple(
    tuple(
        {(0, 0): 17, (0, 1): 18, (1, 0): 18, (1, 1): 21, (0, 2): 24, (2, 0): 24, (1, 2): 26, (2, 1): 26}.get(
            (row, column), {(0, 3): 47, (3, 0): 47, (2, 2): 56, (1, 3): 66, (3, 1): 66}.get((row, column), 99)
        )
        for column in range(8)
    )
    for row in range(8)
)


def jpeg(images: Tensor, quality: Tensor, *, halve_colours: bool = True) -> Tensor:
    """What a JPEG encoder and decoder leave of each image; only the lossless part of the codec is left out.

    Args:
        images: Float `(B, 3, H, W)`.
        quality: `(B,)` in [1, 100], as libjpeg scales its tables.
        halve_colours: 4:2:0, else 4:4:4.

    Returns:
        Whole numbers, float `(B, 3, H, W)`.
    """
    height, width = images.shape[-2:]
    if height % 16 or width % 16:
        whole = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
        return jpeg(whole, quality, halve_colours=halve_colours)[..., :height, :width]
    quality = quality.clamp(1, 100)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    ycc = to_ycc(images.round())
    luma = _quantised(ycc[:, :1] - 128, _table(_LUMA, scale)) + 128
    colours = F.avg_pool2d(ycc[:, 1:], 2) if halve_colours else ycc[:, 1:]
    colours = _quantised(colours, _table(_CHROMA, scale))
    if halve_colours:
        colours = F.interpolate(colours, scale_factor=2, mode="bilinear", align_corners=False)
    return from_ycc(torch.cat([luma, colours], 1)).round().clamp(0, 255)


def _table(table: tuple[tuple[int, ...], ...], scale: Tensor) -> Tensor:
    base = _constant(table, scale.device)
    return ((base * scale[:, None] + 50) / 100).floor().clamp(1, 255)


def _quantised(planes: Tensor, table: Tensor) -> Tensor:
    """Cosine transform of 8 x 8 blocks, rounding to `table` `(B, 64)`, and back: two products with one
    matrix."""
    count, channels, height, width = planes.shape
    blocks = (
        planes.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(count, -1, 64)
    )
    transform = _cosines(planes.device)
    steps = table[:, None]
    whole = (torch.round(blocks @ transform.T / steps) * steps) @ transform
    return whole.view(count, channels, height // 8, width // 8, 8, 8).transpose(3, 4).reshape(planes.shape)


@cache
def _constant(table: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    return torch.tensor(table, dtype=torch.float32, device=device).flatten()


@cache
def _cosines(device: torch.device) -> Tensor:
    """The two-dimensional cosine transform of an 8 x 8 block as one orthonormal matrix `(64, 64)`."""
    n = torch.arange(8, dtype=torch.float64)
    one = torch.cos(math.pi * (2 * n[None] + 1) * n[:, None] / 16) / 2
    one[0] /= math.sqrt(2)
    return torch.kron(one, one).float().to(device)
