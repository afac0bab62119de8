"""The two-stream detector of Luo et al.: its residuals on known images, its attention, its loss."""

import math

import numpy as np
import pytest
import scipy.signal
import torch

from sficonv.models import create_model
from sficonv.models.losses import training_losses
from sficonv.models.rivals.srm import (
    FeatureResidual,
    ImageResidual,
    ResidualGuidedAttention,
    am_softmax,
    srm_kernels,
)
from sficonv.nn import complexity


def ramp(size=12):
    """Brightness `2 x + 3 y` in all three colours."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (2.0 * x + 3.0 * y).expand(1, 3, size, size).contiguous()


def test_kernels_sum_to_zero_and_are_normalised():
    kernels = srm_kernels()
    assert kernels.sum((1, 2)).abs().max() < 1e-6
    assert kernels[:, 2, 2].tolist() == [-1, -1, -1]
    assert torch.equal(kernels[:2], kernels[:2].transpose(1, 2))


def test_smooth_brightness_leaves_no_residual():
    assert ImageResidual()(ramp())[..., 2:-2, 2:-2].abs().max() < 1e-4


def test_a_dot_shows_the_kernels_and_is_cut_off():
    x = torch.zeros(1, 3, 9, 9)
    x[0, 1, 4, 4] = 1  # in green alone: the kernels look at the sum of the colours
    found = ImageResidual()(x)[0]
    assert torch.allclose(found[:, 2:7, 2:7], srm_kernels(), atol=1e-6)  # all three are symmetric
    assert ImageResidual()(100 * x).min() == -3


def test_residual_of_features_works_channel_by_channel():
    torch.manual_seed(0)
    layer, x = FeatureResidual(2), torch.randn(1, 2, 8, 8)
    seen = []
    layer.mix.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    layer(x)
    for channel in range(2):
        for kernel in range(3):
            expected = scipy.signal.correlate2d(x[0, channel].numpy(), srm_kernels()[kernel].numpy(), "same")
            found = seen[0][0, 3 * channel + kernel].numpy()
            assert np.abs(found - expected.clip(-3, 3)).max() < 1e-5


def test_kernels_are_neither_trained_nor_saved():
    model = create_model("srm")
    assert [name for name, _ in model.named_buffers() if "kernel" in name]
    assert not [key for key in model.state_dict() if "kernel" in key]
    assert not [name for name, _ in model.named_parameters() if "kernel" in name]


def test_attention_follows_the_residual_not_the_colour():
    torch.manual_seed(0)
    attention = ResidualGuidedAttention()
    residual, x = torch.randn(1, 4, 10, 10), torch.randn(1, 4, 10, 10)
    kept = attention(x, residual) / x
    assert torch.allclose(kept, kept[:, :1].expand_as(kept), atol=1e-4)  # one map for all channels
    assert ((kept > 0) & (kept < 1)).all()
    assert torch.allclose(attention(2 * x, residual), 2 * x * kept, atol=1e-4)
    assert not torch.allclose(attention(x, residual + 1), x * kept, atol=1e-4)


def test_logits_are_cosines_times_30():
    model, x = create_model("srm").eval(), torch.rand(2, 3, 64, 64)
    seen = []
    model.pool.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        logits = model(x)
        expected = 30 * torch.cosine_similarity(seen[0][:, None], model.prototypes[None], dim=2)
        assert torch.allclose(logits, expected, atol=1e-4)
        model.prototypes.mul_(7)  # only directions count
        assert torch.allclose(model(x), logits, atol=1e-4)


def test_am_softmax_by_hand():
    cosines, labels = torch.tensor([[0.2, -0.3], [0.1, 0.6]]), torch.tensor([0, 1])
    terms = []
    for (real, fake), label in zip(cosines.tolist(), labels.tolist(), strict=True):
        right, wrong = (real, fake) if label == 0 else (fake, real)
        top = math.exp(30 * (right - 0.45))
        terms.append(-math.log(top / (top + math.exp(30 * wrong))))
    assert am_softmax(30 * cosines, labels).item() == pytest.approx(sum(terms) / 2, rel=1e-4)


def test_the_loss_lives_with_the_model():
    torch.manual_seed(0)
    model = create_model("srm").eval()
    x, labels = torch.rand(2, 3, 64, 64), torch.tensor([0, 1])
    losses = training_losses(model, x, labels)
    assert losses.keys() == {"am_softmax"}
    assert torch.allclose(losses["am_softmax"], am_softmax(model(x), labels))


def test_counts():
    found = complexity(create_model("srm"), 299)
    assert found.params == 52_943_938
    assert found.paper_macs == pytest.approx(18.88e9, rel=1e-3)
