"""A detector whose score can be foretold, and media made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from torch import Tensor, nn

from sficonv.detect.demo import pan, write_video
from sficonv.detect.detector import Detector
from sficonv.models.config import ModelConfig


class Brightness(nn.Module):
    """P(fake) is the mean brightness of the crop: black 0, white 1."""

    config = ModelConfig("brightness", image_size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.body.weight, 1 / 3)
        nn.init.zeros_(self.body.bias)
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        p = self.body(x).mean(dim=(1, 2, 3)).clamp(1e-4, 1 - 1e-4)
        return torch.stack([(1 - p).log(), p.log()], dim=1)


@pytest.fixture
def detector() -> Detector:
    return Detector(Brightness(), {"limits": ["Knows only <brightness> & nothing else."]}, device="cpu")


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`face.jpg`, `nothing.jpg` and `clip.mp4` (4 s, one person)."""
    folder = tmp_path_factory.mktemp("media")
    photo = astronaut()
    Image.fromarray(photo).save(folder / "face.jpg", quality=95)
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(folder / "nothing.jpg")
    write_video(folder / "clip.mp4", pan(photo))
    return folder


@pytest.fixture(scope="session")
def striped() -> Callable[[int], np.ndarray]:
    """A crop of a given brightness; a flat one would be taken for a face blurred beyond use."""

    def make(level: int) -> np.ndarray:
        image = np.full((64, 64, 3), level, np.uint8)
        image[::2] += 4
        image[1::2] -= 4
        return image

    return make
