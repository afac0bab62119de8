"""F3-Net (Qian et al., "Thinking in frequency: face forgery detection by mining frequency-aware clues",
ECCV 2020)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from timm.layers import register_notrace_module
from torch import Tensor, nn

from sficonv.conversion.convert import Init, convert
from sficonv.models.config import MIN_SIZE, ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.cross_attention import CrossAttention
from sficonv.models.rivals.frequency import band_masks, dct_matrix, full_precision, luma
from sficonv.models.rivals.trunk import stretch, xception
from sficonv.nn.constrained import MCSMode
from sficonv.nn.sficonv import Ratio

Mode = Literal["fad", "lfs", "both"]
WINDOW, STRIDE, PADDING, BANDS = 10, 2, 4, 6
"""Local frequency statistics: side, step and border of the sliding window, and M, the number of bands."""
DROPOUT = 0.2


def squash(w: Tensor) -> Tensor:
    """Between -1 and 1: `2 sigmoid(w) - 1`, what a learned filter adds to its fixed band."""
    return torch.tanh(w / 2)


@register_notrace_module
class FAD(nn.Module):
    """Frequency-aware decomposition: the image seen through four filters of its cosine spectrum.

    The fixed part of the filters keeps the low (a 16th of the coefficients), middle (up to an eighth), high,
    and all frequencies. `(B, 3, N, N)` to `(B, 12, N, N)`, band after band.

    Args:
        image_size: N, side of the images in pixels.
    """

    dct: Tensor
    base: Tensor

    def __init__(self, image_size: int) -> None:
        super().__init__()
        edges = (0, int(image_size / 2.82), image_size // 2, 2 * image_size)
        bands = band_masks(image_size, edges)
        self.register_buffer("base", torch.cat((bands, torch.ones_like(bands[:1]))), persistent=False)
        self.register_buffer("dct", dct_matrix(image_size), persistent=False)
        self.weight = nn.Parameter(0.1 * torch.randn(4, image_size, image_size))

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            spectrum = self.dct @ x.float() @ self.dct.T
            filters = self.base + squash(self.weight.float())
            banded = spectrum[:, None] * filters[:, None]  # (B, 4, 3, N, N)
            return (self.dct.T @ banded @ self.dct).flatten(1, 2).to(x.dtype)


@register_notrace_module
class LFS(nn.Module):
    """Local frequency statistics: how much of each band a window around a point holds, as a logarithm.

    The cosine transform of every window is one convolution with the 100 products of cosines.
    `(B, 3, H, W)` in [-1, 1] to `(B, 6, H', W')` with `H' = (H - 2) // 2 + 1`.
    """

    cosines: Tensor
    base: Tensor

    def __init__(self) -> None:
        super().__init__()
        dct = dct_matrix(WINDOW)
        cosines = torch.einsum("iy,jx->ijyx", dct, dct).reshape(WINDOW**2, 1, WINDOW, WINDOW)
        edges = tuple(2 * WINDOW * band / BANDS for band in range(BANDS + 1))
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("base", band_masks(WINDOW, edges), persistent=False)
        self.weight = nn.Parameter(0.1 * torch.randn(BANDS, WINDOW, WINDOW))

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            grey = (luma(x.float()) + 1) * 122.5
            spectrum = F.conv2d(grey, self.cosines, stride=STRIDE, padding=PADDING).abs()
            filters = (self.base + squash(self.weight.float())).abs() / self.base.sum((1, 2), keepdim=True)
            held = F.conv2d(spectrum, filters.reshape(BANDS, -1, 1, 1))
            # A flat window holds rounding errors of about 1e-5; the offset keeps their logarithm quiet.
            return torch.log10(held + 1e-3).to(x.dtype)


def fad_stream(image_size: int, pretrained: bool) -> tuple[FAD, nn.Module]:
    """FAD and the Xception that reads it."""
    return FAD(image_size), xception(12, pretrained=pretrained, dropout=DROPOUT)


def lfs_stream(pretrained: bool) -> tuple[LFS, nn.Module]:
    """LFS and the Xception that reads it, whose first stride the sliding windows have made already."""
    return LFS(), xception(BANDS, pretrained=pretrained, dropout=DROPOUT, stem_stride=1)


def one_stream(frequency: nn.Module, trunk: nn.Module) -> nn.Sequential:
    """One stream as a whole detector."""
    return nn.Sequential(OrderedDict(frequency=frequency, trunk=trunk))


class TwoStreams(nn.Module):
    """FAD and LFS, each with an Xception, mixed by cross attention after blocks 7 and 12 (MixBlock).

    Args:
        image_size: Side of the input in pixels.
        pretrained: Start both trunks from ImageNet weights.

    Example:
        >>> TwoStreams(64).eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    def __init__(self, image_size: int, pretrained: bool = False) -> None:
        super().__init__()
        self.fad, fad = fad_stream(image_size, pretrained)
        self.lfs, lfs = lfs_stream(pretrained)
        self.fad_to_7, self.lfs_to_7 = (stretch(trunk, "conv1", "block7") for trunk in (fad, lfs))
        self.mix7 = CrossAttention(728, 728 // 8)
        self.fad_to_12, self.lfs_to_12 = (stretch(trunk, "block8", "block12") for trunk in (fad, lfs))
        self.mix12 = CrossAttention(1024, 1024 // 8)
        self.fad_exit, self.lfs_exit = (stretch(trunk, "conv3", "act4") for trunk in (fad, lfs))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(2 * 2048, 2))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, N, N)` in [-1, 1] to logits `(B, 2)`."""
        fad, lfs = self.mix7(self.fad_to_7(self.fad(x)), self.lfs_to_7(self.lfs(x)))
        fad, lfs = self.mix12(self.fad_to_12(fad), self.lfs_to_12(lfs))
        return self.head(torch.cat((self.pool(self.fad_exit(fad)), self.pool(self.lfs_exit(lfs))), 1))


def _config(name: str, image_size: int) -> ModelConfig:
    if image_size < MIN_SIZE:
        raise ValueError(f"{name}: image_size must be at least {MIN_SIZE} px, got {image_size}")
    return ModelConfig(name, image_size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3)


@register_model
def f3net(
    *, image_size: int = 299, pretrained: bool = False, mode: Mode = "fad"
) -> tuple[nn.Module, ModelConfig]:
    """F3-Net; `mode="fad"` is the form in the SFIConv paper's tables, `"both"` that of the original."""
    if mode not in get_args(Mode):
        raise ValueError(f"f3net: mode must be one of {get_args(Mode)}, got {mode!r}")
    config = _config("f3net", image_size)
    if mode == "both":
        return TwoStreams(image_size, pretrained), config
    stream = fad_stream(image_size, pretrained) if mode == "fad" else lfs_stream(pretrained)
    return one_stream(*stream), config


@register_model
def sfic_f3net(
    *,
    image_size: int = 299,
    pretrained: bool = False,
    alpha: Ratio = 0.5,
    beta: Ratio = 1.0,
    mcs_mode: MCSMode = "reparam",
) -> tuple[nn.Module, ModelConfig]:
    """`f3net` in its FAD form with an SFIC-Xception; for the options see `sficonv.convert`."""
    config = _config("sfic_f3net", image_size)
    model = one_stream(*fad_stream(image_size, pretrained))
    init: Init = "keep" if pretrained else "paper"
    size = (3, image_size, image_size)
    return convert(model, alpha, beta, mcs_mode=mcs_mode, init=init, input_size=size), config
