import numpy as np
import pytest
import torch
from torch import nn

from sficonv.detect.detector import Detector
from sficonv.errors import WeightsError
from sficonv.models import create_model
from sficonv.models.checkpoint import save_weights


def grey(level: int, size: int = 32) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def test_scores_are_the_models_whatever_the_batching(detector):
    crops = [grey(level) for level in range(0, 250, 10)]
    together = detector.scores(crops)
    detector.batch_size = 4
    np.testing.assert_allclose(detector.scores(crops), together, atol=1e-6)
    np.testing.assert_allclose(together[1:], [c.mean() / 255 for c in crops[1:]], atol=1e-4)
    assert max(detector.torch.model.batches[1:]) == 4


def test_crops_of_different_sizes_are_judged_together(detector):
    np.testing.assert_allclose(detector.scores([grey(51, 20), grey(102, 300)]), [0.2, 0.4], atol=1e-4)


def test_large_crops_become_input_one_by_one(detector, monkeypatch):
    import sficonv.models.config as config

    sizes = []
    to_input = config.to_input
    monkeypatch.setattr(config, "to_input", lambda x, c: sizes.append(len(x)) or to_input(x, c))
    np.testing.assert_allclose(detector.scores([grey(51, 600), grey(102, 600)]), [0.2, 0.4], atol=1e-4)
    assert sizes == [1, 1]
    assert detector.torch.model.batches == [2]


def test_no_crops_no_scores(detector):
    assert detector.scores([]).shape == (0,)


def test_temperature_and_band_come_from_the_card(detector):
    card = {"calibration": {"temperature": 2.0, "uncertain": [0.2, 0.9]}}
    calibrated = Detector(detector.torch.model, card, device="cpu")
    odds = np.sqrt(0.8 / 0.2)  # a temperature of 2 halves the log-odds
    np.testing.assert_allclose(calibrated.scores([grey(204)]), [odds / (1 + odds)], atol=1e-4)
    assert [calibrated.verdict(p) for p in (0.19, 0.2, 0.9, 0.91)] == [
        "real",
        "uncertain",
        "uncertain",
        "fake",
    ]


def test_the_default_band(detector):
    assert detector.band == (0.35, 0.65)
    assert detector.verdict(0.5) == "uncertain"


@pytest.mark.parametrize(
    "calibration",
    [{"temperature": 0}, {"temperature": "x"}, {"uncertain": [0.9, 0.1]}, {"uncertain": [0.5]}, [1]],
)
def test_a_senseless_calibration_is_refused(detector, calibration):
    with pytest.raises(WeightsError, match="calibration"):
        Detector(detector.torch.model, {"calibration": calibration})


def test_the_crop_comes_from_the_card(detector):
    assert (detector.crop_margin, detector.crop_size) == (1.3, 256)
    other = Detector(detector.torch.model, {"crop": {"margin": 2, "size": 128}}, device="cpu")
    assert (other.crop_margin, other.crop_size) == (2.0, 128)


@pytest.mark.parametrize(
    "crop",
    [
        [1.3, 256],
        None,
        {"margin": "1.3"},
        {"margin": 0},
        {"margin": True},
        {"margin": float("nan")},
        {"size": 256.0},
        {"size": 15},
        {"size": 2049},
        {"size": None},
    ],
)
def test_a_senseless_crop_is_refused(detector, crop):
    with pytest.raises(WeightsError, match="crop"):
        Detector(detector.torch.model, {"crop": crop}, device="cpu")


def test_answers_that_are_not_numbers_are_refused(detector):
    nn.init.constant_(detector.torch.model.body.weight, float("nan"))
    with pytest.raises(WeightsError, match="not numbers"):
        detector.scores([grey(1)])


def test_a_device_that_is_not_there_is_named(detector):
    with pytest.raises(ValueError, match="'nonsense'"):
        Detector(detector.torch.model, {}, device="nonsense")


def test_bad_batch_size(detector):
    with pytest.raises(ValueError, match="batch_size"):
        Detector(detector.torch.model, {}, batch_size=0)


def test_from_pretrained_scores_like_the_model(tmp_path):
    torch.manual_seed(0)
    model = create_model("sfic_efficientnet_lite0").eval()
    detector = Detector.from_pretrained(save_weights(tmp_path / "w", model), device="cpu")
    crop = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = model(detector.torch.to_batch([crop])).softmax(dim=1)[:, 1]
    np.testing.assert_allclose(detector.scores([crop]), expected, atol=1e-5)
    assert detector.name == "sfic_efficientnet_lite0"


@pytest.mark.parametrize("name", ["f3net", "m2tr", "meso_inception4", "sfic_mobilenetv1", "srm"])
def test_on_a_cpu_scores_come_from_a_folded_copy_where_the_model_can_be_traced(tmp_path, name):
    from sficonv.conversion.fold import FoldedModel

    torch.manual_seed(0)
    detector = Detector.from_pretrained(save_weights(tmp_path / "w", create_model(name)), device="cpu")
    crops = list(np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = detector.torch.model(detector.torch.to_batch(crops)).softmax(dim=1)[:, 1]
    np.testing.assert_allclose(detector.scores(crops), expected, atol=1e-5)
    traceable = name != "srm"  # it looks at the values of its input
    assert isinstance(detector.torch.fast_model, FoldedModel) == traceable
    assert not isinstance(detector.torch.model, FoldedModel)  # attention maps need its gradients


def test_a_call_judges_a_file_or_an_image(detector, media):
    from sficonv.media.images import read_image

    of_file, of_image = detector(media / "face.jpg"), detector(read_image(media / "face.jpg"))
    assert of_file.p_fake == of_image.p_fake
    assert of_file.faces == of_image.faces
    assert detector(media / "clip.mp4", every=1.0).kind == "video"
    assert detector(np.zeros((64, 64, 3), np.uint8)).verdict == "no_face"
    assert detector(media / "gone.jpg").verdict == "error"
    with pytest.raises(ValueError, match=r"RGB.* got uint8 \(64, 64\)"):
        detector(np.zeros((64, 64), np.uint8))


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_exported_back_ends_give_the_same_scores(tmp_path, media, suffix):
    from sficonv.deploy.export import export
    from sficonv.detect.report import write_report
    from sficonv.detect.scan import iter_scan

    torch.manual_seed(0)
    weights = save_weights(tmp_path / "w", create_model("sfic_efficientnet_lite0", beta=0.5))
    export(weights, out=tmp_path / f"w{suffix}")
    exported, reference = (Detector.from_pretrained(p) for p in (tmp_path / f"w{suffix}", weights))
    assert exported.name == reference.name
    assert exported.band == reference.band
    rng = np.random.default_rng(0)
    side = reference.crop_size
    crops = list(rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    assert np.abs(exported.scores(crops) - reference.scores(crops)).max() < 1e-3
    result = exported(media / "face.jpg", evidence=True)
    assert result.p_fake == pytest.approx(reference(media / "face.jpg").p_fake, abs=1e-3)
    write_report([result], tmp_path / "report.html", exported)
    assert "Where the detector looked" not in (tmp_path / "report.html").read_text()
    with pytest.raises(ValueError, match="device"):
        Detector.from_pretrained(tmp_path / f"w{suffix}", device="cuda")
    assert [r.verdict for r in iter_scan(media / "nothing.jpg", detector=exported)] == ["no_face"]
