"""`Detector(..., compile=True)`: one graph for every batch size, and the same scores."""

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from sficonv.detect.detector import Detector
from sficonv.models import create_model
from sficonv.models.checkpoint import save_weights


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_one_graph_without_breaks_for_every_batch_size(tmp_path, beta):
    torch.manual_seed(0)
    model = create_model("sfic_mobilenetv1", image_size=64, beta=beta)
    weights = save_weights(tmp_path / "w", model, {"inference": {"views": ["original", "mirrored"]}})
    detector, plain = Detector(weights, device="cpu", compile=True), Detector(weights, device="cpu")
    counter = CompileCounter()  # traces and counts; the code generator has tests of its own
    detector.torch.fast_model.compile(backend=counter, fullgraph=True)
    crops = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    for size in (3, 1, 2, 4, 9):
        np.testing.assert_allclose(detector.scores(crops[:size]), plain.scores(crops[:size]), atol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.slow
def test_compiled_scores_are_the_same(detector):
    compiled = Detector(detector.torch.model, {}, device="cpu", compile=True)
    crops = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    for size in (3, 1, 6):
        found = compiled.scores(crops[:size])
        assert found.shape == (size,)
        np.testing.assert_allclose(found, crops[:size].mean(axis=(1, 2, 3)) / 255, atol=1e-3)


def test_an_exported_detector_cannot_be_compiled(tmp_path):
    with pytest.raises(ValueError, match="compiled by its runtime"):
        Detector(tmp_path / "a.onnx", compile=True)
