"""Detectors of clips: padding, single images, and what their input is refused for."""

import pytest
import torch
from torch import nn

from sficonv.models import ModelConfig, create_model, to_input
from sficonv.models.clips import ClipModel, pad_clips
from sficonv.models.losses import training_losses


class Mean(ClipModel):
    """The mean over the frames of what a trunk with batch normalisation makes of them."""

    def __init__(self):
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        )

    def judge(self, features, present):
        return features.sum(1) / present.sum(1, keepdim=True)


@pytest.fixture
def padded():
    torch.manual_seed(0)
    return pad_clips([torch.randn(n, 3, 32, 32) for n in (4, 1, 2)])


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(padded, training):
    model, (x, present) = Mean().train(training), padded
    torch.manual_seed(1)
    other = torch.where(present[..., None, None, None], x, torch.full_like(x, 9))
    assert torch.allclose(model(x, present), model(other, present))


def test_padding_does_not_count_in_batch_normalisation(padded):
    model, (x, present) = Mean().train(), padded
    model(x, present)
    expected = model.encoder[0](x[present]).mean((0, 2, 3)).detach()
    assert torch.allclose(model.encoder[1].running_mean, 0.1 * expected, atol=1e-6)


def test_an_image_is_a_clip_of_one_frame():
    model, x = Mean().eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), model(x[:, None]))


def test_clips_become_input_frame_by_frame():
    clips = torch.randint(0, 256, (2, 3, 3, 40, 40), dtype=torch.uint8)
    config = ModelConfig("any", image_size=32)
    assert torch.equal(to_input(clips, config)[1, 2], to_input(clips[1, 2:], config)[0])


def test_only_models_of_clips_take_clips():
    clips = torch.zeros(1, 2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"^resnet26 takes images \(B, 3, H, W\) of at least 32"):
        create_model("resnet26")(clips)
    model = create_model("smil", trunk="mobilenetv1").eval()
    assert model(clips).shape == (1, 2)
    with pytest.raises(ValueError, match=r"^smil takes images \(B, 3, H, W\) or clips \(B, T, 3, H, W\)"):
        model(clips[..., :16])


def test_cross_entropy_sees_the_padding(padded):
    model, (x, present) = Mean().eval(), padded
    labels = torch.tensor([0, 1, 1])
    found = training_losses(model, x, labels, present=present)["cross_entropy"]
    assert torch.equal(found, nn.functional.cross_entropy(model(x, present), labels))
