"""What is in huggingface_hub's cache is used without a network; nothing here needs one."""

import huggingface_hub
import pytest
import torch

from sficonv.detect.detector import Detector
from sficonv.errors import WeightsError
from sficonv.models import create_model, save_weights
from sficonv.models.checkpoint import load_weights
from sficonv.models.hub import is_repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def snapshot(cache):
    """The folder of `somebody/detector` in it, as an earlier download would have left it."""
    repository = cache / "models--somebody--detector"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("meso_inception4", image_size=64).eval()


def test_a_detector_of_a_repository(snapshot, model):
    save_weights(snapshot / "weights", model, {"limits": ["None known."]})
    detector = Detector.from_pretrained("somebody/detector", device="cpu")
    assert detector.limits == ("None known.",)
    loaded, card = load_weights("somebody/detector")
    assert card["model"] == "meso_inception4"
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_it_must_hold_one_detector(snapshot, model):
    with pytest.raises(WeightsError, match=r"one \.safetensors file with its model card .* found 0"):
        load_weights("somebody/detector")
    for name in ("a", "b"):
        save_weights(snapshot / name, model)
    with pytest.raises(WeightsError, match="found 2"):
        load_weights("somebody/detector")


def test_without_a_network_the_error_says_what_to_do(cache):
    with pytest.raises(WeightsError, match=r"nobody/nothing: no such weights file.*Without a network"):
        Detector.from_pretrained("nobody/nothing")


@pytest.mark.parametrize("name", ["default", "w.safetensors", "a/b.safetensors", "a/b.onnx", "/a/b", "a/b/c"])
def test_what_names_a_file_never_means_a_repository(name):
    assert not is_repository(name)


def test_what_lies_in_a_folder_of_this_machine_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert not is_repository("runs/typo")
    with pytest.raises(WeightsError, match="no such weights file$"):
        load_weights("runs/typo")


def test_a_commit_pins_what_is_loaded(snapshot, model):
    """The main branch may move on; a commit stays."""
    save_weights(snapshot / "weights", model, {"limits": ["of the commit"]})
    (snapshot.parents[1] / "refs" / "main").write_text("f" * 40)
    assert load_weights(f"somebody/detector@{COMMIT}")[1]["limits"] == ["of the commit"]
    with pytest.raises(WeightsError, match="no such weights file, and no repository"):
        load_weights("somebody/detector")
