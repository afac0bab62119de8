"""export(): a file that gives the scores of the detector, or no file."""

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import sficonv
from sficonv.cli.app import main
from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.deploy import OpenVinoModel, open_exported
from sficonv.deploy.export import TOLERANCE, compare, export, read_calibration_crops
from sficonv.detect.demo import forge
from sficonv.detect.detector import Detector
from sficonv.errors import DataError, SficonvError
from sficonv.media.resize import resize
from sficonv.shipped import shipped


def check_parity(path: Path, weights: Path, images: np.ndarray, most: float = 1e-4) -> np.ndarray:
    """Compares on `images` at several batch sizes; returns the scores."""
    model, detector = open_exported(path), Detector.from_pretrained(weights, device="cpu")
    expected = detector.scores(list(images))
    assert expected.std() > 0.05, "scores that are all alike would hide a difference"
    for batch in (1, 2, len(images)):
        given = np.concatenate([model(images[i : i + batch]) for i in range(0, len(images), batch)])
        assert np.abs(given - expected).max() < most
    return expected


@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("sfic_resnet26", {"beta": 1.0}, 64),
        ("sfic_mobilenetv1", {"beta": 0.25, "alpha": 0.25}, 60),
        pytest.param("sfic_resnet26", {"beta": 0.5}, 64, marks=pytest.mark.slow),
        pytest.param("sfic_efficientnet_lite0", {"beta": 1.0}, 64, marks=pytest.mark.slow),
        pytest.param("sfic_efficientnet_lite0", {"beta": 0.75}, 60, marks=pytest.mark.slow),
        pytest.param("vgg13", {}, 48, marks=pytest.mark.slow),
    ],
)
def test_onnx_gives_the_scores_of_the_detector(make_weights, noise, tmp_path, name, options, side):
    weights = make_weights(name, image_size=side, crop=side, **options)
    result = export(weights, out=tmp_path / "detector.onnx")
    assert result.max_difference < 1e-4
    check_parity(tmp_path / "detector.onnx", weights, noise(6, side, seed=7))


@pytest.mark.parametrize("crop", [96, 40])
def test_the_resize_is_inside(make_weights, noise, tmp_path, crop):
    weights = make_weights("sfic_mobilenetv1", image_size=64, crop=crop)
    result = export(weights, out=tmp_path / "detector.onnx")
    assert result.crop_size == crop
    check_parity(tmp_path / "detector.onnx", weights, noise(6, crop, seed=7))


@pytest.mark.slow
def test_openvino_below_beta_1(make_weights, noise, tmp_path):
    weights = make_weights("sfic_mobilenetv1", image_size=60, crop=60, beta=0.75)
    export(weights, out=tmp_path / "detector.xml")
    check_parity(tmp_path / "detector.xml", weights, noise(6, 60, seed=7))


def test_openvino_gives_the_scores_of_the_detector(small, exported, noise):
    assert isinstance(open_exported(exported[".xml"].path), OpenVinoModel)
    check_parity(exported[".xml"].path, small, noise(6, 64, seed=7))


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_mirrored_view_is_inside_the_file(make_weights, noise, tmp_path, suffix):
    views = {"inference": {"views": ["original", "mirrored"]}}
    weights = make_weights("sfic_mobilenetv1", beta=1.0, extra=views)
    export(weights, out=tmp_path / f"both{suffix}")
    images = noise(6, 64, seed=7)
    scores = check_parity(tmp_path / f"both{suffix}", weights, images)
    both = Detector(tmp_path / f"both{suffix}")
    assert np.abs(both.scores(images[:, :, ::-1]) - scores).max() < 1e-4
    plain = Detector(weights, device="cpu", mirror=False).scores(images)
    assert np.abs(plain - scores).max() > 1e-3
    with pytest.raises(ValueError, match="export it again with --no-mirror"):
        Detector(tmp_path / f"both{suffix}", mirror=False)
    export(weights, out=tmp_path / f"one{suffix}", mirror=False)
    one = Detector(tmp_path / f"one{suffix}", mirror=False)
    assert np.abs(one.scores(images) - plain).max() < 1e-4


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_16_bit_weights(small, exported, noise, tmp_path, suffix):
    half = export(small, out=tmp_path / f"half{suffix}", precision="fp16")
    assert half.megabytes < 0.6 * exported[suffix].megabytes
    assert exported[suffix].max_difference < half.max_difference < 1e-2
    check_parity(half.path, small, noise(6, 64, seed=7), most=1e-2)


def test_8_bits_are_compared_on_crops_that_did_not_calibrate(small, exported, prepared, tmp_path):
    result = export(
        small, out=tmp_path / "q.xml", precision="int8", calibration_data=prepared, calibration_crops=20
    )
    assert result.megabytes < 0.5 * exported[".xml"].megabytes
    held_out = read_calibration_crops(prepared, 64, 20)[3::4]
    assert result.images == len(held_out) == 5
    differences = compare(result.path, Detector.from_pretrained(small, device="cpu"), held_out)
    assert (differences.mean(), differences.max()) == pytest.approx(
        (result.mean_difference, result.max_difference)
    )
    assert differences.min() > 1e-4  # it does compute in 8 bits; with random weights that moves every score


def check_8_bits(calibration: Path, crops: np.ndarray, out: Path, share: float) -> None:
    """The shipped detector in 8 bits moves scores by less than a share of how far they lie from their mean.

    A file that answers the same to every crop would come out at 1.
    """
    export(out=out, precision="int8", calibration_data=calibration, calibration_crops=64)
    detector = Detector.from_pretrained(device="cpu")
    scores = detector.scores(list(crops))
    assert scores.std() > 0.1
    assert compare(out, detector, crops).mean() < share * np.abs(scores - scores.mean()).mean()


@pytest.mark.slow
def test_8_bits_keep_the_scores_of_the_shipped_detector(prepare_crops, astronaut, tmp_path):
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    crops = []
    for i in range(24):
        angle = i * np.pi / 12
        light = np.clip(0.65 + 0.45 * (x * np.cos(angle) + y * np.sin(angle)), 0.15, 1.15)
        photo = np.clip(astronaut * light[..., None], 0, 255).astype(np.uint8)
        photo = forge(photo, seed=i) if i % 2 else photo
        crops.append(resize(photo[: 210 + 4 * (i % 5), 118 - 4 * (i % 5) : 328].copy(), (256, 256)))
    check_8_bits(prepare_crops(crops[:16]), np.stack(crops[16:]), tmp_path / "q.xml", 0.7)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_8_bits_calibrated_on_one_data_set_keep_the_scores_on_another(shared, prepare_crops, tmp_path):
    def read(pattern: str, step: int) -> list[np.ndarray]:
        files = sorted((shared / "data").glob(pattern))[::step]
        return [resize(cv2.imread(str(f))[:, :, ::-1].copy(), (256, 256)) for f in files]

    real, fake = read("ffpp_crops128/real/*", 13), read("ffpp_crops128/fake/*", 12)
    calibration = prepare_crops(crop for pair in zip(real, fake, strict=False) for crop in pair)
    crops = np.stack([*read("celebdf_crops/real/*", 30), *read("celebdf_crops/fake/*", 40)])
    check_8_bits(calibration, crops, tmp_path / "q.xml", 0.25)  # as docs/deploy.md says


def test_what_the_file_says_of_itself(small, exported):
    result = exported[".onnx"]
    model = open_exported(result.path)
    card = json.loads(small.with_suffix(".json").read_text(encoding="utf-8"))
    assert model.card == card
    assert model.metadata["weights_sha256"] == hashlib.sha256(small.read_bytes()).hexdigest()
    assert model.metadata["input"]["shape"] == [None, 64, 64, 3]
    assert model.metadata["versions"]["torch"]
    beside = json.loads(Path(f"{result.path}.json").read_text(encoding="utf-8"))
    file = beside.pop("file")
    assert beside == model.metadata == open_exported(exported[".xml"].path).metadata
    assert file == asdict(result) | {
        "path": "detector.onnx",
        "sha256": hashlib.sha256(result.path.read_bytes()).hexdigest(),
    }
    written = {p.name for p in result.path.parent.iterdir()}
    names = ("detector.onnx", "detector.xml")
    assert written == {*names, *(f"{name}.json" for name in names), "detector.bin"}


def test_the_file_names_no_folder_of_the_machine_that_made_it(exported):
    for written in (exported[".onnx"].path, shipped(".onnx")):
        assert str(Path(sficonv.__file__).parent).encode() not in written.read_bytes()
        assert b'File "' not in written.read_bytes()


def test_the_contract_of_exported_files(exported):
    """Names, types, shapes and version that programs around an exported file rely on."""
    import onnx
    import openvino

    graph = onnx.load(exported[".onnx"].path).graph
    (faces,), (p_fake,) = graph.input, graph.output

    def read(value):
        tensor = value.type.tensor_type
        shape = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        return value.name, onnx.TensorProto.DataType.Name(tensor.elem_type), shape

    assert read(faces) == ("faces", "UINT8", ["batch", 64, 64, 3])
    assert read(p_fake) == ("p_fake", "FLOAT", ["batch"])
    symbols = {axis.dim_param for v in graph.value_info for axis in v.type.tensor_type.shape.dim}
    assert not any(re.search(r"\bs\d+\b", symbol) for symbol in symbols)

    model = openvino.Core().read_model(exported[".xml"].path)
    (source,), (target,) = model.inputs, model.outputs
    assert (source.get_names(), source.element_type.get_type_name()) == ({"faces"}, "u8")
    assert str(source.partial_shape) == "[?,64,64,3]"
    assert (target.get_names(), target.element_type.get_type_name()) == ({"p_fake"}, "f32")
    assert target.partial_shape.rank.get_length() == 1

    for suffix in exported:
        metadata = open_exported(exported[suffix].path).metadata
        assert metadata["format"] == "sficonv-export/1"
        assert metadata["input"] == {
            "name": "faces", "type": "uint8", "shape": [None, 64, 64, 3], "colour": "RGB",
        }  # fmt: skip
        assert metadata["output"]["name"] == "p_fake"
        assert metadata["views"] == ["original"]


def test_nothing_is_written_where_scores_differ(small, tmp_path, monkeypatch):
    monkeypatch.setitem(TOLERANCE, "fp32", 0.0)
    with pytest.raises(SficonvError, match=r"not written, because P\(fake\) would differ"):
        export(small, out=tmp_path / "detector.onnx")
    assert not list(tmp_path.iterdir())


def test_the_comparison_sees_another_calibration(small, exported, noise):
    path = exported[".onnx"].path
    detector = Detector.from_pretrained(small, device="cpu")
    images = noise(4, 64)
    assert compare(path, detector, images).max() < 1e-5
    detector.torch.calibration = replace(detector.torch.calibration, temperature=1.9)
    assert compare(path, detector, images).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out": "detector.pt"}, "out must end in .onnx or .xml"),
        ({"out": "detector.xml", "format": "onnx"}, "out must end in .onnx,"),
        ({"out": "detector.onnx", "format": "tflite"}, "format must be one of onnx, openvino"),
        ({"out": "detector.onnx", "precision": "int4"}, "precision must be one of"),
        ({"out": "detector.onnx", "precision": "int8", "calibration_data": "faces"}, "made for OpenVINO"),
        ({"out": "detector.xml", "precision": "int8"}, "int8 needs calibration_data"),
        ({"out": "detector.onnx", "calibration_data": "faces"}, "int8 needs calibration_data"),
        (
            {"out": "q.xml", "precision": "int8", "calibration_data": "faces", "calibration_crops": 3},
            "at least 16",
        ),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        export(**arguments)


def test_test_crops_are_never_used(prepared):
    rows = read_manifest(prepared)
    taken = read_calibration_crops(prepared, 40, 100)
    assert len(taken) == len(rows) == 24
    assert read_calibration_crops(prepared, 64, 16).shape == (16, 64, 64, 3)
    write_manifest(prepared, rows.assign(split=["test"] * 10 + rows["split"].tolist()[10:]))
    held_out = [cv2.imread(str(prepared / p))[:, :, ::-1] for p in rows["path"][:10]]
    with pytest.raises(DataError, match="14 crops of the training and validation splits, 16 are needed"):
        read_calibration_crops(prepared, 40, 100)
    write_manifest(prepared, rows.assign(split=["test"] * 6 + rows["split"].tolist()[6:]))
    taken = read_calibration_crops(prepared, 40, 100)
    assert len(taken) == 18
    assert not any((crop == image).all() for crop in taken for image in held_out[:6])


def test_calibration_takes_more_of_the_label_that_is_rare(prepared):
    rows = read_manifest(prepared)
    write_manifest(prepared, rows.assign(label=[1] * 4 + [0] * 20))
    taken = read_calibration_crops(prepared, 40, 16)
    fakes = [cv2.imread(str(prepared / path))[:, :, ::-1] for path in rows["path"][:4]]
    assert len(taken) == 16
    assert sum(any((crop == fake).all() for crop in taken) for fake in fakes) >= 3


def test_the_command_line(small, tmp_path, capsys):
    out = tmp_path / "detector.onnx"
    assert main(["export", "--weights", str(small), "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["path"] == str(out)
    assert answer["max_difference"] < 1e-4
    assert main(["export", "--weights", str(small), "--out", str(tmp_path / "detector.txt")]) == 2
    assert "out must end in .onnx or .xml" in capsys.readouterr().err
    assert main(["export", "--weights", str(tmp_path / "no.safetensors"), "--out", str(out)]) == 1


@pytest.mark.shared
@pytest.mark.slow
def test_the_shipped_detector_on_real_crops(shared, tmp_path):
    files = sorted((shared / "data" / "celebdf_crops").rglob("*.jpg"))[::100]
    crops = np.stack([resize(cv2.imread(str(f))[:, :, ::-1].copy(), (256, 256)) for f in files])
    assert len(crops) >= 10
    result = export(out=tmp_path / "detector.onnx")
    detector = Detector.from_pretrained(device="cpu")
    assert np.abs(open_exported(result.path)(crops) - detector.scores(list(crops))).max() < 1e-4


def test_a_full_disk_is_said_with_the_name_of_the_file_and_leaves_nothing(make_weights, tiny_disk):
    weights = make_weights("sfic_mobilenetv1", image_size=64)
    with pytest.raises(
        (OSError, SficonvError),
        match=r"(?s)No space left on device.*detector\.onnx|"
        r"detector\.onnx.*No space left on device",
    ):
        export(weights, out=tiny_disk / "detector.onnx")
    assert not list(tiny_disk.iterdir())
