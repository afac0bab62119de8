"""Nearest resizing, its sums and its gradients are those of `F.interpolate` and `F.conv2d`."""

import itertools

import pytest
import torch
from tests.nn.reference import relative_error
from torch.nn import functional as F

from sficonv.nn import frequency_size
from sficonv.nn.sampling import (
    add_upsampled,
    average_pool,
    resize,
    sampled_conv2d,
    strided_conv2d,
    with_samples,
)


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
@pytest.mark.parametrize("size", [(6, 8), (3, 4), (3, 8), (4, 5), (2, 2), (1, 1)])
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
