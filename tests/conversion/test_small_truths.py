"""Shares of channels and sizes are rounded down, exactly, wherever they are computed."""

from fractions import Fraction

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from sficonv.conversion.branches import for_graph, match_frequency
from sficonv.conversion.convert import convert
from sficonv.conversion.layout import Layout
from sficonv.nn import MCSConv, SFIConv2d, frequency_size, no_weight_decay


@pytest.mark.parametrize(
    ("channels", "alpha", "groups", "wanted"),
    [(8, 0.7, 4, 4), (6, 0.3, 2, 0), (12, 0.75, 2, 6), (32, 0.5, 32, 16), (10, 0.99, 5, 8), (8, 1.0, 4, 8)],
)
def test_alpha_of_groups_is_rounded_down_like_that_of_channels(channels, alpha, groups, wanted):
    assert Layout.of_alpha(channels, alpha, groups).fre_channels == wanted


@pytest.mark.parametrize("size", [10, 30, 70, 90])
def test_a_fraction_stays_exact(size):
    beta = Fraction(7, 10)
    assert frequency_size(size, beta) == size * 7 // 10
    spa, fre = torch.zeros(1, 1, size, size), torch.zeros(1, 1, 1, 1)
    assert match_frequency(fre, spa, for_graph(beta)).shape[2:] == (size * 7 // 10,) * 2


def test_a_converted_model_keeps_a_fraction():
    body = nn.Sequential(
        *(nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8, 8)), nn.MaxPool2d(1), nn.Conv2d(8, 8, 1)
    )
    model = convert(body, 0.5, Fraction(7, 10), input_size=(3, 90, 90))
    layers = [m for m in model.modules() if isinstance(m, SFIConv2d) and m.stage == 2]
    seen = []
    layers[-1].register_forward_hook(lambda _, __, out: seen.append(out.fre.shape[-1]))
    model(torch.randn(1, 3, 90, 90))
    assert layers[-1].beta == Fraction(7, 10)
    assert seen == [63]


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.backbone = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x)


def test_weight_decay_leaves_the_constrained_kernels_alone():
    model = convert(timm.create_model("resnet18", num_classes=2), 0.5)
    (kernel,) = [m.weight for m in model.modules() if isinstance(m, MCSConv)]
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.1)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(kernel)] == 0
    assert decays[id(model.get_submodule("layer1.0.conv2").weight)] == 0.1
    names = dict(Wrapped(model).named_parameters())
    assert [names[name] is kernel for name in no_weight_decay(Wrapped(model))] == [True]
