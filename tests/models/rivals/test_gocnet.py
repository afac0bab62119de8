"""GocNet: its gradient operator on known images, and the attention in every block."""

import numpy as np
import pytest
import scipy.signal
import torch

from sficonv.models import create_model
from sficonv.models.rivals.gocnet import KERNEL, GradientOperator, ManipulationTraceAttention


def test_a_constant_gives_nothing_also_at_the_border():
    assert GradientOperator(3)(torch.full((1, 3, 9, 7), 4.2)).abs().max() < 1e-6


def test_an_edge_is_seen_where_it_is():
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1
    found = GradientOperator(1)(x)[0, 0]
    assert (found[:, 3:5] == 2).all()
    assert (found[:, [0, 1, 2, 5, 6, 7]] == 0).all()


def test_each_channel_is_read_by_itself():
    x = torch.randn(1, 3, 10, 10)
    found = GradientOperator(3)(x)[0, 1, 1:-1, 1:-1].numpy()
    assert np.abs(found - scipy.signal.correlate2d(x[0, 1].numpy(), np.array(KERNEL), "valid")).max() < 1e-5


def test_attention_follows_the_gradient_once_its_strength_is_not_zero():
    torch.manual_seed(0)
    attention, x = ManipulationTraceAttention(16), torch.zeros(1, 16, 8, 8)
    x[..., 4:] = 1
    weight = (attention(x) / x)[0, 0]
    assert torch.allclose(weight[:, 4], weight[:, 6])  # at first all positions weigh alike
    attention.gamma.data.fill_(3)
    weight = (attention(x) / x)[0, 0]
    assert (weight[:, 4] > weight[:, 6] + 0.4).all()


def test_every_block_of_the_image_stream_attends():
    model = create_model("gocnet")
    attentions = [m for m in model.image_stream.modules() if isinstance(m, ManipulationTraceAttention)]
    assert len(attentions) == 8
    assert not any(isinstance(m, ManipulationTraceAttention) for m in model.gradient_stream.modules())
    assert [name for name, _ in model.named_buffers() if "kernel" in name]
    assert not [key for key in model.state_dict() if "kernel" in key]


def test_channels_are_weighed_by_their_average_and_by_their_highest_value():
    torch.manual_seed(0)
    attention, flat = ManipulationTraceAttention(64), torch.randn(1, 64, 1, 1).expand(1, 64, 8, 8)
    peaked = torch.zeros(1, 64, 8, 8)
    peaked[:, :, 3, 3] = 64 * flat[:, :, 3, 3]  # of the same average
    of_flat, of_peaked = ((attention(x) / x)[0, :, 3, 3] for x in (flat, peaked))
    assert not torch.allclose(of_flat, of_peaked, atol=1e-2)


@pytest.mark.parametrize(("image_size", "features"), [(299, 8192), (320, 8192), (256, 2048), (128, 512)])
def test_windows_of_the_last_map_are_as_many_as_the_published_layer_reads(image_size, features):
    with torch.device("meta"):
        model = create_model("gocnet", image_size=image_size)
        assert model.classify.in_features == features
        assert model(torch.empty(1, 3, image_size, image_size)).shape == (1, 2)


def test_the_gradient_stream_cannot_see_a_constant_added_to_the_image():
    model, x = create_model("gocnet", image_size=64).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, other = (model.gradient_stream(model.front(t)) for t in (x, x + 5))
    assert torch.allclose(one, other, atol=1e-3)
