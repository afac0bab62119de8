"""MADD: textures, attention maps and their pooling, regions that keep apart, the augmentation."""

import pytest
import torch

from sficonv.models import create_model
from sficonv.models.losses import training_losses
from sficonv.models.rivals.madd import (
    RegionalIndependence,
    TextureEnhancement,
    attention_pooling,
    blur_where_attended,
)


def test_a_flat_area_has_no_texture():
    layer = TextureEnhancement(3)
    assert layer(torch.full((1, 3, 9, 9), 2.5))[0][:, :3].abs().max() < 1e-6
    x = torch.zeros(1, 3, 9, 9)
    x[0, 1, 4, 4] = 25
    textures, average = (part.detach() for part in layer(x))
    assert torch.allclose(textures[:, :3] + average, x, atol=1e-5)
    found = textures[0, 1]
    assert found[4, 4] == pytest.approx(24)
    assert found[2:7, 2:7].sum() == pytest.approx(0, abs=1e-4)


def test_pooling_reads_where_a_map_looks():
    features = torch.zeros(1, 2, 8, 8)
    features[0, 0, :, :4], features[0, 1, :, 4:] = 1, 1
    attention = torch.zeros(1, 2, 8, 8)
    attention[0, 0, :, :4], attention[0, 1, :, 4:] = 3, 0.1
    assert torch.allclose(attention_pooling(features, attention)[0], torch.eye(2), atol=1e-5)


def test_a_map_that_looks_nowhere_pools_nothing():
    assert attention_pooling(torch.rand(1, 2, 4, 4), torch.zeros(1, 1, 4, 4)).abs().max() == 0


def unit(*rows):
    return torch.nn.functional.normalize(torch.tensor([rows]), dim=2)


def test_regions_that_are_alike_are_pushed_apart():
    loss, labels = RegionalIndependence(2, 2).eval(), torch.tensor([0])
    loss.centres.mean.copy_(torch.eye(2))
    apart = loss(unit([1.0, 0.0], [0.0, 1.0]), labels)
    loss.centres.mean.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    together = loss(unit([1.0, 0.0], [1.0, 0.0]), labels)
    assert apart == 0
    assert together == pytest.approx(0.2, abs=1e-5)


def test_regions_are_pulled_to_their_centres_fakes_less():
    loss = RegionalIndependence(1, 2).eval()
    loss.centres.mean.copy_(torch.tensor([[1.0, 0.0]]))
    region = unit([1.0, 0.5])
    real, fake = (loss(region, torch.tensor([label])).item() for label in (0, 1))
    assert real - fake == pytest.approx(0.05, abs=1e-5)


def test_centres_follow_the_batches_in_training_only():
    loss, regions = RegionalIndependence(1, 2), unit([0.0, 1.0])
    loss(regions, torch.tensor([0]))
    assert torch.allclose(loss.centres.mean, torch.tensor([[0.0, 0.05]]))
    loss.eval()(regions, torch.tensor([0]))
    assert torch.allclose(loss.centres.mean, torch.tensor([[0.0, 0.05]]))


def test_only_what_is_attended_to_is_blurred():
    torch.manual_seed(0)
    x, attention = torch.randn(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    attention[..., :16] = 0.7
    found = blur_where_attended(x, attention)
    assert torch.equal(found[..., 16:], x[..., 16:])
    assert found[..., :12].std() < 0.5 * x[..., :12].std()


def test_maps_are_as_many_as_asked_for_and_not_negative():
    model = create_model("madd", trunk="efficientnet_b0", maps=3, image_size=64).eval()
    logits, attention, regions = model.judge(torch.randn(2, 3, 64, 64))
    assert attention.shape == (2, 3, 4, 4)
    assert attention.min() >= 0
    assert logits.shape == (2, 2)
    assert regions.shape[:2] == (2, 3)


def test_regions_are_those_of_the_average_not_of_the_textures():
    torch.manual_seed(0)
    model = create_model("madd", trunk="efficientnet_b0", image_size=64).eval()
    seen = []
    model.texture.register_forward_hook(lambda module, args, out: seen.append(out))
    _, attention, regions = model.judge(torch.randn(2, 3, 64, 64))
    assert torch.equal(regions, attention_pooling(seen[0][1], attention))


def test_the_independence_of_regions_reaches_the_attention():
    torch.manual_seed(0)
    model = create_model("madd", trunk="efficientnet_b0", image_size=64)
    loss = training_losses(model, torch.randn(2, 3, 64, 64), torch.tensor([0, 1]))["independence"]
    loss.backward()
    assert model.attention[0].weight.grad.abs().max() > 0


def test_other_trunks_are_refused():
    with pytest.raises(ValueError, match="needs an EfficientNet"):
        create_model("madd", trunk="resnet18")
