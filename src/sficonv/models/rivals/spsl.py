"""SPSL (Liu et al., "Spatial-phase shallow learning: rethinking face forgery detection in frequency domain",
CVPR 2021)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from timm.layers import register_notrace_module
from torch import Tensor, nn

from sficonv.conversion.convert import Init, convert
from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.frequency import full_precision, irdft2, luma, rdft2
from sficonv.models.rivals.trunk import xception
from sficonv.nn.constrained import MCSMode
from sficonv.nn.sficonv import Ratio

FLOOR = 1e-4
"""Amplitudes below this may be rounding errors, which have no phase; few of a real photograph are."""


def phase_image(grey: Tensor) -> Tensor:
    """The image that has the same phase spectrum and amplitude 1 everywhere.

    Args:
        grey: `(..., H, W)`.

    Returns:
        The same shape, float32, with a root mean square of 1: the transform is the orthonormal one, so that
        the phase is as strong as a colour channel.

    Example:
        >>> phase_image(torch.randn(1, 1, 8, 8)).square().mean().sqrt().round(decimals=4)
        tensor(1.)
    """
    with full_precision(grey):
        real, imaginary = rdft2(grey.float())
        amplitude = (real.square() + imaginary.square()).clamp(min=FLOOR**2).sqrt()
        return irdft2(real / amplitude, imaginary / amplitude, width=grey.shape[-1])


@register_notrace_module
class AppendPhase(nn.Module):
    """`(B, 3, H, W)` to `(B, 4, H, W)`: the colours and the phase image of their grey image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, phase_image(luma(x)).to(x.dtype)), 1)


def shallow_xception(middle_blocks: int, pretrained: bool) -> nn.Sequential:
    """Colours and phase, read by an Xception with `middle_blocks` of its eight equal blocks."""
    if not 0 <= middle_blocks <= 8:
        raise ValueError(f"spsl: middle_blocks must be from 0 to 8, got {middle_blocks}")
    trunk = xception(4, pretrained=pretrained)
    for number in range(4 + middle_blocks, 12):
        setattr(trunk, f"block{number}", nn.Identity())
    return nn.Sequential(OrderedDict(frequency=AppendPhase(), trunk=trunk))


def _config(name: str) -> ModelConfig:
    return ModelConfig(name, image_size=299, mean=(0.5,) * 3, std=(0.5,) * 3)


@register_model
def spsl(*, pretrained: bool = False, middle_blocks: int = 0) -> tuple[nn.Module, ModelConfig]:
    """SPSL; `middle_blocks=8` keeps the whole Xception, as public re-implementations do."""
    return shallow_xception(middle_blocks, pretrained), _config("spsl")


@register_model
def sfic_spsl(
    *,
    pretrained: bool = False,
    middle_blocks: int = 0,
    alpha: Ratio = 0.5,
    beta: Ratio = 1.0,
    mcs_mode: MCSMode = "reparam",
) -> tuple[nn.Module, ModelConfig]:
    """`spsl` with an SFIC-Xception; for the options see `sficonv.convert`."""
    init: Init = "keep" if pretrained else "paper"
    model = convert(shallow_xception(middle_blocks, pretrained), alpha, beta, mcs_mode=mcs_mode, init=init)
    return model, _config("sfic_spsl")
