"""A tiny detector and a tiny prepared folder to train it on."""

import runpy
from collections.abc import Callable
from pathlib import Path

import cv2
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest

from sficonv.datasets.manifest import write_manifest
from sficonv.models import registry
from sficonv.training import TrainResult, train

SIDE = 32
LANDMARKS = np.float32([[12, 13], [20, 13], [16, 18], [12, 22], [20, 22]])

collect_ignore = [
    "killed_program.py",
    "tiny_program.py",
]  # programs that register models when they are imported


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a registered detector of a few hundred parameters, with batch norm and dropout."""
    program = runpy.run_path(str(Path(__file__).with_name("killed_program.py")))
    monkeypatch.setitem(registry._BUILDERS, "tiny_detector", program["tiny_detector"])
    return "tiny_detector"


@pytest.fixture
def make_prepared(tmp_path: Path, crop_row: Callable[..., dict[str, object]]) -> Callable[..., Path]:
    """Write a prepared folder: noise faces, the fake ones brighter and of the real ones' sources."""

    def make(
        name: str = "prepared",
        splits: tuple[str, ...] = ("train", "val", "test"),
        labels: tuple[int, ...] = (0, 1),
        videos: int = 2,
        frames: int = 2,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(0)
        rows = []
        for split in splits:
            for label in labels:
                for video in range(videos):
                    for frame in range(frames):
                        path = f"{split or 'all'}_{label}_{video}_{frame}.png"
                        image = rng.integers(0, 120, (SIDE, SIDE, 3)) + 60 * label
                        cv2.imwrite(str(folder / path), image.astype(np.uint8))
                        rows.append(
                            crop_row(
                                len(rows),
                                path=path,
                                label=label,
                                dataset=name,
                                method="swap" if label else "real",
                                compression="c23",
                                video_id=f"{name}/{split}/{label}/{video}",
                                source_ids=f"{split}{video}",
                                split=split,
                                frame=frame,
                                time=float(frame),
                                landmarks=LANDMARKS.ravel().tolist(),
                                sha256=path,
                            )
                        )
        write_manifest(folder, pd.DataFrame(rows))
        return folder

    return make


@pytest.fixture
def run(tiny: str, tmp_path: Path) -> Callable[..., TrainResult]:
    """`train` with the tiny model, small and in this process."""

    def start(data: object, out: str = "run", **options: object) -> TrainResult:
        small = {
            "recipe": "paper",
            "epochs": 2,
            "batch_size": 4,
            "image_size": 32,
            "workers": 0,
            "accelerator": "cpu",
            "devices": 1,
        }
        return train(data, model=tiny, out=tmp_path / out, **{**small, **options})  # type: ignore[arg-type]

    return start


class StopAt(pl.Callback):
    """Fails at the start of an epoch, as a machine does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power cut")


@pytest.fixture
def stop_at() -> Callable[[int], pl.Callback]:
    """A callback that ends a run with an error at the start of an epoch."""
    return StopAt
