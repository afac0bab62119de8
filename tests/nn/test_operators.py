"""What every operator has to do, whichever it is: one check a test, over all entries of the harness."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from tests.nn.harness import OPERATORS, Operator, as_features, with_known_numbers
from tests.nn.reference import Features, assert_close, joined
from torch import Tensor, nn
from torch.func import functional_call

from sficonv.nn import MCSConv, SFIBatchNorm2d, SFIConv2d, SpaceFreq, complexity


@pytest.fixture(params=OPERATORS)
def operator(request: pytest.FixtureRequest) -> Operator:
    torch.manual_seed(0)
    return OPERATORS[request.param]


def each(x: Features, change: Callable[[Tensor], Tensor]) -> Features:
    return as_features([change(t) for t in joined(x)])


def size(y: Features) -> list[tuple[int, ...]]:
    return [tuple(t.shape[1:]) for t in joined(y)]


def test_smoke(operator: Operator) -> None:
    module = operator.make()
    y = module(operator.input())
    assert size(y) == list(operator.outputs)
    assert all(t.dtype == torch.float32 and torch.isfinite(t).all() and t.std() > 0 for t in joined(y))
    assert type(module).__name__ in repr(module)


def test_numbers_are_those_of_the_formula(operator: Operator) -> None:
    for batch in (1, 3):
        module, x = operator.make(), operator.input(batch)
        assert_close(module(x), operator.literal(module, x))


def test_golden_numbers(operator: Operator) -> None:
    """Known parameters and input: the formula's own code cannot drift along with the operator's."""
    with torch.no_grad():
        outputs = joined(with_known_numbers(operator.make())(operator.known_input()))
    total, squares = (sum(float(f(t.double()).sum()) for t in outputs) for f in (torch.clone, torch.square))
    spread = (squares * sum(t.numel() for t in outputs)) ** 0.5
    assert total == pytest.approx(operator.golden[0], abs=1e-5 * spread)
    assert squares == pytest.approx(operator.golden[1], rel=1e-4)


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_shapes_whatever_the_batch(operator: Operator, batch: int) -> None:
    if batch == 0 and not operator.separate:
        pytest.skip("statistics of no image do not exist")
    with torch.no_grad():
        y = operator.make()(operator.input(batch))
    assert size(y) == list(operator.outputs) and all(len(t) == batch for t in joined(y))


def test_shapes_without_storage(operator: Operator) -> None:
    y = operator.make().to("meta")(each(operator.input(), lambda t: t.to("meta")))
    assert size(y) == list(operator.outputs)


def test_images_do_not_see_each_other(operator: Operator) -> None:
    if not operator.separate:
        pytest.skip("counts over the batch")
    module, x = operator.make(), operator.input(3)
    whole = module(x)
    for i in range(3):
        assert_close(module(each(x, lambda t, i=i: t[i : i + 1])), each(whole, lambda t, i=i: t[i : i + 1]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 0.03)])
def test_dtypes(operator: Operator, dtype: torch.dtype, tolerance: float) -> None:
    module, x = operator.make(), operator.input(4)
    other = copy.deepcopy(module).to(dtype)(each(x, lambda t: t.to(dtype)))
    assert all(t.dtype == dtype for t in joined(other))
    assert_close(other, module(x), tolerance)


def test_autocast_keeps_half_precision(operator: Operator) -> None:
    """Between layers of a network that runs under autocast."""
    module, x = operator.make(), operator.input(4)
    with torch.autocast("cpu", torch.bfloat16):
        low = module(each(x, Tensor.bfloat16))
    assert all(t.dtype == torch.bfloat16 for t in joined(low))
    assert_close(low, module(x), 0.03)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
def test_memory_formats_give_the_same_numbers(operator: Operator, mixed: bool, gradient: bool) -> None:
    module, x = operator.make(), operator.input()
    last = [t.contiguous(memory_format=torch.channels_last) for t in joined(x)]
    if mixed:  # the input's format, or that of one branch, is not the network's
        last[1:] = joined(x)[1:]
    else:
        module = module.to(memory_format=torch.channels_last)
    with torch.set_grad_enabled(gradient):
        y = module(as_features(last))
    assert_close(y, operator.literal(module, x))
    assert mixed or all(t.stride(1) == 1 for t in joined(y))  # a branch may be a part of a tensor


def test_without_gradients_the_numbers_are_the_same(operator: Operator) -> None:
    module, x = operator.make(), operator.input()
    with torch.inference_mode():
        inferred = module(x)
    assert_close(inferred, module(x))


# -- gradients --------------------------------------------------------------------------------------


def gradients(module: nn.Module, x: Features, y: Features) -> list[Tensor]:
    trained = [*joined(x), *(p for p in module.parameters() if p.requires_grad)]
    loss = sum((t * torch.linspace(-1, 1, t.numel()).view_as(t)).sum() for t in joined(y))
    return list(torch.autograd.grad(loss, trained))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_the_formula(operator: Operator, layout: torch.memory_format) -> None:
    module = operator.make().to(memory_format=layout)
    x = each(operator.input(), lambda t: t.contiguous(memory_format=layout).requires_grad_())
    got = gradients(module, x, module(x))
    wanted = gradients(module, x, operator.literal(module, x))
    scale = max(t.abs().max() for t in wanted)
    for a, b in zip(got, wanted, strict=True):
        assert torch.isfinite(a).all() and (a - b).abs().max() < 2e-5 * scale


def test_gradcheck(operator: Operator) -> None:
    """Against finite differences, of the input and of every trained parameter."""
    module, x = operator.make().double(), operator.input(2, torch.float64)
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    values = [dict(module.named_parameters())[name].detach().clone() for name in names]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        features, parameters = tensors[: len(joined(x))], tensors[len(joined(x)) :]
        given = dict(zip(names, parameters, strict=True))
        return tuple(joined(functional_call(module, given, (as_features(list(features)),))))

    tensors = [t.requires_grad_() for t in (*joined(x), *values)]
    assert torch.autograd.gradcheck(run, tensors, fast_mode=True)


# -- copies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_a_copy_gives_the_same_numbers(operator: Operator, how: str) -> None:
    module, x = operator.make(), operator.input()
    wanted = module(x)
    if how == "state_dict":
        copied = operator.make()
        copied.load_state_dict(module.state_dict(), strict=True)
    else:
        copied = copy.deepcopy(module) if how == "deepcopy" else pickle.loads(pickle.dumps(module))
    for a, b in zip(joined(copied(x)), joined(wanted), strict=True):
        assert torch.equal(a, b)


# -- compiled and exported --------------------------------------------------------------------------

COMPILED = ["stage1-beta1", "stage1-beta0.5", "stage2-beta1", "stage2-beta0.5", "stage3-beta0.5",
            "mcsconv-reparam", "norm-training"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compile(name: str) -> None:
    torch._dynamo.reset()
    operator = OPERATORS[name]
    module, x = operator.make(), each(operator.input(), Tensor.requires_grad_)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    y, wanted = compiled(x), module(x)
    assert_close(y, wanted)
    for a, b in zip(gradients(module, x, y), gradients(module, x, wanted), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stage1-beta0.5", "stage2-beta0.5", "stage3-beta0.5", "norm-evaluation"])
def test_export(name: str) -> None:
    operator = OPERATORS[name]
    module, x = operator.make().eval(), operator.input()
    with torch.no_grad():
        exported = torch.export.export(module, (x,)).module()
        assert_close(exported(x), module(x))


# -- exceptions -------------------------------------------------------------------------------------

LAYER = {"in_channels": 16, "out_channels": 32, "kernel_size": 3, "alpha_in": 0.5, "alpha_out": 0.5}
MCS, NORM = {"channels": 4}, {"num_features": 8, "fre_channels": 2}


@pytest.mark.parametrize(
    ("kind", "good", "wrong"),
    [
        (SFIConv2d, LAYER, {"alpha_in": 1.5}),
        (SFIConv2d, LAYER, {"alpha_in": "half"}),
        (SFIConv2d, LAYER, {"alpha_out": -0.1}),
        (SFIConv2d, LAYER, {"alpha_out": float("nan")}),
        (SFIConv2d, LAYER, {"beta": -0.1}),
        (SFIConv2d, LAYER, {"beta": 2}),
        (SFIConv2d, LAYER, {"in_channels": 0}),
        (SFIConv2d, LAYER, {"out_channels": 2.5}),
        (SFIConv2d, LAYER, {"groups": 3}),
        (SFIConv2d, LAYER, {"mcs_mode": "learned"}),
        (SFIConv2d, LAYER, {"downsample": "max"}),
        (SFIConv2d, LAYER, {"padding": "same"}),
        (MCSConv, MCS, {"channels": 0}),
        (MCSConv, MCS, {"kernel_size": 4}),
        (MCSConv, MCS, {"kernel_size": 1}),
        (MCSConv, MCS, {"mode": "none"}),
        (MCSConv, MCS, {"mode": "learned"}),
        (SFIBatchNorm2d, NORM, {"fre_channels": -1}),
        (SFIBatchNorm2d, NORM, {"fre_channels": 9}),
        (complexity, {"model": nn.Conv2d(3, 4, 1)}, {"image_size": 0}),
    ],
)
def test_exceptions_name_the_argument(kind: Callable, good: dict, wrong: dict) -> None:
    kind(**good)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**good | wrong)


def test_exceptions_name_the_layer() -> None:
    with pytest.raises(ValueError, match=r"layer3\.1\.conv2: beta"):
        SFIConv2d(**LAYER | {"beta": 2, "name": "layer3.1.conv2"})
    with pytest.raises(ValueError, match=r"layer7: groups=2 cross the border"):
        SFIConv2d(16, 16, 3, groups=2, alpha_in=0.25, alpha_out=0.25, beta=0.5, name="layer7")


@pytest.mark.parametrize("name", ["stage2-beta0.5", "stage3-beta0.75"])
def test_a_tensor_where_branches_belong_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="takes a SpaceFreq"):
        OPERATORS[name].make()(torch.randn(1, 4, 7, 5))


@pytest.mark.parametrize(
    ("name", "channels"), [("vanilla", (2, 2)), ("stage1-beta0.5", (2, 2)), ("stage2-beta0.5", (3, 1))]
)
def test_branches_of_other_channels_are_refused(name: str, channels: tuple[int, int]) -> None:
    x = SpaceFreq(torch.randn(1, channels[0], 7, 5), torch.randn(1, channels[1], 3, 2))
    message = rf"takes \d spatial and \d high-frequency channels, got {channels[0]} and {channels[1]}"
    with pytest.raises(ValueError, match=message):
        OPERATORS[name].make()(x)
