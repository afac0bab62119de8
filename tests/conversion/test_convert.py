"""convert(): whole backbones, vanilla to SFIC."""

import copy
import json
from fractions import Fraction

import pytest
import timm
import torch
import torchvision
from torch import nn

from sficonv.conversion.convert import convert
from sficonv.nn import SFIConv2d


def backbone(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vgg11_bn":
        return torchvision.models.vgg11_bn(num_classes=2, dropout=0.0)
    return timm.create_model(name, num_classes=2)


NAMES = ["resnet18", "resnet26", "efficientnet_lite0", "vgg11_bn", "efficientnet_b0"]


def stages(model: nn.Module) -> list[str]:
    return [r.stage for r in model.report.layers]


@pytest.mark.parametrize("name", NAMES)
def test_bypassed_at_beta_1_equals_the_original(name):
    model = backbone(name).eval()
    converted = convert(model, 0.5, 1.0, mcs_mode="none")
    x = torch.randn(2, 3, 64, 64)
    assert torch.allclose(converted(x), model(x), rtol=1e-4, atol=1e-6)
    assert list(converted.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("alpha", "beta"), [(0.25, 1.0), (0.3, 0.75), (1.0, 0.5), (0.5, 0.25), (Fraction(2, 3), Fraction(1, 3))]
)
def test_forward_and_backward(name, alpha, beta):
    converted = convert(backbone(name), alpha, beta, input_size=(3, 64, 64))
    converted(torch.randn(2, 3, 63, 65)).sum().backward()
    missing = [k for k, p in converted.named_parameters() if p.grad is None]
    assert not missing
    extra = set(converted.state_dict()) - set(backbone(name).state_dict())
    assert extra and all(".mcs." in key for key in extra)
    counts = stages(converted)
    assert counts[0] == "head"
    assert counts.count("Stage 1") >= 1
    assert counts.count("Stage 3") == 1


def test_converting_leaves_the_original_alone():
    model = backbone("resnet18").eval()
    before = copy.deepcopy(model.state_dict())
    convert(model, 0.5, 0.5, init="paper")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(isinstance(m, SFIConv2d) for m in model.modules())


def test_pretrained_weights_survive():
    model = backbone("resnet26")
    loaded_first = convert(model, 0.5, 0.5)
    loaded_after = convert(backbone("resnet26"), 0.5, 0.5)
    missing, unexpected = loaded_after.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert all("mcs" in key for key in missing)
    loaded_after.load_state_dict(loaded_first.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded_first.eval()(x), loaded_after.eval()(x))


def test_the_authors_resnet_layout():
    converted = convert(backbone("resnet26"), downsample="avgpool", shortcut="stage1", fuse_at="layer4.0")
    of = {r.layer: r.stage for r in converted.report.layers}
    assert of["conv1"] == "head"
    assert of["layer1.0.conv1"] == "Stage 1"
    assert of["layer1.0.downsample.0"] == "Stage 2"
    assert of["layer4.0.conv3"] == of["layer4.0.downsample.0"] == "Stage 3"
    assert of["layer4.1.conv1"] == "vanilla"
    assert list(of.values()).count("Stage 1") == 1


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_authors_shortcut_reads_the_activated_stage1(beta):
    converted = convert(backbone("resnet26"), 0.5, beta, shortcut="stage1", fuse_at="layer4.0")
    nodes = {str(n.target): n for n in converted.graph.nodes if n.op == "call_module"}
    assert nodes["layer1.0.downsample.0"].args == nodes["layer1.0.conv2"].args


def test_a_second_reader_of_the_head_gets_its_own_stage1():
    of = {r.layer: r.stage for r in convert(backbone("resnet26")).report.layers}
    assert of["layer1.0.conv1"] == of["layer1.0.downsample.0"] == "Stage 1"


def test_alpha_0_with_avgpool_is_the_vanilla_control():
    model = backbone("resnet18").eval()
    control = convert(model, 0, downsample="avgpool")
    assert set(stages(control)) == {"head", "vanilla"}
    assert list(control.state_dict()) == list(model.state_dict())
    same = convert(model, 0)
    x = torch.randn(1, 3, 64, 64)
    assert torch.allclose(same(x), model(x))
    assert not torch.allclose(control(x), model(x))


def test_report_is_json_and_readable():
    report = convert(backbone("resnet18"), 0.5, 0.5, input_size=(3, 64, 64)).report
    read = json.loads(report.to_json())
    assert read["alpha"] == 0.5
    assert read["layers"][0] == {
        "layer": "conv1", "stage": "head", "spa_in": 3, "fre_in": 0, "spa_out": 64, "fre_out": 0,
        "macs": 3 * 64 * 49 * 32 * 32, "note": "",
    }  # fmt: skip
    assert "layer1.0.conv1" in str(report)
    macs = [r["macs"] for r in read["layers"]]
    assert read["share"] == report.share == pytest.approx(1 - macs[0] / sum(macs))


def test_copies_keep_report_and_mode():
    converted = convert(backbone("resnet18").eval(), 0.5, 0.5)
    assert not converted.training
    assert copy.deepcopy(converted).report == converted.report


@pytest.mark.slow
def test_compiles_whole():
    converted = convert(backbone("resnet18"), 0.5, 0.5).eval()
    x = torch.randn(1, 3, 64, 64)
    compiled = torch.compile(converted, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), converted(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_functional_dropout_follows_the_mode(training):
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=2, drop_rate=0.5).train(training)
    converted = convert(model, 0.5, 0.5).eval()
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(converted(x), converted(x))
    converted.train()
    assert not torch.equal(converted(x), converted(x))


def test_what_would_stay_vanilla_is_refused():
    with pytest.raises(ValueError, match="no convolution of ResNet can become Stage 2 .*conv1: alpha"):
        convert(backbone("resnet18"), 1e-6)


@pytest.mark.parametrize("alpha", [0, 0.2, Fraction(1, 3), 1])
@pytest.mark.parametrize("beta", [0, 0.3, Fraction(2, 3), 1])
def test_any_alpha_and_beta(alpha, beta):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=2)
    converted = convert(model, alpha, beta)
    x = torch.randn(2, 3, 33, 40)
    out = converted(x)
    assert out.isfinite().all()
    out.square().sum().backward()
    assert all(p.grad is not None for p in converted.parameters())
    inner = next(r for r in converted.report.layers if r.layer == "layer2.0.conv1")
    assert (inner.spa_out, inner.fre_out) == (128 - int(alpha * 128), int(alpha * 128))
    if alpha == 0:
        assert torch.allclose(out, model(x), rtol=1e-4, atol=1e-6)


def test_beta_0_keeps_one_value_per_channel():
    converted = convert(backbone("resnet18"), 0.5, 0)
    seen = []
    layer = converted.get_submodule("layer2.0.conv1")
    layer.register_forward_hook(lambda module, args, out: seen.append(out.fre.shape))
    converted(torch.randn(2, 3, 64, 64))
    assert seen == [(2, 64, 1, 1)]


def test_keeps_the_dtype():
    converted = convert(backbone("resnet18").bfloat16(), 0.5, 0.5)
    assert {p.dtype for p in converted.parameters()} == {torch.bfloat16}


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, 8, 3, padding=1) for i in (3, 8, 8))

    def forward(self, x):
        x = self.a(x)
        return self.c(self.b(x)) if x.sum() > 0 else self.b(x)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("alpha", lambda m: convert(m, alpha=1.1)),
        ("alpha", lambda m: convert(m, alpha=None)),
        ("beta", lambda m: convert(m, beta=-0.1)),
        ("mcs_mode", lambda m: convert(m, mcs_mode="x")),
        ("downsample", lambda m: convert(m, downsample="x")),
        ("shortcut", lambda m: convert(m, shortcut="x")),
        ("init", lambda m: convert(m, init="x")),
        ("fuse_at='layer9'", lambda m: convert(m, fuse_at="layer9")),
        ("Odd cannot be traced", lambda m: convert(Odd())),
        ("has 1 convolutions", lambda m: convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))),
        ("does not run", lambda m: convert(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)))),
    ],
)
def test_errors_say_what_is_wrong(message, call):
    with pytest.raises(ValueError, match=message):
        call(backbone("resnet18"))
