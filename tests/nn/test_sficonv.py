"""SFIConv2d beyond what `test_operators.py` checks of every operator: the paper's cases, cost, behaviour."""

import itertools
import json
from fractions import Fraction
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tests.nn.harness import stage
from tests.nn.reference import assert_close, joined, literal, relative_error
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sficonv.nn import MCSConv, SFIBatchNorm2d, SFIConv2d, SpaceFreq, frequency_channels, frequency_size
from sficonv.nn.sficonv import check_ratio


def branches(layer: SFIConv2d, size=(16, 16), batch=2) -> torch.Tensor | SpaceFreq:
    """Input for a layer: a tensor at Stage 1 or beta = 1, else a pair of branches."""
    if layer.stage in (1, None) or layer.beta == 1:
        return torch.randn(batch, layer.in_channels, *size)
    low = [frequency_size(s, layer.beta) for s in size]
    return SpaceFreq(torch.randn(batch, layer.spa_in, *size), torch.randn(batch, layer.fre_in, *low))


# -- numbers ----------------------------------------------------------------------------------------


def check_golden_case(case: dict, tensors: dict[str, torch.Tensor]) -> None:
    def part(kind: str) -> dict[str, torch.Tensor]:
        start = f"{case['name']}/{kind}/"
        return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

    given, inputs, outputs = part("param"), part("in"), part("out")
    if "stage" not in case:
        mcs = MCSConv(case["channels"])
        mcs.load_state_dict(given)
        assert relative_error(mcs(inputs["x"]), outputs["y"]) < 1e-5
        return
    layer = stage(
        case["stage"], case["alpha"], channels=(case["cin"], case["cout"]), kernel_size=case["kernel"],
        stride=case["stride"], groups=case.get("groups", 1), beta=case.get("beta", 1.0), downsample="avgpool",
    )  # fmt: skip
    s2s, f2f = given["s2s.weight"], given["f2f.weight"]
    if case["stage"] == 3:
        weight = torch.cat((s2s, f2f), 1)
    elif "f2s.weight" in given:
        weight = torch.cat(
            (torch.cat((s2s, given["f2s.weight"]), 1), torch.cat((given["s2f.weight"], f2f), 1))
        )
    else:
        weight = torch.cat((s2s, f2f))
    layer.weight.data = weight
    if layer.mcs is not None:
        layer.mcs.weight.data = given["MCSConv.weight"]
    if case["stage"] == 1:
        x = inputs["x"]
    else:
        x = SpaceFreq(inputs["spa"], inputs["fre"])
        x = torch.cat(x, 1) if layer.beta == 1 else x
    y = layer(x)
    if case["stage"] == 3:
        assert relative_error(y, outputs["y"]) < 1e-5
        return
    spa, fre = y if isinstance(y, SpaceFreq) else (y[:, : layer.spa_out], y[:, layer.spa_out :])
    assert relative_error(spa, outputs["spa"]) < 1e-5
    assert relative_error(fre, outputs["fre"]) < 1e-5


@pytest.mark.shared
def test_golden_cases(shared):
    tensors = load_file(shared / "golden" / "layers.safetensors")
    cases = json.loads((shared / "golden" / "layers.json").read_text())
    assert len(cases) == 93
    for case in cases:
        check_golden_case(case, tensors)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.2, 0.3, 0.5])
@pytest.mark.parametrize("beta", [1.0, 0.75, 0.5, 0.25, Fraction(1, 3)])
@pytest.mark.parametrize("size", [(7, 7), (9, 15), (16, 16), (32, 11)])
def test_equals_the_literal_form(number, alpha, beta, size):
    torch.manual_seed(0)
    for kernel, bias in ((1, False), (3, True), (5, False)):
        layer = stage(number, alpha, beta=beta, kernel_size=kernel, bias=bias)
        x = branches(layer, size)
        assert_close(layer(x), literal(layer, x))


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("downsample", ["avgpool", "strided"])
def test_stride_equals_the_literal_form(number, downsample):
    layer = stage(number, 0.5, beta=0.5, stride=2, downsample=downsample)
    x = branches(layer, (16, 16))
    assert_close(layer(x), literal(layer, x))


GEOMETRIES = {
    "3x3 without padding": {"padding": 0},
    "1x1 with padding": {"kernel_size": 1, "padding": 1},
    "1x1, stride 2": {"kernel_size": 1, "stride": 2},
    "2x2, stride 2": {"kernel_size": 2, "stride": 2, "padding": 0},
    "rows apart": {"kernel_size": (3, 1), "stride": (2, 1), "padding": (2, 0), "dilation": (2, 1)},
    "columns apart": {"kernel_size": (1, 3), "stride": (1, 2), "padding": (0, 2), "dilation": (1, 2)},
    "three apart": {"stride": 3, "padding": (1, 0), "dilation": (1, 2)},
    "pooled": {"stride": 2, "downsample": "avgpool"},
    "columns pooled": {"stride": (1, 2), "downsample": "avgpool"},
}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_geometry_equals_the_literal_form(number, geometry):
    torch.manual_seed(0)
    for beta, size in itertools.product((0.75, 0.5, 0.25), ((16, 24), (25, 31), (13, 40))):
        layer = stage(number, 0.5, beta=beta, bias=True, channels=(4, 6), **GEOMETRIES[geometry])
        x = branches(layer, size)
        assert_close(layer(x), literal(layer, x))


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("channels", "groups", "alpha"), [((8, 8), 8, 0.5), ((8, 16), 4, 0.25), ((12, 4), 4, 0.75)]
)
@pytest.mark.parametrize("beta", [1.0, 0.75, 0.5])
def test_groups_equal_the_literal_form(number, channels, groups, alpha, beta):
    for options in ({}, {"kernel_size": 1}, {"mcs_mode": "none"}, {"stride": (2, 1)}):
        layer = stage(number, alpha, beta=beta, channels=channels, groups=groups, bias=True, **options)
        x = branches(layer, (12, 9))
        got = layer(x)
        if number == 2 and beta == 1:
            assert_close(got, F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, 1, groups))
        else:
            assert_close(got, literal(layer, x))


@pytest.mark.parametrize(
    ("alpha_in", "alpha_out", "beta", "accepted"),
    [
        (0, 0, 0.5, True),
        (0, 0.5, 0.5, True),
        (0, 0.25, 1, True),
        (0.5, 0.5, 0.5, True),
        (0.5, 0.25, 0.5, False),  # the branches of the output begin at another group
        (0.25, 0.5, 0.5, False),
        (0.5, 0.25, 1, True),  # one tensor: nothing has to be cut
        (0.125, 0.125, 0.5, False),  # half a group
        (0, 0.125, 1, False),
        (0.125, 0.125, 1, True),
        (0.5, 0, 0.5, False),
    ],
)
def test_groups_stay_whole(alpha_in, alpha_out, beta, accepted):
    def make():
        return SFIConv2d(8, 16, 3, groups=4, alpha_in=alpha_in, alpha_out=alpha_out, beta=beta)

    if accepted:
        make()
    else:
        with pytest.raises(ValueError, match="groups=4 cross the border between the branches"):
            make()


def test_stage2_and_3_are_vanilla_convolutions_at_beta_1():
    for number in (2, 3):
        layer, vanilla = stage(number, 0.25), nn.Conv2d(16, 32, 3, padding=1, bias=False)
        layer.load_state_dict(vanilla.state_dict())
        x = torch.randn(2, 16, 9, 9)
        assert torch.equal(layer(x), vanilla(x))


# -- cost -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3])
def test_one_convolution_call_at_beta_1(number):
    layer = stage(number, 0.5)
    with patch("torch.nn.functional.conv2d", wraps=F.conv2d) as conv:
        layer(branches(layer))
    assert conv.call_count == 1


def test_one_convolution_call_where_stage_1_filters_nothing():
    layer = stage(1, 0.5, mcs_mode="none")
    x = branches(layer)
    with patch("torch.nn.functional.conv2d", wraps=F.conv2d) as conv:
        y = layer(x)
    assert conv.call_count == 1 and torch.equal(y, F.conv2d(x, layer.weight, padding=1))


@pytest.mark.parametrize(("beta", "size"), [(0.5, 16), (0.25, 16), (0.5, 15), (0.5, 9), (0.25, 11)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_nothing_is_computed_and_thrown_away(beta, size, kernel):
    layer = stage(2, 0.5, beta=beta, kernel_size=kernel)
    x = branches(layer, (size, size), batch=1)
    with FlopCounterMode(display=False) as counter:
        spa, fre = layer(x)
    area, low = spa.shape[-1] ** 2, fre.shape[-1] ** 2
    block = kernel * kernel * (layer.spa_in * layer.spa_out)  # alpha = 1/2: all four blocks are alike
    assert counter.get_total_flops() // 2 == block * (area + 3 * low)


@pytest.mark.parametrize("beta", [0.5, 0.25])
def test_1x1_stage1_filters_only_where_the_kernel_reads(beta):
    layer = stage(1, 0.5, beta=beta, kernel_size=1)
    with FlopCounterMode(display=False) as counter:
        _, fre = layer(torch.randn(1, 16, 16, 16))
    low = fre.shape[-1] ** 2
    assert counter.get_total_flops() // 2 == 16 * 16 * 256 + (16 * 25 + 16 * 16) * low


# -- behaviour --------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("kernel", [1, 3])
def test_branches_of_a_layer_are_whole_maps_in_channels_last(kernel, beta):
    """No view of a larger map, with or without gradients: the next layer would copy it first."""
    for alpha, stride, size in itertools.product((0.25, 0.5, 1.0), (1, 2), ((24, 24), (19, 19), (15, 9))):
        layer = stage(2, alpha, beta=beta, kernel_size=kernel, stride=stride)
        x = stage(1, alpha, beta=beta, channels=(16, 16))(torch.randn(2, 16, *size))
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                for name, branch in zip(SpaceFreq._fields, layer(x), strict=True):
                    whole = branch.is_contiguous(memory_format=torch.channels_last)
                    assert whole or not branch.numel(), (
                        name,
                        alpha,
                        stride,
                        size,
                        gradients,
                        branch.stride(),
                    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_branches_travel_channels_last_and_the_network_keeps_its_format(layout):
    stages = [stage(n, 0.5, beta=0.5, channels=(16, 16)).to(memory_format=layout) for n in (1, 2, 3)]
    x = torch.randn(2, 16, 12, 12).contiguous(memory_format=layout)
    first = stages[0](x)
    second = stages[1](first)
    assert all(b.is_contiguous(memory_format=torch.channels_last) for b in (*first, *second))
    out = stages[2](second)
    assert out.is_contiguous(memory_format=layout)
    out.sum().backward()
    assert all(s.weight.grad.stride() == s.weight.stride() for s in stages)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_only_on_the_cpu_branches_travel_channels_last(number):
    layer = stage(number, 0.5, beta=0.5).to("meta")
    x = branches(layer)
    y = layer(x.to("meta") if number == 1 else SpaceFreq(*(t.to("meta") for t in x)))
    assert all(t.is_contiguous() for t in joined(y))


@pytest.mark.parametrize("kernel", [1, 3])
def test_channels_last_backward_with_few_channels(kernel):
    """The case in which a strided 1 x 1 convolution crashes inside oneDNN (see `strided_conv2d`)."""
    layer = stage(2, 0.5, beta=0.5, channels=(16, 96), kernel_size=kernel).to(
        memory_format=torch.channels_last
    )
    spa, fre = branches(layer, (64, 64))
    inputs = [t.to(memory_format=torch.channels_last).requires_grad_() for t in (spa, fre)]
    sum(t.sum() for t in layer(SpaceFreq(*inputs))).backward()
    assert all(torch.isfinite(t.grad).all() for t in inputs)


def test_state_dict_is_the_vanilla_one_whatever_alpha_and_beta():
    vanilla = nn.Conv2d(16, 32, 3, padding=1)
    for number, alpha, beta in itertools.product((2, 3), (0.2, 0.5, 1.0), (1.0, 0.5, 0.25)):
        layer = stage(number, alpha, beta=beta, bias=True)
        layer.load_state_dict(vanilla.state_dict())
        nn.Conv2d(16, 32, 3).load_state_dict(layer.state_dict())
        assert torch.equal(layer.weight, vanilla.weight)


@pytest.mark.parametrize("alpha_out", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_bias_is_added_where_nothing_of_the_input_is_spatial(alpha_out, kernel):
    layer = SFIConv2d(8, 8, kernel, padding=kernel // 2, alpha_in=1.0, alpha_out=alpha_out, beta=0.5)
    nn.init.normal_(layer.bias)
    x = branches(layer)
    found, bias = joined(layer(x)), layer.bias.split([n for n in layer.out_rows if n or alpha_out])
    layer.bias = None
    for with_bias, without, b in zip(found, joined(layer(x)), bias, strict=True):
        assert torch.allclose(with_bias, without + b[:, None, None], atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("beta", [1.0, 0.5, 0.25])
def test_alpha_at_its_ends(alpha, beta):
    x = torch.randn(2, 16, 8, 8)
    first = stage(1, alpha, beta=beta, bias=True)
    second = stage(2, alpha, beta=beta, channels=(32, 32), bias=True)
    third = stage(3, alpha, beta=beta, channels=(32, 8), bias=True)
    norm = SFIBatchNorm2d(32, frequency_channels(32, alpha))
    y = third(norm(second(first(x))))
    assert y.shape == (2, 8, 8, 8)
    y.sum().backward()
    if alpha == 0:
        assert (first.stage, second.stage, third.stage) == (None, None, None)


@pytest.mark.parametrize(("alpha_in", "alpha_out", "number"), [(0, 0, None), (0, 1, 1), (1, 1, 2), (1, 0, 3)])
def test_the_stage_follows_from_where_branches_are(alpha_in, alpha_out, number):
    layer = SFIConv2d(1, 1, 1, alpha_in=alpha_in, alpha_out=alpha_out)
    assert layer.stage == number and f"stage={number}, alpha_in={alpha_in}, " in repr(layer)
    assert (layer.mcs is not None) == (number == 1)
    assert layer.bias is not None


@pytest.mark.parametrize(
    ("size", "beta", "low"),
    [(7, 0.5, 3), (1, 0.25, 1), (8, 0, 1), (9, Fraction(1, 3), 3), (7, Fraction(1, 3), 2),
     (90, Fraction(7, 10), 63), (1, Fraction(1, 3), 1)],
)  # fmt: skip
def test_a_size_is_rounded_down_and_never_below_1(size, beta, low):
    assert frequency_size(size, beta) == low


def test_a_share_of_channels_is_rounded_down():
    assert [frequency_channels(c, Fraction(1, 3)) for c in (1, 3, 5, 64)] == [0, 1, 1, 21]
    assert [frequency_channels(32, alpha) for alpha in (0, 0.2, 0.5, 1)] == [0, 6, 16, 32]


@pytest.mark.parametrize("value", [True, "0.5", None, 1.1, -0.1, float("nan")])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(ValueError, match=r"layer1: alpha must (be a number|lie) in \[0, 1\], got"):
        check_ratio("alpha", value, where="layer1")


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1, Fraction(1, 3)])
def test_both_ends_and_all_between_are_shares(value):
    check_ratio("alpha", value, where="layer1")


@pytest.mark.parametrize("argument", ["in_channels", "out_channels", "groups"])
@pytest.mark.parametrize("count", [True, 0, -1, 2.0])
def test_counts_are_whole_numbers(argument, count):
    with pytest.raises(ValueError, match=f"{argument} must be a positive integer, got {count}"):
        SFIConv2d(
            **{"in_channels": 4, "out_channels": 4, argument: count}, kernel_size=1, alpha_in=0, alpha_out=0
        )


def test_a_branch_that_holds_all_channels_leaves_the_other_empty():
    first, second = stage(1, 1.0, beta=0.5), stage(2, 1.0, beta=0.5, channels=(32, 32), groups=32, bias=True)
    spa, fre = first(torch.randn(2, 16, 8, 6))
    assert (spa.shape, fre.shape) == ((2, 0, 8, 6), (2, 32, 4, 3))
    y = second(SpaceFreq(spa, fre))
    assert y.spa.shape == (2, 0, 8, 6)
    assert torch.allclose(y.fre, F.conv2d(fre, second.weight, second.bias, padding=1, groups=32), atol=1e-5)


def test_branches_have_the_sizes_of_the_paper():
    layer = stage(1, 0.3, beta=0.25, channels=(10, 10))
    spa, fre = layer(torch.randn(1, 10, 7, 3))
    assert spa.shape == (1, 7, 7, 3)
    assert fre.shape == (1, 3, 1, 1)


def test_depthwise_keeps_to_its_branch():
    layer = stage(2, 0.5, beta=0.5, channels=(8, 8), groups=8)
    spa, fre = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    out = layer(SpaceFreq(spa, fre))
    changed = layer(SpaceFreq(spa, torch.zeros_like(fre)))
    assert torch.equal(out.spa, changed.spa)
    assert not torch.equal(out.fre, changed.fre)


def test_block_initialisation_is_by_fan_out():
    torch.manual_seed(0)
    layer = stage(2, 0.25, channels=(256, 256), bias=True)
    layer.reset_blocks()
    for rows, fan_out in ((layer.weight[:192], 9 * 192), (layer.weight[192:], 9 * 64)):
        assert rows.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.01)
        assert abs(rows.mean().item()) < 0.01 * (2 / fan_out) ** 0.5
    assert not layer.bias.any() and layer.weight.requires_grad
    layer.reset_vanilla()
    assert layer.weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert not layer.bias.any()


def test_a_grouped_block_is_initialised_by_the_fan_out_of_a_group():
    torch.manual_seed(0)
    layer = stage(2, 0.5, channels=(1024, 2048), groups=1024)
    layer.reset_blocks()  # an input channel feeds the two rows of its group
    assert layer.weight.std().item() == pytest.approx((2 / (2 * 9)) ** 0.5, rel=0.02)
    stage(1, 1.0, bias=True).reset_blocks()


# -- a weight that changes between calls ------------------------------------------------------------


def optimizer_step(layer: SFIConv2d) -> None:
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.SGD(layer.parameters(), lr=0.5).step()


CHANGES = {
    "optimizer step": optimizer_step,
    "state dict": lambda layer: layer.load_state_dict({k: t + 1 for k, t in layer.state_dict().items()}),
    "write to .data, which PyTorch does not count": lambda layer: layer.weight.data[1, 1, 1, 1].add_(100),
    "new .data": lambda layer: setattr(layer.weight, "data", torch.randn_like(layer.weight)),
    "new parameter": lambda layer: setattr(layer, "weight", nn.Parameter(torch.randn_like(layer.weight))),
    "another type and back": lambda layer: layer.to(torch.bfloat16).to(torch.float32),
}


@pytest.mark.parametrize("beta", [0.75, 0.5])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_weight_is_used(change, beta):
    layer = stage(2, 0.5, beta=beta, bias=True).eval()
    x = branches(layer)
    with torch.no_grad():
        before = layer(x)
    CHANGES[change](layer)
    with torch.no_grad():
        after = layer(x)
        assert_close(after, literal(layer, x))
    assert not torch.equal(after.spa, before.spa)


@pytest.mark.slow
def test_export_and_compile_see_the_weight_itself():
    layer = stage(2, 0.5, beta=0.5).eval()
    x = branches(layer)
    with torch.no_grad():
        layer(x)
        exported = torch.export.export(layer, (x,)).module()
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for changed in (False, True):
            if changed:
                layer.weight.mul_(2)
                exported.weight.copy_(layer.weight)
            for run in (exported, compiled):
                assert_close(run(x), literal(layer, x))
