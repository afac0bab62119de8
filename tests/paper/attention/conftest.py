"""A prepared folder of faces with masks, and two detectors whose attention can be foretold."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from sficonv.datasets.manifest import write_manifest
from sficonv.models import ModelConfig, create_model, registry, save_weights

SIDE = 32
LANDMARKS = np.float32([[12, 13], [20, 13], [16, 18], [12, 22], [20, 22]])
WIDE, NARROW = slice(4, 28), slice(12, 20)
"""Rows and columns that the detectors look at."""


class Window(nn.Module):
    """P(fake) rises with the brightness of a square window; nothing else matters."""

    def __init__(self, window: slice) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1)
        self.register_buffer("window", torch.zeros(1, 1, SIDE, SIDE))
        self.window[..., window, window] = 1
        nn.init.constant_(self.features.weight, 0.1)
        nn.init.zeros_(self.features.bias)

    def forward(self, x: Tensor) -> Tensor:
        fake = (self.features(x) * self.window).mean(dim=(1, 2, 3))
        return torch.stack([-fake, fake], dim=1)


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """Weights of a detector that looks at a large square and of one that looks at a small one."""

    def wide(*, num_classes: int = 2, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
        return Window(WIDE), ModelConfig("wide", image_size=SIDE)

    def narrow(*, num_classes: int = 2, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
        return Window(NARROW), ModelConfig("narrow", image_size=SIDE)

    files = []
    for build in (wide, narrow):
        monkeypatch.setitem(registry._BUILDERS, build.__name__, build)
        files.append(save_weights(tmp_path / build.__name__, create_model(build.__name__)))
    return files[0], files[1]


@pytest.fixture
def make_faces(tmp_path: Path, crop_row: Callable[..., dict[str, object]]) -> Callable[..., Path]:
    """Write noise faces: `videos` real and as many fake ones, two frames each, two fakes of each person."""

    def make(videos: int = 6, masks: bool = True, split: str = "test") -> Path:
        folder = tmp_path / "faces"
        folder.mkdir()
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[NARROW, NARROW] = 255
        cv2.imwrite(str(folder / "mask.png"), mask)
        rng = np.random.default_rng(0)
        rows = []
        for label in (0, 1):
            for video in range(videos):
                for frame in (0, 1):
                    path = f"{label}_{video}_{frame}.png"
                    image = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
                    cv2.imwrite(str(folder / path), image)
                    rows.append(
                        crop_row(
                            len(rows),
                            path=path,
                            label=label,
                            method="swap" if label else "real",
                            video_id=f"made/{label}/{video}",
                            source_ids=f"{video // 2},other" if label else f"{video}",
                            split=split,
                            frame=frame,
                            landmarks=LANDMARKS.ravel().tolist(),
                            mask="mask.png" if masks and label else "",
                        )
                    )
        write_manifest(folder, pd.DataFrame(rows))
        return folder

    return make
