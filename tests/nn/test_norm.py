"""Batch normalisation of both branches is the vanilla one, whatever the split."""

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
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
    for _ in range(3):  # of several batches the statistics are averages
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


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fre_channels", [0, 8])
def test_all_channels_in_one_branch(fre_channels, training):
    vanilla, split = drawn().train(training), SFIBatchNorm2d(8, fre_channels).train(training)
    split.load_state_dict(vanilla.state_dict())
    x = torch.randn(4, 8, 6, 6)
    spa, fre = split(SpaceFreq(*x.split((8 - fre_channels, fre_channels), 1)))
    assert torch.allclose(torch.cat((spa, fre), 1), vanilla(x), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
def test_one_tensor_is_normalised_as_it_is(training, gradient):
    vanilla, split = drawn().train(training), SFIBatchNorm2d(8, 2).train(training)
    split.load_state_dict(vanilla.state_dict())
    x = torch.randn(4, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(gradient):
        assert torch.allclose(split(x), vanilla(x), atol=1e-5)


def test_half_precision_branches_stay_so_in_inference():
    vanilla, split = drawn().eval(), SFIBatchNorm2d(8, 2).eval()
    split.load_state_dict(vanilla.state_dict())
    x = torch.randn(4, 8, 6, 6).contiguous(memory_format=torch.channels_last).bfloat16()
    with torch.no_grad():
        found = split(SpaceFreq(x[:, :6], x[:, 6:]))
        assert all(branch.dtype == torch.bfloat16 for branch in found)
        assert torch.allclose(torch.cat(found, 1).float(), vanilla(x).float(), atol=0.05)


@pytest.mark.parametrize(("layout", "calls"), [(torch.channels_last, 0), (torch.contiguous_format, 2)])
def test_inference_only_scales_where_that_is_faster(layout, calls):
    x = torch.randn(4, 8, 6, 6).contiguous(memory_format=layout)
    with torch.no_grad(), patch("torch.nn.functional.batch_norm", wraps=F.batch_norm) as normalised:
        SFIBatchNorm2d(8, 2).eval()(SpaceFreq(x[:, :6], x[:, 6:]))
    assert normalised.call_count == calls


def test_another_normalisation_is_used_in_training_alone():
    norm, used = SFIBatchNorm2d(8, 2), []

    def other(x, *args):
        used.append(x.shape[1])
        return F.batch_norm(x, *args)

    norm.batch_norm = other
    x = SpaceFreq(torch.randn(4, 6, 6, 6), torch.randn(4, 2, 3, 3))
    norm(x)
    assert used == [6, 2]
    norm.eval()(x)
    assert used == [6, 2]
