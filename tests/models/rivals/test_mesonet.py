import pytest
import torch

from sficonv.models import create_model
from sficonv.models.losses import training_losses
from sficonv.nn import complexity


def test_keras_form_has_the_originals_parameters_and_cost():
    cost = complexity(create_model("meso_inception4", variant="keras"))
    assert cost.params == 28_615
    assert round(cost.paper_macs / 1e6, 2) == 63.73  # the paper's 60.18M is the port's


def test_keras_form_reads_rgb_as_it_is():
    config = create_model("meso_inception4", variant="keras").config
    assert (config.mean, config.std) == ((0, 0, 0), (1, 1, 1))


def test_port_shares_one_normalisation_and_activates_nothing_inside_inception():
    model = create_model("meso_inception4", image_size=64)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules()) == 3
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(model.inception1(-x), -model.inception1(x))  # linear, without a bias


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_keras_form_minimises_the_squared_error_of_p_fake(smoothing):
    model = create_model("meso_inception4", variant="keras", image_size=32).eval()
    x, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 1, 0])
    losses = training_losses(model, x, labels, label_smoothing=smoothing)
    p = model.classifier(model.features(x)).sigmoid()[:, 0]
    target = torch.where(labels == 1, 1 - smoothing / 2, smoothing / 2)
    torch.testing.assert_close(losses, {"squared_error": (p - target).square().mean()})


@pytest.mark.parametrize(
    ("options", "words"),
    [({"variant": "caffe"}, "'port' or 'keras'"), ({"image_size": 80}, "multiple of 32")],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("meso_inception4", **options)
