"""SFIConv in its literal form, as the paper draws it: a convolution for each block, then resizing.

The reference that `speed.py` compares the library's execution with; nothing else uses it. Every block is a
convolution of its own at the resolution of its input, eq. (8) resizes its whole output, and at beta = 1 the
branches still travel apart, with a normalisation and an activation each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models import create_model
from sficonv.nn import SFIConv2d, SpaceFreq, frequency_size


class FourConvolutions(nn.Module):
    """Stage 1, 2 or 3 with one convolution for each block, with the weights of an `SFIConv2d`."""

    def __init__(self, layer: SFIConv2d, beta: float) -> None:
        super().__init__()
        assert layer.groups == 1 and layer.bias is None
        self.beta, self.stride, self.pooled = beta, layer.stride, layer.downsample == "avgpool"
        self.mcs, self.stage = layer.mcs, layer.stage
        options = {"stride": layer.conv_stride, "padding": layer.padding, "dilation": layer.dilation}
        spa_rows, fre_rows = layer.weight.detach().split((layer.spa_out, layer.fre_out))
        column = layer.in_channels if self.stage == 1 else layer.spa_in
        blocks = {
            "s2s": spa_rows[:, :column],
            "f2s": spa_rows[:, column:],
            "s2f": fre_rows[:, :column],  # of Stage 1: reads the trace maps
            "f2f": fre_rows[:, column:],
        }
        for name, weight in blocks.items():
            if weight.numel():
                c_out, c_in = weight.shape[:2]
                conv = nn.Conv2d(c_in, c_out, layer.kernel_size, bias=False, **options)
                conv.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
                self.add_module(name, conv)

    def _to(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return x if self.beta == 1 else F.interpolate(x, size=size, mode="nearest")

    def forward(self, x: Tensor | SpaceFreq) -> Tensor | SpaceFreq:
        if self.pooled and self.stride != (1, 1):
            pooled = [F.avg_pool2d(t, self.stride) for t in ([x] if isinstance(x, Tensor) else x)]
            x = pooled[0] if isinstance(x, Tensor) else SpaceFreq(*pooled)
        if isinstance(x, Tensor):
            spa = self.s2s(x)
            fre = self.s2f(x if self.mcs is None else self.mcs(x))
            return SpaceFreq(spa, self._to(fre, self._small(spa)))
        s2s = self.s2s(x.spa)
        size = (s2s.shape[-2], s2s.shape[-1])
        spa = s2s + self._to(self.f2s(x.fre), size)
        if self.stage == 3:
            return spa
        small = self._small(s2s)
        return SpaceFreq(spa, self._to(self.f2f(x.fre), small) + self._to(self.s2f(x.spa), small))

    def _small(self, x: Tensor) -> tuple[int, int]:
        return frequency_size(x.shape[-2], self.beta), frequency_size(x.shape[-1], self.beta)


def four_convolutions(sfic: nn.Module, alpha: float, beta: float) -> nn.Module:
    """`sfic_resnet26` in the literal form, with the weights of `sfic`.

    Args:
        sfic: `create_model("sfic_resnet26", alpha=alpha, beta=beta)`.
        alpha, beta: Its options.

    Returns:
        A network with the same outputs to float error.
    """
    # converted for beta < 1, so that the branches travel apart; no layer of its graph depends on which beta
    literal = create_model("sfic_resnet26", alpha=alpha, beta=0.5)
    literal.load_state_dict(sfic.state_dict())
    for name, layer in list(literal.named_modules()):
        if isinstance(layer, SFIConv2d) and layer.stage is not None:
            literal.set_submodule(name, FourConvolutions(layer, beta))
    return literal
