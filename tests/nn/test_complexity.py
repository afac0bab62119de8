"""complexity(): counts by hand, the paper's Tables II and III row by row, and what is really computed."""

import pytest
from torch import nn

from sficonv.models import create_model
from sficonv.nn import SFIBatchNorm2d, SFIConv2d, complexity


def sfic(c_in: int, c_out: int, ins: float, outs: float, kernel=3, padding=1, **options) -> SFIConv2d:
    return SFIConv2d(
        c_in,
        c_out,
        kernel,
        padding=padding,
        alpha_in=ins,
        alpha_out=outs,
        beta=0.5,
        mcs_mode="none",
        **options,
    )


FIRST = sfic(3, 8, 0, 0.25, bias=False)  # from 3 channels to 6 spatial and 2 high-frequency ones
FIRST_MACS = 9 * 3 * 8 * 8 * 8  # at 8 x 8
BRANCHES = 6 * 8 * 8 + 2 * 4 * 4
BY_HAND = {
    "convolution": (nn.Conv2d(3, 8, (3, 1), (2, 1), (1, 0)), 8 * (4 * 8) * (3 * 3 + 1)),
    "without bias": (nn.Conv2d(3, 8, (3, 1), (2, 1), (1, 0), bias=False), 8 * (4 * 8) * (3 * 3)),
    "groups": (nn.Conv2d(3, 6, 3, groups=3, bias=False), 6 * (6 * 6) * 9),
    "transposed": (nn.ConvTranspose2d(3, 4, (2, 3), 2), 3 * (8 * 8) * (6 * 4) + 4 * (16 * 17)),
    "transposed, groups": (nn.ConvTranspose2d(3, 6, 2, groups=3, bias=False), 3 * (8 * 8) * (4 * 2)),
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), 5 * (192 + 1)),
    "linear without bias": (nn.Sequential(nn.Flatten(), nn.Linear(192, 5, bias=False)), 5 * 192),
    "norm": (nn.BatchNorm2d(3), 2 * 192),
    **{type(m).__name__: (m, 192) for m in (nn.ReLU(), nn.ReLU6(), nn.PReLU(), nn.LeakyReLU(), nn.ELU())},
    **{type(m).__name__: (m, 192) for m in (nn.MaxPool2d(2), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1))},
    "other": (nn.Sigmoid(), 0),
    "stage 1": (FIRST, FIRST_MACS),
    "stage 1, bias": (sfic(3, 8, 0, 0.25), FIRST_MACS + BRANCHES),
    "norm of branches": (nn.Sequential(FIRST, SFIBatchNorm2d(8, 2)), FIRST_MACS + 2 * BRANCHES),
    "stage 2": (nn.Sequential(FIRST, sfic(8, 8, 0.25, 0.25, bias=False)), FIRST_MACS + 9 * 8 * BRANCHES),
    "stage 2, strided": (
        nn.Sequential(FIRST, sfic(8, 8, 0.25, 0.25, (3, 1), (1, 0), stride=(1, 2), bias=False)),
        FIRST_MACS + 3 * 8 * (6 * 8 * 4 + 2 * 4 * 2),
    ),
    "stage 2, pooled": (
        nn.Sequential(FIRST, sfic(8, 8, 0.25, 0.25, stride=(3, 1), downsample="avgpool", bias=False)),
        FIRST_MACS + 9 * 8 * (6 * 3 * 8 + 2 * 2 * 4) + BRANCHES,
    ),
    "stage 2, groups": (
        nn.Sequential(FIRST, sfic(8, 16, 0.25, 0.25, groups=4)),
        FIRST_MACS + 9 * 2 * (12 * 8 * 8 + 4 * 4 * 4) + 2 * BRANCHES,
    ),
    "stage 3": (nn.Sequential(FIRST, sfic(8, 2, 0.25, 0)), FIRST_MACS + 9 * 2 * BRANCHES + 2 * 8 * 8),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_the_rule_of_the_paper_by_hand(name):
    model, macs = BY_HAND[name]
    cost = complexity(model, 8)
    assert cost.paper_macs == macs
    assert (cost.params, cost.image_size) == (sum(p.numel() for p in model.parameters()), 8)
    assert not any(m._forward_hooks for m in model.modules())


def test_products_that_run_are_counted_once_and_quietly(capsys):
    assert complexity(nn.Conv2d(3, 8, 3), 8).macs == 8 * (6 * 6) * (3 * 9)
    assert not capsys.readouterr().out
    assert complexity(nn.Conv2d(3, 8, 1), 1).macs == 8 * 3


def test_a_module_called_by_keyword_is_not_seen():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(input=x)

    assert complexity(Net(), 8).paper_macs == 0


# alpha, beta, FLOPs (GMac) of SFIC-ResNet26 as printed in the paper's Table II
TABLE_II = [
    (0.25, 0.25, 2.47), (0.25, 0.50, 2.60), (0.25, 0.75, 2.80), (0.25, 1.00, 3.09),
    (0.50, 0.25, 1.86), (0.50, 0.50, 2.10), (0.50, 0.75, 2.51), (0.50, 1.00, 3.09),
    (0.75, 0.25, 1.24), (0.75, 0.50, 1.61), (0.75, 0.75, 2.23), (0.75, 1.00, 3.09),
]  # fmt: skip


@pytest.mark.parametrize(("alpha", "beta", "printed"), TABLE_II)
def test_table_ii(alpha, beta, printed):
    cost = complexity(create_model("sfic_resnet26", alpha=alpha, beta=beta))
    assert round(cost.paper_macs / 1e9, 2) == printed
    assert round(cost.params / 1e6, 2) == 13.95
    if beta < 1:
        assert cost.macs < cost.paper_macs


# name, parameters (millions) and FLOPs (GMac) as printed in Table III
TABLE_III = [
    ("mobilenetv1", 3.21, 0.761), ("sfic_mobilenetv1", 3.21, 0.768), ("resnet26", 13.95, 3.08),
    ("sfic_resnet26", 13.95, 3.09), ("resnet50", 23.51, 5.38), ("sfic_resnet50", 23.51, 5.38),
    ("resnet101", 42.51, 10.25), ("sfic_resnet101", 42.51, 10.25), ("vgg13", 9.41, 14.68),
    ("sfic_vgg13", 9.41, 14.66), ("vgg16", 14.73, 20.12), ("sfic_vgg16", 14.73, 20.11),
    ("vgg19", 20.04, 25.57), ("sfic_vgg19", 20.04, 25.55),
]  # fmt: skip
# what the docstring of `complexity` names: ours where it is not what is printed
OURS = {
    "params": {"resnet101": 42.50, "vgg16": 14.72, "sfic_vgg16": 14.72, "sfic_vgg19": 20.03},
    "gmac": {"sfic_mobilenetv1": 0.763},
}


@pytest.mark.parametrize(("name", "params", "gmac"), TABLE_III)
def test_table_iii(name, params, gmac):
    cost = complexity(create_model(name))
    digits = 3 if "mobilenet" in name else 2
    assert round(cost.params / 1e6, 2) == OURS["params"].get(name, params)
    assert round(cost.paper_macs / 1e9, digits) == OURS["gmac"].get(name, gmac)


@pytest.mark.parametrize(("alpha", "gmac"), [(0.25, 13.34), (0.75, 10.69)])
def test_table_v_vgg13(alpha, gmac):
    assert round(complexity(create_model("sfic_vgg13", alpha=alpha, beta=0.75)).paper_macs / 1e9, 2) == gmac


@pytest.mark.parametrize(("name", "params"), [("resnet26", 13_950_274), ("resnet50", 23_512_130)])
def test_sfic_adds_the_kernels_of_mcsconv_only(name, params):
    assert complexity(create_model(name)).params == params
    assert complexity(create_model(f"sfic_{name}")).params == params + 64 * 25


def test_true_count_is_below_the_simple_sketch():
    assert complexity(create_model("sfic_resnet26", alpha=0.5, beta=0.5)).macs < 1.65e9
    assert complexity(create_model("sfic_resnet26", alpha=0.75, beta=0.25)).macs < 0.82e9


def test_vanilla_true_count():
    assert complexity(create_model("resnet26")).macs == pytest.approx(3.0566e9, rel=1e-4)
