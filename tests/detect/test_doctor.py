"""`sficonv doctor` passes on a sound installation and says what is wrong with another."""

import json

import numpy as np
import pytest
import torch

from sficonv.detect.detector import Detector
from sficonv.detect.doctor import doctor, reference_inputs
from sficonv.files import sha256_of
from sficonv.models import create_model
from sficonv.models.checkpoint import save_weights


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    return save_weights(tmp_path / "w", create_model("sfic_mobilenetv1", image_size=64))


def change_card(weights, **entries):
    card = json.loads(weights.with_suffix(".json").read_text())
    weights.with_suffix(".json").write_text(json.dumps(card | entries))


def found(diagnosis, name):
    return next(check for check in diagnosis.checks if check.name == name)


def test_a_sound_installation_passes(weights):
    scores = Detector(weights, device="cpu").scores(reference_inputs())
    change_card(weights, reference_scores=scores.tolist(), weights_sha256=sha256_of(weights))
    diagnosis = doctor(weights=weights, device="cpu")
    assert not diagnosis.failed, diagnosis.summary()
    assert diagnosis.summary().endswith("all is well")
    assert "differ from those of the model card" in found(diagnosis, "reference scores").found
    assert diagnosis.to_dict()["sound"] is True


def test_what_is_wrong_is_named_and_the_rest_is_still_looked_at(weights, monkeypatch):
    import av

    change_card(weights, reference_scores=[0.9, 0.9, 0.1])
    monkeypatch.setattr(av, "codecs_available", {"h264"})
    monkeypatch.setattr("sficonv.faces.detectors.YuNet.__call__", lambda self, image: 1 / 0)
    diagnosis = doctor(weights=weights, device="cpu")
    assert diagnosis.failed
    wrong = {check.name: check.found for check in diagnosis.checks if not check.sound}
    assert wrong.keys() == {"video decoders", "face search", "reference scores"}
    assert "hevc" in wrong["video decoders"]
    assert "ZeroDivisionError" in wrong["face search"]


def test_weights_that_cannot_be_used_are_a_finding(tmp_path):
    diagnosis = doctor(weights=tmp_path / "gone.safetensors")
    assert not found(diagnosis, "weights").sound
    assert "gone.safetensors" in diagnosis.summary()


def test_the_stored_inputs_are_the_same_everywhere():
    ramp, stripes, noise = reference_inputs()
    assert (ramp[0, 0].tolist(), stripes[8, 0, 0]) == ([0, 127, 127], 200)
    assert noise[0, 0].tolist() == [217, 163, 130]
    assert np.stack([ramp, stripes, noise]).dtype == np.uint8
