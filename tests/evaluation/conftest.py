"""Tiny prepared folders and a small real detector for the suite and the reports."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from sficonv.datasets.manifest import write_manifest
from sficonv.files import sha256_of
from sficonv.models import create_model, save_weights

Prepare = Callable[..., Path]


@pytest.fixture(scope="session")
def small_faces(crop_row: Callable[..., dict[str, object]]) -> Prepare:
    """Writes a prepared folder of `videos` real and as many fake videos; fakes are stripy."""

    def write(
        root: Path, videos: int = 3, frames: int = 2, method: str = "Deepfakes", side: int = 48
    ) -> Path:
        rng = np.random.default_rng(0)
        rows = []
        for number in range(2 * videos):
            label = number % 2
            video_id = f"ffpp/c23/{'fake' if label else 'real'}/{number:03}"
            base = cv2.resize(rng.integers(40, 216, (6, 6, 3), dtype=np.uint8), (side, side))
            for frame in range(frames):
                image = np.roll(base, frame, axis=1)
                image[:: 4 + number] //= 1 + label
                path = f"crops/{number:03}_{frame}.png"
                (root / "crops").mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / path), image)
                rows.append(
                    crop_row(
                        number, path=path, dataset="ffpp", method=method if label else "real",
                        compression="c23", video_id=video_id, source_ids=f"{number:03}", split="test",
                        frame=frame, sha256=sha256_of(root / path),
                    )
                )  # fmt: skip
        write_manifest(root, pd.DataFrame(rows))
        return root

    return write


@pytest.fixture(scope="session")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Weights of two small detectors."""
    folder = tmp_path_factory.mktemp("detectors")
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(save_weights(folder / f"{seed}", create_model("meso_inception4"), {}))
    return made[0], made[1]
