"""OnnxModel and OpenVinoModel: what they take, and what they refuse."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from sficonv.deploy import OnnxModel, OpenVinoModel, open_exported
from sficonv.errors import SficonvError, WeightsError


@pytest.fixture(params=[".onnx", ".xml"])
def model(request, exported):
    return open_exported(exported[request.param].path, threads=1)


def test_both_layouts(model, noise):
    faces = noise(3, 64)
    scores = model(faces)
    assert scores.shape == (3,) and scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()
    assert np.array_equal(model(faces.transpose(0, 3, 1, 2)), scores)
    assert np.array_equal(model(np.flip(faces, 0)), scores[::-1])
    assert model(faces[:0]).shape == (0,)


@pytest.mark.parametrize(
    "faces",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 65, 64, 3), np.uint8),
        np.zeros((1, 64, 64, 4), np.uint8),
    ],
)
def test_other_input_is_refused(model, faces):
    with pytest.raises(ValueError, match=r"takes face crops as RGB uint8 \(B, 64, 64, 3\)"):
        model(faces)


def test_files_that_are_no_exported_detector(exported, tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        open_exported(tmp_path / "missing.onnx")
    with pytest.raises(WeightsError, match=r"\.onnx file or OpenVINO"):
        open_exported(tmp_path / "weights.safetensors")
    for name in ("broken.onnx", "broken.xml"):
        (tmp_path / name).write_bytes(b"not a model")
        with pytest.raises(WeightsError, match=f"{name}: not a model that"):
            open_exported(tmp_path / name)
    foreign = onnx.load(exported[".onnx"].path)
    for metadata in ("", "[]", json.dumps({"format": "another/1", "input": {"shape": [None, 64, 64, 3]}})):
        onnx.helper.set_model_props(foreign, {"sficonv": metadata})
        onnx.save(foreign, tmp_path / "foreign.onnx")
        with pytest.raises(WeightsError, match="export it again"):
            OnnxModel(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    ("package", "extra", "kind"),
    [("onnxruntime", "onnx", OnnxModel), ("openvino", "openvino", OpenVinoModel)],
)
def test_a_missing_package_names_its_extra(exported, monkeypatch, package, extra, kind):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SficonvError, match=rf"needs {package}: pip install 'sficonv\[{extra}\]'"):
        kind(exported[".onnx" if kind is OnnxModel else ".xml"].path)


def test_openvino_reports_its_use_to_nobody(exported, tmp_path):
    program = (
        "import sys; from sficonv.exported import open_exported; open_exported(sys.argv[1]);"
        "from openvino.tools import ovc; print(type(ovc.telemetry).__module__)"
    )
    command = [sys.executable, "-c", program, str(exported[".xml"].path)]
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
    assert not list(tmp_path.iterdir())  # left alone it keeps an identifier there
