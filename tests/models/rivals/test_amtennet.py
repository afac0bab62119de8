"""AMTENnet: counts, the rounding of its pools, and the trace extraction against its formula."""

import pytest
import torch
import torch.nn.functional as F

from sficonv.models import create_model
from sficonv.models.rivals.amtennet import AMTEN, AMTENnet
from sficonv.nn import complexity


@pytest.mark.parametrize(
    ("variant", "image_size", "params", "paper_macs"),
    [("paper", 256, 9_881_550, 538.5e6), ("original", 128, 2_023_050, 125.9e6)],
)
def test_counts(variant, image_size, params, paper_macs):
    model = create_model("amtennet", variant=variant)
    assert model.config.image_size == image_size
    found = complexity(model, image_size)
    assert found.params == params
    assert found.paper_macs == pytest.approx(paper_macs, rel=1e-3)


def test_traces_follow_the_formula():
    amten, x = AMTEN(), torch.rand(2, 3, 16, 16)

    def conv(x, layer):
        return F.conv2d(x, layer.weight, layer.bias, padding=1)

    difference = conv(x, amten.predict) - x
    first = torch.cat((conv(conv(difference, amten.reuse1[0]), amten.reuse1[1]), difference), 1)
    second = torch.cat((conv(conv(first, amten.reuse2[0]), amten.reuse2[1]), first), 1)
    assert torch.allclose(amten(x), second, atol=1e-6)


def test_an_image_that_is_predicted_perfectly_leaves_no_traces():
    amten = AMTEN()
    with torch.no_grad():
        amten.predict.weight.zero_()
        for channel in range(3):
            amten.predict.weight[channel, channel, 1, 1] = 1
        for layer in (*amten.reuse1, *amten.reuse2):
            layer.bias.zero_()
    assert amten(torch.rand(1, 3, 8, 8)).abs().max() == 0


def test_the_bias_of_the_prediction_stays_at_zero():
    model = AMTENnet(32)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    assert model.amten.predict.bias.abs().max() == 0
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("variant", ["paper", "original"])
@pytest.mark.parametrize("image_size", [32, 33, 46, 51])
def test_odd_sizes_are_pooled_upwards_as_in_caffe(variant, image_size):
    assert AMTENnet(image_size, variant).eval()(torch.rand(1, 3, image_size, image_size)).shape == (1, 2)


def test_no_normalisation():
    config = create_model("amtennet", image_size=64).config
    assert (config.mean, config.std, config.image_size) == ((0, 0, 0), (1, 1, 1), 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"variant": "caffe"}, "variant must be one of"), ({"image_size": 16}, "at least 32 px")],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("amtennet", **options)
