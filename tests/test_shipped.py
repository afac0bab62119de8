"""The detector that comes with the package: there, small, documented, and able to run the demonstration."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from safetensors import safe_open

from sficonv.cli.app import main
from sficonv.detect.demo import photograph
from sficonv.detect.detector import Detector
from sficonv.detect.doctor import reference_inputs
from sficonv.exported import OnnxModel
from sficonv.faces.detectors import YuNet
from sficonv.faces.face import crop_face
from sficonv.files import sha256_of
from sficonv.models.checkpoint import read_card
from sficonv.nn import SFIConv2d
from sficonv.shipped import shipped

WEIGHTS = sorted(Path(str(files("sficonv") / "weights")).glob("*.safetensors"))

pytestmark = pytest.mark.skipif(not WEIGHTS, reason="this copy of the package carries no detector yet")


def test_there_is_exactly_one_and_it_is_small():
    assert [shipped()] == WEIGHTS
    assert WEIGHTS[0].stat().st_size <= 12e6


def test_its_numbers_take_16_bits():
    with safe_open(WEIGHTS[0], framework="pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    counters = {name for name in kinds if name.endswith("num_batches_tracked")}
    assert {kind for name, kind in kinds.items() if name not in counters} == {"F16"}


def test_it_loads_and_is_a_detector_of_this_library():
    detector = Detector.from_pretrained("default", device="cpu")
    assert detector.name.startswith("sfic_")
    assert any(isinstance(module, SFIConv2d) for module in detector.torch.model.modules())
    assert detector.limits


@pytest.mark.parametrize("entry", ["metrics", "calibration", "limits", "data"])
def test_its_card_says(entry):
    assert read_card("default").get(entry)


def test_it_is_calibrated():
    assert {"temperature", "uncertain"} <= read_card("default")["calibration"].keys()


def test_the_same_detector_lies_beside_it_for_installations_without_pytorch():
    """`export_shipped` in benchmarks/publish_detector.py makes it."""
    exported = OnnxModel(shipped(".onnx"))
    assert exported.metadata["weights_sha256"] == sha256_of(shipped())
    assert exported.card == read_card("default")
    face, _ = crop_face(photograph(), YuNet()(photograph())[0])
    crops = [*reference_inputs(), face]
    scores = [Detector(shipped(suffix), device="cpu").scores(crops) for suffix in (".onnx", ".safetensors")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.slow
def test_the_demonstration_runs_as_shipped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    page = Path(answer["report"]).read_text(encoding="utf-8")
    assert page.count("<article") == len(answer["cases"]) >= 4
    calibration = read_card("default")["calibration"]
    low, high = calibration["uncertain"]
    shown = sorted(map(float, re.findall(r"<small>P\(fake\)</small>([\d.]+)<", page)))
    assert shown == pytest.approx(sorted(case["p_fake"] for case in answer["cases"]), abs=0.0051)
    for case in answer["cases"]:
        judged = "real" if case["p_fake"] < low else "fake" if case["p_fake"] > high else "uncertain"
        assert case["verdict"] == (judged if case["tracks"][0]["decides"] else "uncertain")
        assert (case["outcome"] == "right") == (case["verdict"] == case["truth"])
    assert answer["right"] == sum(case["outcome"] == "right" for case in answer["cases"])
