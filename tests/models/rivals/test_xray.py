"""Face X-ray: the boundary of known masks, whose boundary counts, and the verdict that is read from it."""

import pytest
import torch

from sficonv.models import create_model
from sficonv.models.losses import HasLosses, training_losses
from sficonv.models.rivals.xray import FaceXray, xray_of


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("face_xray", trunk="hrnet_w18_small", image_size=64).eval()


@pytest.fixture
def batch():
    torch.manual_seed(0)
    masks = torch.zeros(2, 1, 64, 64)
    masks[1, :, 16:48, 16:48] = 1
    return torch.randn(2, 3, 64, 64), torch.tensor([0, 1]), masks


def test_the_xray_of_a_hard_mask_is_zero_inside_and_outside(batch):
    assert xray_of(batch[2]).max() == 0


def test_the_xray_of_a_soft_mask_is_a_ring():
    ramp = torch.linspace(0, 1, 11)
    assert torch.allclose(xray_of(ramp), xray_of(ramp.flip(0)), atol=1e-6)
    assert xray_of(ramp).argmax() == 5
    assert xray_of(ramp).max() == 1


def wanted_of(model, batch, monkeypatch):
    seen = []
    monkeypatch.setattr(
        torch.nn.functional,
        "binary_cross_entropy_with_logits",
        lambda x, target, reduction: seen.append(target) or (x - target).square(),
    )
    losses = training_losses(model, *batch)
    return seen[0], losses


def test_the_network_draws_the_edge_of_what_was_pasted(model, batch, monkeypatch):
    wanted, _ = wanted_of(model, batch, monkeypatch)
    assert wanted.shape == (2, 1, 64, 64)
    assert wanted[0].max() == 0
    ring = wanted[1, 0]
    assert ring[32, 15:17].min() > 0.9
    assert ring[32, 32] == 0
    assert ring[32, 0] == 0


def test_a_fake_of_unknown_mask_has_no_part_in_the_boundary(model, batch):
    x, labels, masks = batch
    alone = training_losses(model, x[:1], labels[:1], masks[:1])
    together = training_losses(model, x, labels)  # no masks given: all of the fake counts as forged
    assert torch.allclose(alone["boundary"], together["boundary"], rtol=1e-4)
    assert not torch.allclose(
        training_losses(model, x, labels, masks)["boundary"], together["boundary"], rtol=1e-3
    )


def test_the_verdict_is_read_from_the_drawing_alone():
    model = FaceXray("hrnet_w18_small")
    nothing, ring = torch.full((1, 1, 16, 16), -9.0), torch.full((1, 1, 16, 16), -9.0)
    ring[..., 4, 4:12] = ring[..., 11, 4:12] = 3
    assert model.verdict(nothing).argmax() == 0
    assert model.verdict(ring).argmax() == 1


def test_masks_are_asked_for(model):
    assert isinstance(model, HasLosses)
    assert model.uses_masks


def test_other_trunks_are_refused():
    with pytest.raises(ValueError, match="high-resolution network"):
        create_model("face_xray", trunk="resnet18")
