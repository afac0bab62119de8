"""convert() on a fixed sample of 40 families of timm and torchvision, the smallest member of each."""

import pytest
import timm
import torch
import torchvision
from torch import nn

import sficonv.conversion.branches
import sficonv.nn.sficonv
from sficonv.conversion.convert import convert

# what the family is in the sample for
FAMILIES = {
    "resnet10t": "residual blocks, deep stem",
    "resnetv2_18": "norm before convolution",
    "resnext26ts": "grouped convolutions",
    "seresnext26ts": "gates over pooled channels",
    "eca_resnet33ts": "gates through a 1-d convolution",
    "skresnet18": "branches chosen by a gate",
    "resnest14d": "split attention",
    "res2net50_26w_4s": "chain of channel groups",
    "resnetblur18": "blurred pooling",
    "regnetx_002": "groups that alpha may cross",
    "nf_regnet_b0": "standardised weights, no norm layers",
    "densenet": "concatenation before the norm",
    "legacy_seresnet18": "gates, older code",
    "dla46x_c": "trees of concatenations",
    "dpn48b": "concatenation and addition",
    "ese_vovnet19b_slim_dw": "one concatenation per stage",
    "hrnet_w18_small": "sums of several resolutions",
    "hgnetv2_b0": "concatenation of a whole stage",
    "cs3darknet_focus_s": "channels in halves, space to depth",
    "cspresnet50": "the same, one half untouched",
    "inception_next_atto": "four kinds of kernels",
    "inception_v3": "unpadded and one-sided kernels",
    "torchvision/googlenet": "auxiliary classifiers",
    "legacy_xception": "separable convolutions",
    "lcnet_035": "depthwise convolutions",
    "tf_efficientnet_b0": "padding that depends on the input",
    "tf_efficientnet_cc_b0_4e": "weights that depend on the input",
    "mixnet_s": "mixed kernels",
    "repvgg_a0": "parallel branches",
    "selecsls42": "concatenation over several blocks",
    "ghostnet_050": "cheap features",
    "rexnet_100": "partial shortcuts",
    "convnext_zepto_rms": "norm over channels",
    "poolformerv2_s12": "pooling as mixer",
    "edgenext_xx_small": "attention between convolutions",
    "fasternet_t0": "partial convolution",
    "starnet_s050": "products of maps",
    "torchvision/shufflenet_v2_x0_5": "channel shuffle",
    "torchvision/squeezenet1_1": "no norm layers",
    "vgg11_bn": "a plain chain",
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vgg11_bn":  # without its 120 million parameters of fully connected layers
        features = torchvision.models.vgg11_bn(weights=None).features
        return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 2))
    if name == "densenet":  # densenet121 with fewer layers
        return timm.models.DenseNet(16, (3, 3, 3, 3), num_classes=2)
    if name.startswith("torchvision/"):
        options = {"init_weights": False} if name.endswith("googlenet") else {}
        return torchvision.models.get_model(name.removeprefix("torchvision/"), num_classes=2, **options)
    return timm.create_model(name, num_classes=2)


def input_of(name: str) -> torch.Tensor:
    torch.manual_seed(1)
    side = {"inception_v3": 80}.get(name, 64)
    return torch.randn(2, 3, side, side)


@torch.no_grad()
def draw_constants(model: nn.Module) -> nn.Module:
    """Scales are born as 1, 0 or 1e-6: behind a factor of 0 no error would be seen."""
    for p in model.parameters():
        if p.numel() > 1 and p.min() == p.max():
            nn.init.uniform_(p, 0.5, 1.0) if p.max() > 0 else nn.init.normal_(p, std=0.1)
    return model


def logits(output) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else torch.cat([logits(o) for o in output], 1)


def difference(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


def check_backward(model: nn.Module, x: torch.Tensor, spared: set[str]) -> None:
    out = logits(model.train()(x))
    assert out.isfinite().all()
    out.square().mean().backward()
    without = {k for k, p in model.named_parameters() if p.grad is None}
    assert without <= spared
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name, monkeypatch):
    model, x = draw_constants(build(name)), input_of(name)
    options = {"input_size": tuple(x.shape[1:])}

    one = convert(model, 0.5, 1.0, mcs_mode="none", **options)
    assert one.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        want = logits(model.eval()(x))
        assert difference(logits(one.eval()(x)), want) < 1e-4
    check_backward(one, x, set())

    half = convert(model.train(), 0.5, 0.5, **options)
    stages = [r.stage for r in half.report.layers]
    assert {"Stage 1", "Stage 2"} <= set(stages)
    assert half.report.share > 0.5
    assert [r.stage for r in one.report.layers] == stages
    check_backward(half, x, set())
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, half)]
    assert abs(counts[1] / counts[0] - 1) < 0.01

    # the same two-branch graph with both branches at full resolution is the original again
    for module in (sficonv.nn.sficonv, sficonv.conversion.branches):
        monkeypatch.setattr(module, "frequency_size", lambda size, beta: size)
    wired = convert(model.eval(), 0.3, 0.5, mcs_mode="none", **options)
    with torch.no_grad():
        assert difference(logits(wired(x)), want) < 1e-4
