"""The paper's equations in their literal form, and how far two results are apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sficonv.nn import MCSConv, SFIConv2d, SpaceFreq, frequency_size

Features = Tensor | SpaceFreq


def joined(y: Features) -> list[Tensor]:
    """One tensor, or both branches."""
    return [y] if isinstance(y, Tensor) else list(y)


def relative_error(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm().clamp_min(1e-12)).detach())


def assert_close(got: Features, wanted: Features, tolerance: float = 1e-5) -> None:
    for a, b in zip(joined(got), joined(wanted), strict=True):
        assert a.shape == b.shape
        assert relative_error(a.float(), b.float()) < tolerance


def literal_kernel(mcs: MCSConv) -> Tensor:
    """Eq. (1): the centre is -1 and the others sum to 1."""
    if mcs.mode != "reparam":
        return mcs.weight
    middle = mcs.kernel_size // 2
    around = torch.ones_like(mcs.weight)
    around[..., middle, middle] = 0
    others = mcs.weight * around
    others = others + around * (1 - others.sum((-2, -1), keepdim=True)) / (mcs.kernel_size**2 - 1)
    return others + (around - 1)


def literal_mcs(mcs: MCSConv, x: Tensor) -> Tensor:
    """Each channel's error of prediction: a convolution with its own kernel."""
    kernels = literal_kernel(mcs).unbind()
    return torch.cat([F.conv2d(x[:, i : i + 1], k[None], padding="same") for i, k in enumerate(kernels)], 1)


def literal_norm(norm: nn.BatchNorm2d, x: SpaceFreq) -> SpaceFreq:
    """Every channel by its own mean and variance, whichever branch it is in."""
    normalised, at = [], 0
    for branch in x:
        part = slice(at, at := at + branch.shape[1])
        mean, var = norm.running_mean[part], norm.running_var[part]
        if norm.training:
            mean, var = branch.mean((0, 2, 3)), branch.var((0, 2, 3), unbiased=False)
        scaled = (branch - mean[:, None, None]) / (var[:, None, None] + norm.eps).sqrt()
        normalised.append(scaled * norm.weight[part, None, None] + norm.bias[part, None, None])
    return SpaceFreq(*normalised)


def literal(layer: SFIConv2d, x: Features) -> Features:
    """Eq. (2) to (8) word by word: four convolutions, then nearest resizing; one tensor where beta is 1."""
    if layer.stage is None:
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation)
    if isinstance(x, Tensor) and layer.stage != 1:
        x = SpaceFreq(x[:, : layer.spa_in], x[:, layer.spa_in :])
    y = _literal_branches(layer, x)
    return torch.cat(y, 1) if layer.beta == 1 and not isinstance(y, Tensor) else y


def _literal_branches(layer: SFIConv2d, x: Features) -> Features:
    if layer.downsample == "avgpool" and layer.stride != (1, 1):
        pooled = [F.avg_pool2d(t, layer.stride, ceil_mode=True) for t in joined(x)]
        x = pooled[0] if isinstance(x, Tensor) else SpaceFreq(*pooled)
    rows_spa, rows_fre = layer.weight[: layer.spa_out], layer.weight[layer.spa_out :]

    def conv(t: Tensor, w: Tensor) -> Tensor:
        groups = t.shape[1] // w.shape[1]
        return F.conv2d(t, w, None, layer.conv_stride, layer.padding, layer.dilation, groups)

    def to(t: Tensor, like: tuple[int, int]) -> Tensor:
        return F.interpolate(t, size=like, mode="nearest")

    def bias(t: Tensor, part: slice) -> Tensor:
        return t if layer.bias is None else t + layer.bias[part][:, None, None]

    def low(size: tuple[int, int]) -> tuple[int, int]:
        return frequency_size(size[0], layer.beta), frequency_size(size[1], layer.beta)

    to_spa, to_fre = slice(0, layer.spa_out), slice(layer.spa_out, None)
    if isinstance(x, Tensor):
        for_spa, for_fre = x, x
        if layer.groups > 1:  # each row reads its own group
            border = x.shape[1] - layer.fre_out * x.shape[1] // layer.out_channels
            for_spa, for_fre = x[:, :border], x[:, border:]
        spa = bias(conv(for_spa, rows_spa), to_spa)
        trace = for_fre if layer.mcs is None else literal_mcs(layer.mcs, for_fre)
        return SpaceFreq(spa, bias(to(conv(trace, rows_fre), low(spa.shape[-2:])), to_fre))
    if layer.groups > 1:  # no cross terms: each branch keeps its own groups
        spa = bias(conv(x.spa, rows_spa), to_spa)
        return SpaceFreq(spa, bias(to(conv(x.fre, rows_fre), low(spa.shape[-2:])), to_fre))
    spa_in, fre_in = slice(0, layer.spa_in), slice(layer.spa_in, None)
    s2s = conv(x.spa, rows_spa[:, spa_in])
    full = tuple(s2s.shape[-2:])
    spa = bias(s2s + to(conv(x.fre, rows_spa[:, fre_in]), full), to_spa)
    if not layer.fre_out:
        return spa
    f2f = to(conv(x.fre, rows_fre[:, fre_in]), low(full))
    return SpaceFreq(spa, bias(f2f + to(conv(x.spa, rows_fre[:, spa_in]), low(full)), to_fre))
