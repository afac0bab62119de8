"""Weights files: what loads, what is refused, and that nothing runs code."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from sficonv.conversion.convert import convert
from sficonv.errors import WeightsError
from sficonv.files import sha256_of
from sficonv.models import create_model, load_weights, read_card, save_weights
from sficonv.shipped import shipped


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_weights(
        tmp_path_factory.mktemp("w") / "detector", create_model("sfic_resnet26"), {"limits": ["none"]}
    )


def test_card(saved):
    card = read_card(saved)
    assert card["limits"] == ["none"]
    assert (card["image_size"], card["model"]) == (256, "sfic_resnet26")


def test_half_precision_halves_the_file_and_keeps_the_scores(saved, tmp_path):
    model, _ = load_weights(saved)
    half = save_weights(tmp_path / "half", model, half=True)
    assert half.stat().st_size < 0.51 * saved.stat().st_size
    x = torch.randn(2, 3, 64, 64)
    loaded, _ = load_weights(half)
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    assert (loaded(x).softmax(1) - model(x).softmax(1)).abs().max() < 5e-3


def copy_of(saved, folder, **changes):
    """The saved pair in a new folder, with entries of its card changed."""
    target = folder / "w.safetensors"
    target.write_bytes(saved.read_bytes())
    card = {**read_card(saved), **changes}
    target.with_suffix(".json").write_text(json.dumps(card))
    return target


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        load_weights(tmp_path / "nothing.safetensors")


def test_weights_of_another_model(saved, tmp_path):
    with pytest.raises(
        WeightsError, match="not weights of 'resnet26'.*unknown, such as layer1.0.conv1.mcs.weight"
    ):
        load_weights(copy_of(saved, tmp_path, model="resnet26", options={}))


def test_unknown_model_in_card(saved, tmp_path):
    with pytest.raises(WeightsError, match="unknown model 'somenet'"):
        load_weights(copy_of(saved, tmp_path, model="somenet"))


@pytest.mark.parametrize("content", [b"", b"garbage" * 99])
def test_corrupt_file(saved, tmp_path, content):
    path = copy_of(saved, tmp_path)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_weights(path)


def test_truncated_file(saved, tmp_path):
    path = copy_of(saved, tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_weights(path)


def test_weights_that_are_not_finite(saved, tmp_path):
    path = copy_of(saved, tmp_path)
    tensors = load_file(path)
    tensors["fc.bias"][0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="not finite"):
        load_weights(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}'])
def test_bad_card(saved, tmp_path, text):
    path = copy_of(saved, tmp_path)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(WeightsError, match="not a model card"):
        load_weights(path)


class Bomb:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.mkdir, (str(self.flag),)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_a_pickle_runs_no_code(saved, tmp_path, suffix):
    flag = tmp_path / "the-code-ran"
    path = copy_of(saved, tmp_path).with_suffix(suffix)
    path.write_bytes(pickle.dumps(Bomb(flag)))
    with pytest.raises(WeightsError, match="weights must be a .safetensors file|not a readable safetensors"):
        load_weights(path)
    assert not flag.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": None}, {"image_size": "big"}, {"image_size": 0}, {"mean": [1]}, {"std": [0, 1, 1]},
        {"num_classes": 10**11}, {"num_classes": "two"}, {"options": []}, {"options": {"alpha": "1/0"}},
        {"options": {"alpha": "1/" + "9" * 5000}}, {"options": {"nonsense": 1}}, {"limits": 5},
        {"std": [float("inf"), 1, 1]}, {"std": [-1, 1, 1]}, {"labels": ["fake", "real"]},
        {"calibration": {"temperature": 1e300}}, {"calibration": {"uncertain": [0, 0]}},
    ],
)  # fmt: skip
def test_a_card_that_makes_no_sense(saved, tmp_path, changes):
    with pytest.raises(WeightsError, match="card"):
        load_weights(copy_of(saved, tmp_path, **changes))


def test_what_does_not_fit_into_16_bits_is_not_saved(tmp_path):
    model = create_model("sfic_resnet26")
    model.bn1.running_var.fill_(7e4)
    with pytest.raises(WeightsError, match=r"bn1.running_var holds values that are not finite in 16 bits"):
        save_weights(tmp_path / "w", model, half=True)


@pytest.mark.parametrize("entry", ["model", "options", "num_classes", "image_size", "mean", "std"])
def test_a_card_that_does_not_describe_its_model(saved, tmp_path, entry):
    path = copy_of(saved, tmp_path)
    card = read_card(path)
    del card[entry]
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=f"its card does not say {entry}"):
        load_weights(path)


def test_floats_stored_as_whole_numbers_are_refused(saved, tmp_path):
    path = copy_of(saved, tmp_path)
    tensors = load_file(path)
    tensors["fc.weight"] = tensors["fc.weight"].to(torch.int8)
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="1 of another type, such as fc.weight"):
        load_weights(path)


def test_weights_that_the_card_was_not_written_for(saved, tmp_path):
    path = copy_of(saved, tmp_path)
    tensors = load_file(path)
    tensors["fc.bias"] += 1
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="their hash differs"):
        load_weights(path)
    card = read_card(path)
    del card["weights_sha256"]  # as in cards of before
    path.with_suffix(".json").write_text(json.dumps(card))
    load_weights(path)


def test_a_card_that_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(WeightsError, match="limits"):
        save_weights(tmp_path / "w", create_model("meso_inception4"), {"limits": 5})
    assert not list(tmp_path.iterdir())


def test_the_hash_of_the_shipped_weights_stands_in_their_card():
    path = shipped()
    assert read_card(path)["weights_sha256"] == sha256_of(path)


def test_a_card_from_another_model_does_not_change_what_the_model_is(tmp_path):
    _, card = load_weights(save_weights(tmp_path / "old", create_model("sfic_resnet26", beta=1.0)))
    path = save_weights(tmp_path / "new", create_model("sfic_resnet26", beta=0.5), {**card, "data": {"a": 1}})
    model, card = load_weights(path)
    assert model.report.beta == card["options"]["beta"] == 0.5
    assert card["data"] == {"a": 1}


@pytest.mark.parametrize(
    ("given", "written"),
    [("run.v1", "run.v1.safetensors"), ("w.pt", "w.safetensors"), ("w.safetensors", "w.safetensors")],
)
def test_a_dot_in_a_name_is_kept(given, written, tmp_path):
    path = save_weights(tmp_path / given, create_model("meso_inception4"))
    assert path.name == written and path.with_suffix(".json").is_file()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: torch.nn.Linear(2, 2), "Linear has no config"),
        (lambda: None, "NoneType has no config"),
        (
            lambda: convert(create_model("resnet26"), 0.5, 0.5, mcs_mode="none"),
            "converted after it was created",
        ),
    ],
)
def test_a_model_that_no_card_can_describe_is_not_saved(model, said, tmp_path):
    with pytest.raises(WeightsError, match=said):
        save_weights(tmp_path / "w", model())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["pretrained", "image_size", "num_classes"])
def test_a_card_cannot_make_its_weights_reach_for_a_network(saved, tmp_path, option):
    path = copy_of(saved, tmp_path, model="resnet26", options={option: 1})
    with pytest.raises(WeightsError, match=f"cannot set {option}"):
        load_weights(path)
