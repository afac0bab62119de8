"""Batch normalisation of both branches is the vanilla one, whatever the split."""

import pytest
import torch
from torch import nn

from sficonv.conversion.layers import make_norm
from sficonv.conversion.layout import Layout
from sficonv.nn import SFIBatchNorm2d, SpaceFreq

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def drawn(**options) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(8, **options)
    for t in (norm.weight, norm.bias, norm.running_mean):
        if t is not None:
            nn.init.normal_(t)
    if norm.running_var is not None:
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}]
)
def test_equals_the_vanilla_norm(layout, training, gradient, options):
    vanilla = drawn(**options).train(training)
    split = SFIBatchNorm2d(8, 2, **options).train(training)
    split.load_state_dict(vanilla.state_dict())
    x = torch.randn(4, 8, 6, 6).contiguous(memory_format=layout)
    with torch.set_grad_enabled(gradient):
        found = split(SpaceFreq(x[:, :6], x[:, 6:]))
        wanted = vanilla(x)
    assert torch.allclose(torch.cat(found, 1), wanted, atol=1e-5)
    assert all(b.stride()[1] == wanted.stride()[1] for b in found)
    for a, b in zip(split.state_dict().values(), vanilla.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
def test_channels_in_another_order(layout, training, gradient):
    vanilla = drawn().train(training)
    order = Layout.from_groups((True, False, False, True), 8)
    split = make_norm(drawn(), order).train(training)
    split.load_state_dict(vanilla.state_dict())
    x = torch.randn(4, 8, 6, 6).contiguous(memory_format=layout)
    index = torch.tensor(order.order)
    border = 8 - order.fre_channels
    with torch.set_grad_enabled(gradient):
        found = split(SpaceFreq(x[:, index[:border]], x[:, index[border:]]))
        wanted = vanilla(x)[:, index]
    assert torch.allclose(torch.cat(found, 1), wanted, atol=1e-5)
    for name in ("running_mean", "running_var"):
        assert torch.allclose(getattr(split, name), getattr(vanilla, name), atol=1e-6)
