"""SFIConv2d: numbers, shapes, gradients, execution cost and errors."""

import itertools
import json
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sficonv.nn import MCSConv, SFIBatchNorm2d, SFIConv2d, SpaceFreq, frequency_channels, frequency_size

HERE = Path(__file__).parent


def load_reference():
    import importlib.util

    spec = importlib.util.spec_from_file_location("nn_reference", HERE / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.literal


literal = load_reference()


def stage(number: int, alpha: float, **options) -> SFIConv2d:
    options = {"kernel_size": 3, "padding": options.get("kernel_size", 3) // 2, "bias": False, **options}
    c_in, c_out = options.pop("channels", (16, 32))
    return SFIConv2d(
        c_in, c_out, alpha_in=0 if number == 1 else alpha, alpha_out=0 if number == 3 else alpha, **options
    )


def branches(layer: SFIConv2d, size=(16, 16), batch=2, dtype=torch.float32) -> torch.Tensor | SpaceFreq:
    """Input for a layer: a tensor at Stage 1 or beta = 1, else a pair of branches."""
    if layer.stage in (1, None) or layer.beta == 1:
        return torch.randn(batch, layer.in_channels, *size, dtype=dtype)
    low = [frequency_size(s, layer.beta) for s in size]
    return SpaceFreq(
        torch.randn(batch, layer.spa_in, *size, dtype=dtype),
        torch.randn(batch, layer.fre_in, *low, dtype=dtype),
    )


def as_pair(layer: SFIConv2d, x):
    """At beta = 1 the branches travel as one tensor; the literal form takes them apart."""
    if isinstance(x, SpaceFreq) or layer.stage == 1:
        return x
    return SpaceFreq(x[:, : layer.spa_in], x[:, layer.spa_in :])


def joined(y) -> list[torch.Tensor]:
    return [y] if isinstance(y, torch.Tensor) else list(y)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm() / b.norm().clamp_min(1e-12)).detach())


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
        y, wanted = layer(x), literal(layer, as_pair(layer, x))
        if isinstance(y, torch.Tensor) and isinstance(wanted, SpaceFreq):
            wanted = torch.cat(wanted, 1)
        for a, b in zip(joined(y), joined(wanted), strict=True):
            assert a.shape == b.shape
            assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("downsample", ["avgpool", "strided"])
def test_stride_equals_the_literal_form(number, downsample):
    layer = stage(number, 0.5, beta=0.5, stride=2, downsample=downsample)
    x = branches(layer, (16, 16))
    for a, b in zip(joined(layer(x)), joined(literal(layer, x)), strict=True):
        assert relative_error(a, b) < 1e-5


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


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("beta", [1.0, 0.75, 0.5])
@pytest.mark.parametrize("mode", ["reparam", "projected"])
def test_gradients(number, beta, mode):
    layer = stage(number, 0.5, beta=beta, channels=(4, 4), mcs_mode=mode).double()
    x = branches(layer, (5, 5), batch=1, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in joined(x)]

    def run(*tensors):
        y = layer(tensors[0] if isinstance(x, torch.Tensor) else SpaceFreq(*tensors))
        return y if isinstance(y, torch.Tensor) else tuple(y)

    assert torch.autograd.gradcheck(run, inputs)
    sum(t.sum() for t in joined(layer(x))).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("beta", [1.0, 0.75, 0.5])
def test_bf16_autocast(number, beta):
    layer = stage(number, 0.5, beta=beta)
    x = branches(layer)
    with torch.autocast("cpu", torch.bfloat16):
        low = joined(layer(x))
    for a, b in zip(low, joined(layer(x)), strict=True):
        assert a.dtype == torch.bfloat16
        assert relative_error(a.float(), b) < 0.02


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_channels_last(beta):
    layer = stage(2, 0.25, beta=beta)
    x = branches(layer)
    wanted = joined(layer(x))
    last = [t.to(memory_format=torch.channels_last) for t in joined(x)]
    got = joined(layer.to(memory_format=torch.channels_last)(last[0] if beta == 1 else SpaceFreq(*last)))
    for a, b in zip(got, wanted, strict=True):
        assert a.is_contiguous(memory_format=torch.channels_last)
        assert relative_error(a, b) < 1e-5


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


@pytest.mark.parametrize("kernel", [1, 3])
def test_branches_in_another_format_give_the_same_numbers(kernel):
    layer = stage(2, 0.5, beta=0.5, kernel_size=kernel)
    x = branches(layer)
    others = [SpaceFreq(*(t.contiguous(memory_format=torch.channels_last) for t in x)),
              SpaceFreq(x.spa.contiguous(memory_format=torch.channels_last), x.fre)]  # fmt: skip
    for other in others:
        for a, b in zip(layer(other), layer(x), strict=True):
            assert relative_error(a, b) < 1e-5


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


@pytest.mark.slow
def test_compile():
    for number, beta in itertools.product((1, 2, 3), (1.0, 0.5)):
        torch._dynamo.reset()
        layer = stage(number, 0.5, beta=beta)
        x = branches(layer)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for a, b in zip(joined(compiled(x)), joined(layer(x)), strict=True):
            assert relative_error(a, b) < 1e-5


def test_state_dict_is_the_vanilla_one_whatever_alpha_and_beta():
    vanilla = nn.Conv2d(16, 32, 3, padding=1)
    for number, alpha, beta in itertools.product((2, 3), (0.2, 0.5, 1.0), (1.0, 0.5, 0.25)):
        layer = stage(number, alpha, beta=beta, bias=True)
        layer.load_state_dict(vanilla.state_dict())
        nn.Conv2d(16, 32, 3).load_state_dict(layer.state_dict())
        assert torch.equal(layer.weight, vanilla.weight)


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
    layer = stage(2, 0.25, channels=(256, 256), kernel_size=1)
    layer.reset_blocks()
    assert layer.weight[:192].std().item() == pytest.approx((2 / 192) ** 0.5, rel=0.02)
    assert layer.weight[192:].std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.02)


# -- a weight that changes between calls ------------------------------------------------------------


def optimizer_step(layer, x):
    layer.train()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    sum(t.square().sum() for t in layer(x)).backward()
    optimizer.step()
    layer.eval()


def optimizer_step_without_train(layer, x):
    sum(t.square().sum() for t in layer(x)).backward()
    torch.optim.Adam(layer.parameters(), lr=0.5).step()


def load(layer, x):
    layer.load_state_dict({k: torch.randn_like(v) for k, v in layer.state_dict().items()})


def load_assign(layer, x):
    layer.load_state_dict({k: torch.randn_like(v) for k, v in layer.state_dict().items()}, assign=True)


def edit_one_element(layer, x):
    with torch.no_grad():
        layer.weight[1, 1, 1, 1] += 100


def replace_data_but_for_one_element(layer, x):
    changed = layer.weight.detach().clone()
    changed[1, 1, 1, 1] += 100
    layer.weight.data = changed


def another_parameter_in_the_same_memory(layer, x):
    writes = layer.weight._version
    layer.weight = nn.Parameter(layer.weight.data)
    with torch.no_grad():
        for _ in range(writes):  # PyTorch counts anew
            layer.weight[1, 1, 1, 1].add_(100)
    assert layer.weight._version == writes > 0


def edit_data(layer, x):
    layer.weight.data.mul_(2)  # a write that PyTorch does not count


def edit_one_element_of_data(layer, x):
    layer.weight.data[1, 1, 1, 1] += 100


def replace_data(layer, x):
    layer.weight.data = torch.randn_like(layer.weight)


def replace_data_where_the_old_one_lay(layer, x):
    for _ in range(8):
        layer.weight.data = torch.randn_like(layer.weight)


def replace_parameter(layer, x):
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))


def to_another_type_and_back(layer, x):
    layer.to(torch.bfloat16).to(torch.float32)


def to_channels_last(layer, x):
    layer.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("beta", [0.75, 0.5])
@pytest.mark.parametrize(
    "change",
    [
        optimizer_step, optimizer_step_without_train, load, load_assign, edit_one_element,
        edit_one_element_of_data, edit_data,
        replace_data, replace_data_where_the_old_one_lay, replace_parameter,
        replace_data_but_for_one_element, another_parameter_in_the_same_memory, to_another_type_and_back,
        to_channels_last,
    ],
)  # fmt: skip
def test_a_changed_weight_is_used(change, beta):
    layer = stage(2, 0.5, beta=beta, bias=True).eval()
    x = branches(layer)
    with torch.no_grad():
        before = layer(x)
    change(layer, x)
    with torch.no_grad():
        after, wanted = layer(x), literal(layer, x)
    assert all(relative_error(a, b) < 1e-5 for a, b in zip(after, wanted, strict=True))
    assert change is to_channels_last or not torch.equal(after.spa, before.spa)


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
                for a, b in zip(run(x), literal(layer, x), strict=True):
                    assert relative_error(a, b) < 1e-5


# -- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("alpha_in", {"alpha_in": 1.5}),
        ("alpha_in", {"alpha_in": "half"}),
        ("alpha_out", {"alpha_out": -0.1}),
        ("alpha_out", {"alpha_out": float("nan")}),
        ("beta", {"beta": -0.1}),
        ("beta", {"beta": 2}),
        ("in_channels", {"in_channels": 0}),
        ("out_channels", {"out_channels": 2.5}),
        ("groups", {"groups": 3}),
        ("mcs_mode", {"mcs_mode": "learned"}),
        ("downsample", {"downsample": "max"}),
        ("padding", {"padding": "same"}),
    ],
)
def test_errors_name_the_argument_and_the_layer(argument, options):
    given = {
        "in_channels": 16, "out_channels": 32, "kernel_size": 3, "alpha_in": 0.5, "alpha_out": 0.5,
        "name": "layer3.1.conv2", **options,
    }  # fmt: skip
    with pytest.raises(ValueError, match=argument) as caught:
        SFIConv2d(**given)
    assert "layer3.1.conv2" in str(caught.value)


def test_groups_across_the_border_are_refused():
    with pytest.raises(ValueError, match=r"layer7: groups=2 cross the border"):
        SFIConv2d(16, 16, 3, groups=2, alpha_in=0.25, alpha_out=0.25, beta=0.5, name="layer7")


def test_stage2_needs_branches_at_beta_below_1():
    with pytest.raises(TypeError, match="takes a SpaceFreq"):
        stage(2, 0.5, beta=0.5)(torch.randn(1, 16, 8, 8))
