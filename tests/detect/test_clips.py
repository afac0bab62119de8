"""A detector of clips in a scan: the frames of a person are judged together."""

import pytest
import torch

from sficonv.detect.detector import Detector
from sficonv.models import create_model


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    model = create_model("smil", image_size=32, trunk="mobilenetv1", frames=3)
    model.classify.weight.data.mul_(30)  # so that scores differ
    return Detector(model, {}, device="cpu")


def test_the_frames_of_a_person_are_judged_in_clips(detector, media):
    result = detector(media / "clip.mp4")
    scores = [face.p_fake for face in result.faces]
    assert len(scores) >= 6
    assert {face.track for face in result.faces} == {0}
    clips = -(-len(scores) // 3)
    assert len(set(scores)) == clips
    assert scores == sorted(scores, key=scores.index)  # frames side by side share a score
    assert result.p_fake is not None


def test_a_photograph_is_a_clip_of_one_frame(detector, media):
    result = detector(media / "face.jpg")
    assert len(result.faces) == 1
    assert 0 <= result.p_fake <= 1
