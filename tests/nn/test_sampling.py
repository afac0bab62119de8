"""Nearest resizing, its sums and its gradients are those of `F.interpolate` and `F.conv2d`."""

import itertools
from unittest.mock import patch

import pytest
import torch
from tests.nn.reference import relative_error
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sficonv.nn import frequency_size
from sficonv.nn.sampling import (
    add,
    add_upsampled,
    average_pool,
    resize,
    sampled_conv2d,
    samples_cheaply,
    strided_conv2d,
    uniform_step,
    with_samples,
)


def nearest(full: int, size: int) -> list[int]:
    """The positions that nearest resizing reads."""
    return F.interpolate(torch.arange(float(full)).view(1, 1, full), size=size).int().flatten().tolist()


@pytest.mark.parametrize("full", [*range(1, 70), 106, 126, 168, 299, 518])
def test_sampling_keeps_what_nearest_resizing_keeps(full):
    x = torch.arange(full, dtype=torch.float32).view(1, 1, 1, full).expand(1, 1, full, full).contiguous()
    one = torch.ones(1, 1, 1, 1)
    for beta in (0.25, 1 / 3, 0.5, 0.6, 0.7, 0.75):
        size = (frequency_size(full, beta),) * 2
        assert torch.equal(sampled_conv2d(x, one, None, size), F.interpolate(x, size=size, mode="nearest"))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7), (9, 12), (16, 5)])
def test_resizing_is_nearest_interpolation(size, layout):
    x = torch.randn(2, 6, *size).contiguous(memory_format=layout)[:, 1:5]  # a branch is a part of a tensor
    for other in itertools.product((1, 2, 3, 8, 14, 21, 36), (1, 5, 9, 24)):
        wanted = F.interpolate(x, size=other, mode="nearest")
        assert torch.equal(resize(x, other), wanted)
        if other >= size and other[1] >= size[1]:
            full = torch.randn(2, 4, *other).contiguous(memory_format=layout)
            for gradient in (False, True):
                assert torch.equal(add_upsampled(full, x.detach().requires_grad_(gradient)), full + wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(6, 8), (3, 4), (3, 2), (4, 5), (1, 1)])
def test_gradients_of_a_sum_with_an_upsampled_branch(size, layout):
    x = torch.randn(2, 4, 6, 8).contiguous(memory_format=layout).requires_grad_()
    low = torch.randn(2, 6, *size).contiguous(memory_format=layout)[:, 1:5].requires_grad_()
    wanted = x + F.interpolate(low, size=(6, 8), mode="nearest")
    got = add_upsampled(x, low)
    assert torch.equal(got, wanted)
    assert torch.equal(add_upsampled(x, low).relu_(), wanted.relu())  # what follows may work in place
    given = torch.randn_like(wanted)
    for a, b in zip(*(torch.autograd.grad(y, (x, low), given) for y in (got, wanted)), strict=True):
        assert relative_error(a, b) < 1e-6
    with torch.no_grad():
        assert torch.equal(add_upsampled(x.clone(), low), wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(6, 8), (3, 4), (3, 8), (4, 5), (3, 5), (4, 4), (5, 7), (2, 2), (1, 1)])
def test_gradients_of_samples_meet_in_one_map(size, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 8).contiguous(memory_format=layout).requires_grad_()
    kernels = torch.randn(2, 3, 4, 1, 1)

    def readers(whole, samples):
        return F.conv2d(whole, kernels[0]), F.conv2d(samples, kernels[1])

    got = readers(*with_samples(x, size))
    wanted = readers(x, F.interpolate(x, size=size, mode="nearest"))
    assert all(map(torch.equal, got, wanted))
    for power in (2, 3):  # both outputs, and a second derivative
        first = [torch.autograd.grad(sum(y.pow(power).sum() for y in pair), x, create_graph=True)[0]
                 for pair in (got, wanted)]  # fmt: skip
        second = [torch.autograd.grad(g.square().sum(), x)[0] for g in first]
        assert relative_error(*first) < 1e-6
        assert relative_error(*second) < 1e-6
        got = readers(*with_samples(x, size))
        wanted = readers(x, F.interpolate(x, size=size, mode="nearest"))
    for one in (0, 1):  # one reader only; and a gradient that is one number, spread
        whole, wanted = with_samples(x, size), (x, F.interpolate(x, size=size, mode="nearest"))
        assert torch.equal(*(torch.autograd.grad(pair[one].sum(), x)[0] for pair in (whole, wanted)))


def test_every_size_is_resized_as_interpolation_does():
    for full, kept in itertools.product([*range(1, 49), 112, 126, 299], [*range(1, 65), 192, 224]):
        x = torch.arange(full, dtype=torch.float32).view(1, 1, 1, full)
        wanted = F.interpolate(x, size=(3, kept), mode="nearest")
        assert torch.equal(resize(x, (3, kept)), wanted)
        if kept >= full:
            assert torch.equal(add_upsampled(torch.zeros(1, 1, 3, kept), x), wanted)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (4, 3), (4, 4)])
@pytest.mark.parametrize("stride", [1, 2])
def test_strides_give_the_same_numbers(kernel, size, stride):
    x = torch.randn(3, 24, *size, requires_grad=True)
    weight, bias = torch.randn(40, 24, kernel, kernel, requires_grad=True), torch.randn(40)
    options = {"stride": (stride, stride), "padding": (kernel // 2,) * 2, "dilation": (1, 1)}
    got, wanted = strided_conv2d(x, weight, bias, **options), F.conv2d(x, weight, bias, **options)
    assert relative_error(got, wanted) < 1e-5
    given = torch.randn_like(wanted)
    for a, b in zip(*(torch.autograd.grad(y, (x, weight), given) for y in (got, wanted)), strict=True):
        assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (3, 3)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 3)])
def test_pooling_has_the_size_of_a_padded_convolution(size, stride):
    x = torch.randn(2, 4, *size)
    strided = F.conv2d(x, torch.ones(1, 4, 3, 3), stride=stride, padding=1)
    pooled = average_pool(x, stride)
    assert pooled.shape[2:] == strided.shape[2:]
    assert torch.allclose(pooled[..., 0, 0], x[:, :, : stride[0], : stride[1]].mean((-2, -1)), atol=1e-6)
    assert average_pool(x[:, :0], stride).shape[2:] == strided.shape[2:]


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (1, 3), (3, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (0, 1)])
def test_a_sampled_convolution_is_the_convolution_resized(kernel, stride, padding):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 4, 12, 13), torch.randn(6, 2, *kernel), torch.randn(6)
    for dilation in ((1, 1), (2, 3)):
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2}
        whole = F.conv2d(x, weight, bias, **options)
        for size in itertools.product(range(1, whole.shape[-2] + 1, 2), range(1, whole.shape[-1] + 1)):
            got = sampled_conv2d(x, weight, bias, size, **options)
            assert torch.allclose(got, F.interpolate(whole, size=size), atol=1e-4)


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "positions"),
    [
        ((8, 4), 3, 1, 8 * 4),
        ((16, 8), 3, 1, 16 * 8),
        ((12, 12), 1, 0, 12 * 12),
        ((12, 8), 3, 1, 16 * 16),
        ((8, 12), 3, 1, 16 * 16),
        ((12, 12), 1, 1, 18 * 18),
        ((9, 9), 1, 1, 9 * 9),
        ((16, 16), 1, 0, 16 * 16),
    ],
)
def test_only_positions_that_remain_are_computed_where_that_is_cheap(size, kernel, padding, positions):
    weight = torch.randn(3, 4, kernel, kernel)
    with FlopCounterMode(display=False) as counter:
        sampled_conv2d(torch.randn(1, 4, 16, 16), weight, None, size, padding=(padding, padding))
    assert counter.get_total_flops() // 2 == weight.numel() * positions
    full = (16 + 2 * padding - kernel + 1,) * 2
    cheap = samples_cheaply(full, size, (kernel, kernel), (padding, padding))
    assert cheap == (positions < full[0] * full[1])


def test_a_step_is_found_wherever_the_samples_have_one():
    for full in (*range(1, 49), 112, 126):
        for kept in range(1, full + 1):
            positions = nearest(full, kept)
            step = positions[1] if kept > 1 else full
            wanted = step if kept == 1 or positions == list(range(0, step * kept, step)) else None
            assert uniform_step(full, kept) == wanted, (full, kept)


def test_nothing_is_stored_enlarged_where_every_sample_repeats():
    for high in (*range(1, 33), 56, 112, 123):
        for low in range(1, high):
            repeats = high % low == 0 and nearest(low, high) == [i // (high // low) for i in range(high)]
            for x, y in (
                (torch.zeros(1, 1, high, 4), torch.ones(1, 1, low, 2)),
                (torch.zeros(1, 1, 4, high), torch.ones(1, 1, 2, low)),
            ):
                with patch("torch.nn.functional.interpolate", wraps=F.interpolate) as enlarged:
                    add_upsampled(x, y)
                assert enlarged.called != repeats, (low, high)


def test_sums_take_the_memory_of_a_term_only_without_gradients():
    x, y = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    for sum_of in (add, add_upsampled):
        assert sum_of(x, y) is not x and torch.equal(x, y)
    assert add_upsampled(x, y[..., :2, :2]) is not x and torch.equal(x, y)
    with torch.no_grad():
        assert all(
            f(x, term) is x for f, term in ((add, y), (add_upsampled, y), (add_upsampled, y[..., :2, :2]))
        )
    assert torch.equal(x, 4 * y)


def test_resizing_to_the_same_size_is_free_and_of_no_channels_too():
    x = torch.randn(2, 3, 5, 4)
    assert resize(x, (5, 4)) is x
    assert resize(x[:, :0], (2, 3)).shape == (2, 0, 2, 3)
    assert average_pool(x[:, :0], (2, 3)).shape == (2, 0, 3, 2)


@pytest.mark.parametrize(("size", "odd"), [((4, 6), False), ((4, 5), True), ((3, 6), True)])
def test_windows_beyond_the_border_are_asked_for_only_where_there_are_some(size, odd):
    with patch("torch.nn.functional.avg_pool2d", wraps=F.avg_pool2d) as pool:
        average_pool(torch.randn(1, 2, *size), (2, 3) if size[1] == 6 else (2, 2))
    assert pool.call_args.kwargs == {"ceil_mode": odd}


@pytest.mark.parametrize("stride", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_strided_point_never_reaches_onednn(stride):
    x, point = torch.randn(2, 4, 6, 8), torch.randn(3, 4, 1, 1)
    for weight, padding, passed in (
        (point, (0, 0), (1, 1)), (point, (0, 1), stride), (torch.randn(3, 4, 1, 3), (0, 0), stride),
    ):  # fmt: skip
        with patch("torch.nn.functional.conv2d", wraps=F.conv2d) as conv:
            got = strided_conv2d(x, weight, None, stride, padding)
        assert conv.call_args.args[3] == passed
        assert torch.allclose(got, F.conv2d(x, weight, None, stride, padding), atol=1e-5)


def test_gradients_meet_in_one_map_where_there_are_any():
    x = torch.randn(1, 2, 6, 8)
    assert with_samples(x, (3, 4))[1].grad_fn is None
    x.requires_grad_()
    assert {type(t.grad_fn).__name__ for t in with_samples(x, (3, 4))} == {"_WithSamplesBackward"}
    with torch.no_grad():
        assert with_samples(x, (3, 4))[1].grad_fn is None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_resizing_is_that_of_interpolation(layout):
    for given, size in (
        ((5, 8), (4, 6)),
        ((4, 6), (5, 8)),
        ((7, 3), (3, 7)),
        ((9, 9), (3, 3)),
        ((3, 2), (9, 6)),
    ):
        x = torch.randn(2, 6, *given, dtype=torch.double).contiguous(memory_format=layout)
        part = x.requires_grad_()[:, 1:5]  # a branch is a part of a tensor
        weights = torch.randn(2, 4, *size, dtype=torch.double)
        ours, theirs = (
            torch.autograd.grad((way(part) * weights).sum(), x)[0]
            for way in (lambda t, s=size: resize(t, s), lambda t, s=size: F.interpolate(t, s, mode="nearest"))
        )
        assert torch.allclose(ours, theirs)
        torch.autograd.gradgradcheck(lambda t, s=size: resize(t, s) ** 2, x.detach()[:1].requires_grad_())
