"""M2TR: patches, the frequency filter, the fusion and the focal loss against independent formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from sficonv.models import create_model
from sficonv.models.losses import training_losses
from sficonv.models.rivals.m2tr import (
    M2TR,
    CrossModalityFusion,
    FrequencyFilter,
    MultiScaleAttention,
    from_patches,
    to_patches,
)
from sficonv.nn import complexity


@pytest.mark.parametrize("splits", [1, 2, 4])
def test_patches_are_blocks_of_the_map_and_come_back(splits):
    x = torch.randn(2, 3, 8, 12)
    rows = to_patches(x, splits)
    height, width = 8 // splits, 12 // splits
    assert rows.shape == (2, splits**2, 3 * height * width)
    last = x[1, :, 8 - height :, 12 - width :]
    assert torch.equal(rows[1, -1].view(3, height, width), last)
    assert torch.equal(from_patches(rows, splits, (8, 12)), x)


def test_attention_head_against_the_formula():
    torch.manual_seed(0)
    attention, x = MultiScaleAttention(8), torch.randn(1, 8, 8, 8)
    seen = []
    attention.project.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        attention(x)
        q, k, v = (part(x)[:, 2:4] for part in (attention.query, attention.key, attention.value))
    assert torch.allclose(seen[0][:, :2], attention.value(x)[:, :2], atol=1e-5)  # one patch: only itself
    blocks = [(slice(i, i + 4), slice(j, j + 4)) for i in (0, 4) for j in (0, 4)]
    for y, x_ in blocks:
        scores = torch.stack([(q[0, :, y, x_] * k[0, :, r, c]).sum() for r, c in blocks]) / math.sqrt(32)
        expected = sum(w * v[0, :, r, c] for w, (r, c) in zip(scores.softmax(0), blocks, strict=True))
        assert torch.allclose(seen[0][0, 2:4, y, x_], expected, atol=1e-5)


def test_frequency_filter_with_ones_changes_nothing():
    layer, x = FrequencyFilter(3, 8), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 0.0]))
    assert torch.allclose(layer(x), x, atol=1e-5)


def test_frequency_filter_is_a_circular_convolution():
    torch.manual_seed(0)
    layer, x, kernel = FrequencyFilter(1, 8), torch.randn(1, 1, 8, 8), torch.randn(8, 8)
    with torch.no_grad():
        layer.weight.copy_(torch.view_as_real(torch.fft.rfft2(kernel))[None])
    shifted = [
        kernel[i, j] * x.roll((i, j), (2, 3)) for i in range(8) for j in range(8)
    ]  # sum over (i, j) of kernel(i, j) x(y - i, x - j)
    assert torch.allclose(layer(x), sum(shifted), atol=1e-4)


def test_fusion_reads_the_frequency_map():
    torch.manual_seed(0)
    fusion = CrossModalityFusion(4).eval()
    spatial, frequency = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    with torch.no_grad():
        q = fusion.query(spatial)[0].flatten(1).T
        k, v = (part(frequency)[0].flatten(1).T for part in (fusion.key, fusion.value))
        read = ((q @ k.T / 2).softmax(1) @ v).T.reshape(1, 4, 3, 3)
        expected = spatial + fusion.project(read)
        assert torch.allclose(fusion(spatial, frequency), expected, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_focal_loss_by_hand(smoothing):
    torch.manual_seed(0)
    model = M2TR(32, depth=1).eval()
    x, labels = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 1])
    with torch.no_grad():
        found = model.losses(x, labels, label_smoothing=smoothing)["focal"]
        p = model(x).softmax(1)
    target = F.one_hot(labels, 2) * (1 - smoothing) + smoothing / 2
    expected = (1 - (target * p).sum(1)) ** 2 * -(target * p.log()).sum(1)
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-4)


def test_the_loss_is_an_option():
    torch.manual_seed(0)
    x, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    for loss in ("focal", "cross_entropy"):
        model = create_model("m2tr", image_size=32, depth=1, loss=loss)
        assert training_losses(model, x, labels).keys() == {loss}


@pytest.mark.parametrize(
    ("options", "image_size", "params"),
    [({}, 256, 26_393_898), ({"trunk": "efficientnet_b4"}, 320, 18_607_946)],
)
def test_counts(options, image_size, params):
    model = create_model("m2tr", **options)
    assert model.config.image_size == image_size
    assert complexity(model, image_size).params == params


def test_the_padded_trunk_gives_64_positions_a_side():
    model = create_model("m2tr").to("meta")
    assert model.shallow(torch.empty(1, 3, 256, 256, device="meta")).shape == (1, 128, 64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trunk": "vgg"}, "trunk must be one of"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"image_size": 250}, "image_size must be a multiple of 32 px, got 250"),
        ({"depth": 0}, "depth must be 1 to 64"),
        ({"depth": 10**9}, "depth must be 1 to 64"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("m2tr", **options)
