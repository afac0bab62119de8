"""Detectors of clips outside of training: a track's crops judged together, the same in every runtime."""

import cv2
import numpy as np
import pytest
import torch

from sficonv.deploy.export import export
from sficonv.detect.detector import Detector
from sficonv.detect.scan import scan
from sficonv.exported import open_exported
from sficonv.models import create_model, save_weights

TRACKS = ["a", "b", "a", "a", "a", "b", "c"]


@pytest.fixture(scope="module", params=["smil", "two_branch"])
def weights(request, tmp_path_factory):
    """A detector whose scores differ: its last layer is made large."""
    torch.manual_seed(0)
    model = create_model(request.param, image_size=32, trunk="mobilenetv1", frames=3)
    model.classify.weight.data.mul_(30)
    return save_weights(tmp_path_factory.mktemp("clips") / "w", model, {"crop": {"margin": 1.3, "size": 32}})


@pytest.fixture(scope="module")
def crops(noise):
    return list(noise(len(TRACKS), 32))


def test_the_crops_of_a_track_are_judged_together(weights, crops):
    detector = Detector(weights, device="cpu")
    together, alone = detector.scores(crops, TRACKS), detector.scores(crops)
    a = [i for i, track in enumerate(TRACKS) if track == "a"]  # four crops: two clips of two
    assert together[a[0]] == together[a[1]] != together[a[2]] == together[a[3]]
    assert together[6] == pytest.approx(alone[6], abs=1e-5)  # the only one of its track
    assert detector.scores([crops[0], crops[2]], ["x", "x"])[0] == pytest.approx(together[0], abs=1e-5)
    assert np.unique(alone).size == len(crops)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_exported_clips_have_the_same_scores(weights, crops, suffix, tmp_path):
    file = tmp_path / f"clips{suffix}"
    assert export(weights, out=file).max_difference < 1e-4
    expected = Detector(weights, device="cpu").scores(crops, TRACKS)
    assert Detector(file).scores(crops, TRACKS) == pytest.approx(expected, abs=1e-4)
    model = open_exported(file)
    assert model.frames == 3
    single = Detector(weights, device="cpu").scores(crops[:2])
    assert model(np.stack(crops[:2])) == pytest.approx(single, abs=1e-4)
    with pytest.raises(ValueError, match=r"takes clips as RGB uint8 \(B, 3, 32, 32, 3\)"):
        model(np.zeros((1, 2, 32, 32, 3), np.uint8))


def test_eight_bits_are_refused(weights, prepared, tmp_path):
    with pytest.raises(ValueError, match="judges clips"):
        export(
            weights, out=tmp_path / "c.xml", precision="int8", calibration_data=prepared, calibration_crops=16
        )


def test_a_scan_judges_each_image_by_itself(weights, crops, tmp_path):
    for number, crop in enumerate(crops[:2]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), crop[..., ::-1])
    found = scan(tmp_path, detector=Detector(weights, device="cpu"), crops=True)
    expected = Detector(weights, device="cpu").scores(crops[:2])
    assert [r.p_fake for r in found] == pytest.approx(list(expected), abs=1e-5)
