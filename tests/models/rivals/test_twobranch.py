"""The two-branch network: Laplacians of Gaussians, both directions of a clip, the sphere, other trunks."""

import pytest
import torch

from sficonv.models import create_model
from sficonv.models.losses import training_losses
from sficonv.models.rivals.twobranch import (
    SIGMAS,
    BothDirections,
    LaplacianBottleneck,
    MultiScaleLoG,
    Sphere,
    laplacian_of_gaussian,
)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_kernels_are_round_and_sum_to_zero(sigma):
    kernel = laplacian_of_gaussian(sigma)
    assert kernel.sum().abs() < 1e-5
    assert torch.allclose(kernel, kernel.T)
    assert torch.allclose(kernel, kernel.flip(0))
    assert kernel.argmin() == kernel.numel() // 2


def test_the_edge_branch_sees_nothing_of_a_constant():
    assert MultiScaleLoG(3)(torch.full((2, 3, 40, 40), 1.7)).abs().max() < 1e-5


def test_each_scale_answers_most_to_blobs_of_its_size():
    """A blob of variance s^2 gives the largest normalised answer where sigma is s."""
    y, x = torch.meshgrid(torch.arange(-32, 33.0), torch.arange(-32, 33.0), indexing="ij")
    for scale, sigma in enumerate(SIGMAS):
        blob = torch.exp(-(x**2 + y**2) / (2 * sigma**2)).expand(1, 3, 65, 65)
        answers = MultiScaleLoG(3)(blob)[0, :, 32, 32].abs().view(3, len(SIGMAS))
        assert (answers.argmax(1) == scale).all()


def test_an_edge_is_where_it_changes_sign():
    x = torch.zeros(1, 3, 64, 64)
    x[..., 32:] = 1
    found = MultiScaleLoG(3)(x)[0, 0, 32]
    assert found[31] * found[32] < 0
    assert found[:16].abs().max() < 1e-5


@pytest.mark.parametrize("trunk", ["densenet121", "mobilenetv1"])
def test_the_laplacians_are_a_layer_of_the_second_branch_not_a_filter_before_it(trunk):
    encoder = create_model("two_branch", trunk=trunk, frames=2).eval().encoder
    (layer,) = [m for m in encoder.edge_branch.modules() if isinstance(m, LaplacianBottleneck)]
    assert not any(isinstance(m, LaplacianBottleneck) for m in encoder.colour_branch.modules())
    seen = []
    layer[3].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        encoder(torch.randn(1, 3, 64, 64))
    assert seen[0].shape[1] == 16  # channels that were learned, not colours


def mask(*counts, size):
    return torch.arange(size) < torch.tensor(counts)[:, None]


def test_directions_are_those_of_a_bidirectional_lstm():
    torch.manual_seed(0)
    layer, x = BothDirections(3, 4), torch.randn(2, 5, 3)
    both = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    for name, p in layer.onward.named_parameters():
        both.get_parameter(name).data.copy_(p)
    for name, p in layer.backward_.named_parameters():
        both.get_parameter(f"{name}_reverse").data.copy_(p)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 2]), batch_first=True)
    ends = both(packed)[1][0]
    assert torch.allclose(layer(x, mask(5, 2, size=5)), torch.cat((ends[0], ends[1]), 1), atol=1e-6)


def test_the_sphere_holds_real_faces_and_keeps_fakes_out():
    sphere = Sphere(2).eval()
    vectors = torch.tensor([[0.5, 0.0], [3.0, 0.0]])
    assert sphere(vectors, torch.tensor([0, 1])) == 0
    assert sphere(vectors, torch.tensor([1, 0])) == pytest.approx((1.5 + 2.0) / 2)


def test_the_centre_follows_real_faces_only():
    sphere = Sphere(2)
    sphere(torch.tensor([[1.0, 0.0], [9.0, 9.0]]), torch.tensor([0, 1]))
    assert torch.allclose(sphere.centre.mean, torch.tensor([0.05, 0.0]))


def test_the_order_of_frames_counts_and_padding_does_not():
    torch.manual_seed(0)
    model = create_model("two_branch", trunk="mobilenetv1", frames=3).eval()
    x = torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(model(x), model(x.flip(1)), atol=1e-6)
        assert torch.allclose(model(x, mask(2, size=3)), model(x[:, :2]), atol=1e-5)


def test_an_sfic_trunk_stands_in_both_branches():
    model = create_model("two_branch", trunk="sfic_resnet26", alpha=0.25, frames=2)
    for branch in (model.encoder.colour_branch, model.encoder.edge_branch[1]):
        assert branch.config.options["alpha"] == 0.25
    losses = training_losses(model, torch.randn(2, 2, 3, 32, 32), torch.tensor([0, 1]))
    assert losses.keys() == {"cross_entropy", "sphere"}
