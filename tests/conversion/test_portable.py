"""Converted and folded models survive pickle and copies, and keep what timm's models offer."""

import copy
import io
import json
import pickle
import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from sficonv.conversion.convert import ConvertedModel, convert
from sficonv.conversion.fold import FoldedModel, fold
from sficonv.models import create_model


def saved(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("name", ["sfic_resnet26", "sfic_mobilenetv1"])
def test_a_registered_model_survives_pickle_save_and_copy(name, beta):
    model = create_model(name, alpha=0.5, beta=beta)
    x = torch.randn(2, 3, 64, 64)
    for again in (saved(model), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert isinstance(again, ConvertedModel)
        assert type(again).__name__ == type(model).__name__
        assert again.config == model.config and again.report == model.report
        assert again.training
        with pytest.raises(ValueError, match="takes images"):  # the check of the input came along
            again(x[:, :1])
        for a, b in zip(again.eval().state_dict().values(), model.eval().state_dict().values(), strict=True):
            assert torch.equal(a, b)
        with torch.no_grad():
            assert torch.equal(again(x), model(x))
        next(again.parameters()).data.zero_()
        assert next(model.parameters()).any()
        model.train()


def test_a_folded_model_survives_too():
    folded = fold(create_model("sfic_resnet26", beta=0.5))
    x = torch.randn(2, 3, 64, 64)
    for again in (saved(folded), copy.deepcopy(folded)):
        assert isinstance(again, FoldedModel)
        assert again.folding == folded.folding and again.config == folded.config
        assert torch.equal(again(x), folded(x))


@pytest.mark.parametrize("name", ["dla34", "efficientnet_b0", "inception_v3", "regnetx_002"])
def test_converted_timm_models_survive(name):
    model = convert(timm.create_model(name, num_classes=2), 0.25, 0.75, input_size=(3, 96, 96)).eval()
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(saved(model)(x), model(x))


@pytest.mark.slow
def test_a_model_reaches_another_process(tmp_path):
    model = create_model("sfic_resnet26", beta=0.5).eval()
    torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch; model = torch.load(sys.argv[1], weights_only=False); "
        "print(model(torch.ones(1, 3, 64, 64)).tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.pt")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=250).stdout
    # threads differ between the processes, and so does the order in which numbers are added up
    there, here = torch.tensor(json.loads(printed)), model(torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_what_timm_models_offer_is_kept(name, beta):
    original = timm.create_model(name, num_classes=2).eval()
    model = convert(original, 0.5, beta, mcs_mode="none")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps, wanted = model.forward_features(x), original.forward_features(x)
        assert maps.shape == wanted.shape
        if beta == 1:
            assert torch.allclose(maps, wanted, atol=1e-4)
        pooled = model.get_classifier()
        logits = model(x)
        assert torch.allclose(pooled(maps.mean((2, 3))), logits, atol=1e-4)
        model.reset_classifier(5)
        assert model(x).shape == (2, 5)
        assert copy.deepcopy(model)(x).shape == (2, 5)
        model.set_grad_checkpointing(False)
    with pytest.raises(ValueError, match="cannot be checkpointed"):
        model.set_grad_checkpointing()


def test_a_reset_classifier_is_in_the_config_of_a_registered_model():
    model = create_model("sfic_resnet26")
    model.reset_classifier(3)
    assert model.config.num_classes == 3


def test_converting_twice_says_what_was_done():
    model = convert(timm.create_model("resnet18", num_classes=2), 0.5, 0.5)
    with pytest.raises(ValueError, match=r"converted already \(alpha=0.5, beta=0.5\)"):
        convert(model)


def test_a_hook_that_would_never_run_warns_and_one_on_a_layer_runs():
    model = convert(timm.create_model("resnet18", num_classes=2), 0.5, 0.5).eval()
    with pytest.warns(UserWarning, match="will never run"):
        model.layer4.register_forward_hook(lambda *_: None)
    seen = []
    model.get_submodule("layer4.1.conv2").register_forward_hook(lambda *_: seen.append(True))
    model(torch.randn(1, 3, 64, 64))
    assert seen == [True]
