import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sficonv.attention import attention_numbers, average_attention, forgery_attention, grad_cam, overlay


class Net(nn.Module):
    """A small CNN with everything whose state must survive: batch norm, drop-out, a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 2)
        self.features[0].weight.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.pool(self.features(x)).flatten(1)))


def linear(weight: torch.Tensor) -> nn.Module:
    """A detector whose `logit_fake - logit_real` is exactly `sum(weight * x)`; `weight`: (3, H, W)."""
    layer = nn.Linear(weight.numel(), 2)
    with torch.no_grad():
        layer.weight[1] = weight.flatten() / 2
        layer.weight[0] = -weight.flatten() / 2
    return nn.Sequential(nn.Flatten(), layer)


def expected_map(weight: torch.Tensor) -> torch.Tensor:
    saliency = weight.abs().amax(0)[None, None]
    size = saliency.shape[-2:]
    half = F.interpolate(saliency, size=(size[0] // 2, size[1] // 2), mode="bilinear", align_corners=False)
    full = F.interpolate(half, size=size, mode="bilinear", align_corners=False)
    return (full - full.min()) / (full - full.min()).max()


# Forgery attention maps


def test_known_gradient_gives_the_known_map():
    weight = torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(0))
    maps = forgery_attention(linear(weight), torch.rand(2, 3, 12, 10))
    for one in maps:
        torch.testing.assert_close(one[None], expected_map(weight))
    torch.testing.assert_close(forgery_attention(linear(-weight), torch.rand(1, 3, 12, 10)), maps[:1])


def test_one_logit_is_the_logit_of_fake():
    weight = torch.randn(3, 8, 8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    with torch.no_grad():
        model[1].weight[0] = weight.flatten()
    torch.testing.assert_close(forgery_attention(model, torch.rand(1, 3, 8, 8)), expected_map(weight))


def test_constant_gradient_gives_zeros():
    # the value is one whose interpolation does not come out exactly equal everywhere
    maps = forgery_attention(linear(torch.full((3, 15, 15), 0.1)), torch.rand(2, 3, 15, 15))
    assert torch.equal(maps, torch.zeros(2, 1, 15, 15))
    assert torch.equal(
        forgery_attention(linear(torch.zeros(3, 8, 8)), torch.rand(1, 3, 8, 8)), torch.zeros(1, 1, 8, 8)
    )


@pytest.mark.parametrize("size", [(32, 32), (17, 31), (9, 8)])
def test_shape_and_range(size):
    maps = forgery_attention(Net(), torch.rand(3, 3, *size))
    assert maps.shape == (3, 1, *size)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    torch.testing.assert_close(maps.amin((1, 2, 3)), torch.zeros(3))
    torch.testing.assert_close(maps.amax((1, 2, 3)), torch.ones(3))


@pytest.mark.parametrize("explain", [forgery_attention, grad_cam])
def test_images_of_a_batch_do_not_mix(explain):
    model, x = Net(), torch.rand(3, 3, 16, 16)
    together = explain(model, x)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], explain(model, x[i : i + 1]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("explain", [forgery_attention, grad_cam])
def test_model_is_left_as_it_was(explain):
    model = Net().train()
    model.features[1].eval()  # a frozen batch norm inside a model in training
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    x = torch.rand(2, 3, 16, 16)
    first = explain(model, x)
    assert torch.equal(first, explain(model, x))  # eval mode: no drop-out
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 7
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert not x.requires_grad


@pytest.mark.parametrize("explain", [forgery_attention, grad_cam])
def test_modes_are_restored_after_an_error(explain):
    model = Net().train()
    with pytest.raises(RuntimeError, match="to have 3 channels"):
        explain(model, torch.rand(1, 4, 16, 16))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("explain", [forgery_attention, grad_cam])
@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(explain, outer):
    model, x = Net(), torch.rand(1, 3, 16, 16)
    wanted = explain(model, x)
    with outer():
        got = explain(model, x.clone())
    torch.testing.assert_close(got.clone(), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights_are_judged_in_32(dtype):
    model = Net().eval().to(dtype)
    x = torch.rand(1, 3, 16, 16)
    maps = forgery_attention(model, x.to(dtype))
    assert maps.dtype == torch.float32
    assert model.fc.weight.dtype == dtype
    torch.testing.assert_close(maps, forgery_attention(model.float(), x.to(dtype).float()))


def test_autocast_around_it_changes_nothing():
    model, x = Net(), torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = forgery_attention(model, x)
    torch.testing.assert_close(maps, forgery_attention(model, x))


def test_wrong_input_and_output_are_named():
    with pytest.raises(ValueError, match="float"):
        forgery_attention(Net(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(3, 8, 8\)"):
        forgery_attention(Net(), torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"logits .*\(2, 1000\)"):
        forgery_attention(nn.Sequential(nn.Flatten(), nn.Linear(192, 1000)), torch.rand(2, 3, 8, 8))


# Their average


def test_average_is_the_scaled_mean():
    maps = torch.rand(4, 1, 6, 6)
    mean = maps.mean(0, keepdim=True)
    torch.testing.assert_close(average_attention(maps), (mean - mean.min()) / (mean.max() - mean.min()))


def test_flips_follow_the_generator():
    maps = torch.rand(8, 1, 6, 6)
    drawn = [average_attention(maps, flip=0.5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    always = average_attention(maps, flip=1.0, generator=torch.Generator())
    torch.testing.assert_close(always, average_attention(maps).flip(-1))
    with pytest.raises(ValueError, match="generator"):
        average_attention(maps, flip=0.5)


def test_average_of_nothing_or_of_another_shape_is_refused():
    for maps in (torch.zeros(0, 1, 4, 4), torch.zeros(2, 3, 4, 4), torch.zeros(4, 4)):
        with pytest.raises(ValueError, match="maps must be"):
            average_attention(maps)


# Grad-CAM


def by_hand(model: Net, x: torch.Tensor) -> torch.Tensor:
    """With average pooling and a linear layer, Grad-CAM's weights are the layer's weights over the area."""
    with torch.no_grad():
        features = model.eval().features(x)
        cam = ((model.fc.weight[1] - model.fc.weight[0])[None, :, None, None] * features).sum(1, keepdim=True)
        cam = F.interpolate(cam.relu(), size=x.shape[-2:], mode="bilinear", align_corners=False)
        low, high = cam.amin((1, 2, 3), keepdim=True), cam.amax((1, 2, 3), keepdim=True)
        return (cam - low) / (high - low).clamp_min(1e-12)


def test_grad_cam_of_a_small_cnn():
    torch.manual_seed(0)
    model, x = Net(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        model.fc.weight[1] = 0.2  # something does speak for fake
        model.fc.weight[0] = torch.linspace(-0.1, 0.1, 8)
    cam = grad_cam(model, x)
    assert cam.shape == (2, 1, 16, 16)
    torch.testing.assert_close(cam, by_hand(model, x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cam, grad_cam(model, x, layer="features"))
    torch.testing.assert_close(cam, grad_cam(model, x, layer=model.features[5]))
    assert not torch.allclose(cam, grad_cam(model, x, layer="features.0"))


def test_grad_cam_takes_the_map_before_a_last_pooling_inside_a_container():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(4 * 7 * 7, 2))
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(grad_cam(model, x), grad_cam(model, x, layer=body[1]))


def test_grad_cam_is_zero_where_nothing_speaks_for_fake():
    model = Net()
    with torch.no_grad():
        model.fc.weight[1] = -1
        model.fc.weight[0] = 1
    assert torch.equal(grad_cam(model, torch.rand(1, 3, 16, 16)), torch.zeros(1, 1, 16, 16))


def test_grad_cam_works_with_every_parameter_frozen():
    cam = grad_cam(Net().requires_grad_(False), torch.rand(1, 3, 16, 16))
    assert torch.isfinite(cam).all()


def test_grad_cam_names_what_it_cannot_use():
    x = torch.rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match="no layer 'body'"):
        grad_cam(Net(), x, layer="body")
    with pytest.raises(ValueError, match="from layer 'fc'"):
        grad_cam(Net(), x, layer="fc")
    with pytest.raises(ValueError, match="in the model"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), x)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_grad_cam_finds_the_last_feature_map_of_real_backbones(name):
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, num_classes=2)
    x = torch.rand(1, 3, 64, 64)
    layer = {"resnet18": "layer4", "efficientnet_lite0": "bn2"}[name]
    assert torch.equal(grad_cam(model, x), grad_cam(model, x, layer=layer))


# Overlay and numbers


def test_overlay_is_red_where_attention_is_and_blue_where_not():
    image = np.full((32, 32, 3), 100, np.uint8)
    attention = torch.zeros(1, 1, 32, 32)
    attention[..., 16:] = 1
    for colours in ("jet", "turbo"):
        heat = overlay(image, attention, colours=colours).astype(int)
        assert heat.shape == image.shape
        assert heat[:, -1, 0].min() > heat[:, -1, 2].max()
        assert heat[:, 0, 0].max() < heat[:, -1, 0].min()
    assert np.array_equal(overlay(image, attention, strength=0), image)
    assert overlay(image, np.zeros((8, 8))).shape == (32, 32, 3)


def test_overlay_refuses_other_shapes():
    with pytest.raises(ValueError, match="uint8"):
        overlay(np.zeros((8, 8, 3)), np.zeros((8, 8)))
    with pytest.raises(ValueError, match="one map"):
        overlay(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8)))


def test_numbers_of_a_known_map():
    attention = np.zeros((4, 8))
    attention[:2, 4:] = 1
    numbers = attention_numbers(attention, mask=attention > 0)
    assert numbers["area_above_half"] == pytest.approx(8 / 32)
    assert numbers["entropy"] == pytest.approx(np.log(8) / np.log(32))
    assert (numbers["centre_x"], numbers["centre_y"]) == pytest.approx((0.75, 0.25))
    assert (numbers["inside_mask"], numbers["mask_area"]) == pytest.approx((1, 0.25))
    assert attention_numbers(attention, mask=1 - attention)["inside_mask"] == 0
    one = np.zeros((5, 5))
    one[2, 2] = 1
    assert attention_numbers(one)["entropy"] == 0
    assert attention_numbers(one)["centre_x"] == pytest.approx(0.5)


def test_numbers_of_a_map_of_zeros_are_undefined_not_zero():
    numbers = attention_numbers(torch.zeros(1, 1, 4, 4), mask=torch.ones(4, 4))
    assert numbers["area_above_half"] == 0
    assert all(np.isnan(numbers[name]) for name in ("entropy", "centre_x", "centre_y", "inside_mask"))


def test_numbers_refuse_what_they_cannot_measure():
    with pytest.raises(ValueError, match="resize the mask"):
        attention_numbers(np.ones((4, 4)), mask=np.ones((8, 8)))
    with pytest.raises(ValueError, match="finite"):
        attention_numbers(np.full((4, 4), np.nan))
