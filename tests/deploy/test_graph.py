"""Resizing in the exported graph: what torch computes, in every runtime."""

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sficonv.card import Calibration
from sficonv.deploy import graph, onnx
from sficonv.deploy.openvino import to_openvino
from sficonv.models.config import ModelConfig


class Resizing(nn.Module):
    """Reads pixels through a nearest resize to a size where the runtimes' own would take other neighbours."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.linspace(-1, 1, self.size[0] * self.size[1]).view(self.size)
        mean = (F.interpolate(x, size=self.size, mode="nearest") * weights).mean((2, 3))
        return mean[:, :2] * 50


def scores(scorer: graph.EndToEnd, side: int, folder, images: np.ndarray) -> list[np.ndarray]:
    program = graph.capture(scorer, side)
    onnx.save(program, folder / "m.onnx", "{}", half=False)
    session = onnxruntime.InferenceSession(str(folder / "m.onnx"))
    compiled = openvino.compile_model(to_openvino(program, side), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [session.run(["p_fake"], {"faces": images})[0], compiled({"faces": images})["p_fake"]]


@pytest.mark.parametrize("size", [(114, 114), (21, 7), (56, 14), (28, 57)])
def test_nearest(tmp_path, size):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)
    config = ModelConfig("resizing", image_size=28, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    scorer = graph.EndToEnd(Resizing(size), config, Calibration()).eval()
    expected = scorer(torch.from_numpy(images)).numpy()
    for given in scores(scorer, 28, tmp_path, images):
        assert np.abs(given - expected).max() < 1e-6


@pytest.mark.parametrize("side", [64, 20, 31])
def test_the_antialiased_resize_of_the_input(tmp_path, side):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    scorer = graph.EndToEnd(Resizing((28, 28)), ModelConfig("resizing", image_size=28), Calibration()).eval()
    expected = scorer(torch.from_numpy(images)).numpy()
    for given in scores(scorer, side, tmp_path, images):
        assert np.abs(given - expected).max() < 1e-5
