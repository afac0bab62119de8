"""MCSConv: the constraint of eq. (1) in all modes, and what it does to an image."""

import pytest
import torch
import torch.nn.functional as F

from sficonv.nn import MCSConv, constrain, project_after_step


def assert_constrained(kernel: torch.Tensor, tolerance: float = 1e-5) -> None:
    k = kernel.shape[-1] // 2
    assert torch.all(kernel[:, :, k, k] == -1)
    assert torch.allclose(kernel.sum((-2, -1)), torch.zeros(len(kernel), 1), atol=tolerance)


@pytest.mark.parametrize("mode", ["reparam", "projected", "fixed"])
def test_constraint_holds_at_the_start(mode):
    assert_constrained(MCSConv(16, mode=mode).kernel())


def test_free_weights_start_as_strong_together_as_the_centre():
    torch.manual_seed(0)
    kernel = MCSConv(512).kernel()
    free = kernel[kernel != -1]
    assert free.std().item() == pytest.approx(0.2, rel=0.03)
    assert 24 * free.square().mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("mode", ["reparam", "projected"])
@pytest.mark.parametrize("autocast", [False, True])
def test_constraint_holds_after_100_adam_steps(mode, autocast):
    torch.manual_seed(0)
    mcs = MCSConv(4, mode=mode)
    before = mcs.kernel().clone()
    optimizer = torch.optim.Adam(mcs.parameters(), lr=0.01, weight_decay=0.01)
    handle = project_after_step(optimizer, mcs)
    for _ in range(100):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = mcs(torch.randn(2, 4, 8, 8)).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert_constrained(mcs.kernel())
    assert not torch.allclose(mcs.kernel(), before, atol=1e-3)
    handle.remove()


def test_fixed_is_not_trained():
    for mode in ("fixed", "".join("fixed")):  # also as a model card is read
        assert [p.requires_grad for p in MCSConv(4, mode=mode).parameters()] == [False]


def test_projection_is_euclidean_and_leaves_constrained_kernels_alone():
    u = torch.randn(3, 1, 5, 5, dtype=torch.float64)
    w = constrain(u)
    assert_constrained(w.float())
    assert torch.allclose(constrain(w), w)
    direction = (w - u).flatten(1)
    free = torch.arange(25) != 12
    assert torch.allclose(
        direction[:, free], direction[:, :1].expand(-1, 24)
    )  # along the constraint's normal


def test_sums_near_zero_are_harmless():
    u = torch.randn(2, 1, 5, 5)
    u -= u.mean((-2, -1), keepdim=True)
    assert constrain(u).abs().max() < 10


def test_no_gradient_at_the_centre():
    mcs = MCSConv(2)
    mcs(torch.randn(1, 2, 8, 8)).square().sum().backward()
    assert torch.all(mcs.weight.grad[:, :, 2, 2] == 0)


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (13, 9), (32, 32)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_the_convolution(size, layout):
    torch.manual_seed(0)
    mcs = MCSConv(6)
    x = torch.randn(3, 6, *size).contiguous(memory_format=layout).requires_grad_()
    found = []
    for y in (mcs(x), F.conv2d(x, mcs.kernel(), padding=2, groups=6)):
        first = torch.autograd.grad(y.square().sum(), (x, mcs.weight), create_graph=True)
        found.append([y, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), (x, mcs.weight))])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.detach().abs().max()))


def test_gradients_of_single_images():
    mcs = MCSConv(4)
    x, weights = torch.randn(3, 4, 8, 8), dict(mcs.named_parameters())

    def loss(weights, image):
        return torch.func.functional_call(mcs, weights, (image[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)["weight"]
    mcs(x).square().sum().backward()
    assert torch.allclose(each.sum(0), mcs.weight.grad, rtol=1e-4, atol=1e-4)


def test_a_flat_image_gives_nothing_inside():
    y = MCSConv(3)(torch.full((1, 3, 12, 12), 0.7))
    assert y[:, :, 2:-2, 2:-2].abs().max() < 1e-6


def test_state_dict_carries_over_between_modes():
    source = MCSConv(4, mode="fixed")
    for mode in ("reparam", "projected"):
        other = MCSConv(4, mode=mode)
        other.load_state_dict(source.state_dict())
        assert torch.allclose(other.kernel(), source.kernel(), atol=1e-6)
