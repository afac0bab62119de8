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
    sound = json.loads({entry.key: entry.value for entry in foreign.metadata_props}["sficonv"])
    changes = [{"input": {"shape": [None, side, 64, 3]}} for side in (10**9, float("inf"), -1, "64", None)]
    changes += [{"input": {"shape": [None, 10**9, 64, 64, 3]}}, {"views": 5}, {"card": {}}, {"format": "a/1"}]
    for metadata in ("", "[]", *(json.dumps(sound | change) for change in changes)):
        onnx.helper.set_model_props(foreign, {"sficonv": metadata})
        onnx.save(foreign, tmp_path / "foreign.onnx")
        with pytest.raises(WeightsError, match="export it again"):
            OnnxModel(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(("name", "axes"), [("p_fake", (1, 2, 3)), ("p_fake", (1, 2)), ("p", (1, 2, 3))])
def test_a_file_that_computes_something_else_gives_no_scores(exported, noise, tmp_path, name, axes):
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["faces"], ["floats"], to=types.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axes"], [name], keepdims=0),
    ]
    faces = helper.make_tensor_value_info("faces", types.UINT8, [None, 64, 64, 3])
    answer = helper.make_tensor_value_info(name, types.FLOAT, None)
    graph = helper.make_graph(
        nodes, "other", [faces], [answer], [helper.make_tensor("axes", types.INT64, [len(axes)], axes)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.metadata_props.extend(onnx.load(exported[".onnx"].path).metadata_props)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match=r"other\.onnx: the model"):
        OnnxModel(tmp_path / "other.onnx")(noise(2, 64))


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
