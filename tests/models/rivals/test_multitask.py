import pytest
import torch
import torch.nn.functional as F

from sficonv.models import create_model
from sficonv.models.losses import HasLosses, default_masks, training_losses


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("multitask")


def test_parts_have_the_published_parameters(model):
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert (encoder, sum(p.numel() for p in model.parameters())) == (148_200, 304_949)


def test_latent_is_sixteen_times_smaller(model):
    assert model.encode(torch.randn(1, 3, 256, 256)).shape == (1, 2, 64, 16, 16)


def test_logits_are_the_mean_activity_of_each_half(model):
    model.eval()
    x = torch.randn(2, 3, 64, 64)
    latent = model.encoder(x)
    wanted = torch.stack([latent[:, :64].abs().mean((1, 2, 3)), latent[:, 64:].abs().mean((1, 2, 3))], 1)
    torch.testing.assert_close(model(x), wanted)


def test_only_the_half_of_the_class_is_decoded(model):
    model.eval()
    latent, size = torch.rand(1, 2, 64, 4, 4), (64, 64)
    other = latent.clone()
    other[:, 0] = 9
    real, fake = torch.tensor([0]), torch.tensor([1])
    for a, b in zip(model.decode(latent, fake, size), model.decode(other, fake, size), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(model.decode(latent, real, size)[0], model.decode(other, real, size)[0])


def test_three_losses_by_hand(model):
    model.eval()
    x, labels = torch.randn(2, 3, 32, 48), torch.tensor([0, 1])
    masks = torch.zeros(2, 1, 32, 48)
    masks[1, :, :16] = 0.25
    losses = training_losses(model, x, labels, masks)
    activity = model(x)
    segmentation, image = model.decode(model.encode(x), labels, (32, 48))
    assert (segmentation.shape, image.shape) == ((2, 2, 32, 48), (2, 3, 32, 48))
    wanted = (activity[0, 0] - 1).abs() + activity[0, 1] + activity[1, 0] + (activity[1, 1] - 1).abs()
    target = torch.zeros(2, 32, 48, dtype=torch.int64)
    target[1, :16] = 1  # also where a quarter is pasted
    torch.testing.assert_close(losses["activation"], wanted / 2)
    torch.testing.assert_close(losses["segmentation"], F.cross_entropy(segmentation, target))
    torch.testing.assert_close(losses["reconstruction"], (image - x).square().mean())


def test_without_masks_a_fake_is_forged_everywhere(model):
    model.eval()
    x, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    masks = torch.stack([torch.zeros(1, 32, 32), torch.ones(1, 32, 32)])
    assert torch.equal(default_masks(labels, x), masks)
    torch.testing.assert_close(training_losses(model, x, labels), training_losses(model, x, labels, masks))


def test_any_size_is_decoded_to_its_own(model):
    segmentation, image = model.decode(model.encode(torch.randn(1, 3, 37, 50)), torch.tensor([1]), (37, 50))
    assert (segmentation.shape[-2:], image.shape[-2:]) == ((37, 50), (37, 50))


def test_it_says_that_it_has_losses(model):
    assert isinstance(model, HasLosses)
    assert model.uses_masks
    assert not isinstance(create_model("resnet26"), HasLosses)
