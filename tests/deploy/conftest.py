"""Small detectors whose scores spread over (0, 1), and prepared crops to calibrate on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sficonv.datasets.manifest import COLUMNS, write_manifest
from sficonv.deploy.export import ExportResult, export
from sficonv.models import create_model, save_weights, to_input

MakeWeights = Callable[..., Path]


def noise(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Images that differ in brightness, colour and texture, RGB `uint8` `(count, side, side, 3)`."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 255, (count, 1, 1, 3))
    grain = rng.normal(0, 1, (count, side, side, 3)) * rng.uniform(5, 80, (count, 1, 1, 1))
    return np.clip(base + grain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session", name="noise")
def noise_fixture() -> Callable[..., np.ndarray]:
    """`noise`, for the tests."""
    return noise


@torch.no_grad()
def lived_in(model: nn.Module) -> nn.Module:
    """Norms with statistics as after training, and logits whose difference has a spread of about 1."""
    images = to_input(torch.from_numpy(noise(8, 64)).permute(0, 3, 1, 2), model.config)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
    model.train()(images)
    logits = model.eval()(images)
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    factor = 1 / (logits[:, 1] - logits[:, 0]).std()
    last.weight *= factor
    last.bias.copy_(last.bias * factor - factor * logits.mean(0))
    return model


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory: pytest.TempPathFactory) -> MakeWeights:
    """Saves a small detector; `crop` is the side of its crops, `extra` goes into its model card."""

    def make(
        name: str, *, image_size: int = 64, crop: int = 64, extra: dict | None = None, **options: object
    ) -> Path:
        torch.manual_seed(0)
        model = lived_in(create_model(name, image_size=image_size, **options))
        card = {
            "crop": {"margin": 1.3, "size": crop},
            "calibration": {"temperature": 1.7, "shift": 0.3, "uncertain": [0.4, 0.6]},
            "limits": ['Knows only <noise> & "nothing" else: é.'],
        } | (extra or {})
        return save_weights(tmp_path_factory.mktemp("weights") / "weights.safetensors", model, card)

    return make


@pytest.fixture(scope="session")
def small(make_weights: MakeWeights) -> Path:
    """Weights of a detector that runs fast."""
    return make_weights("sfic_mobilenetv1", beta=1.0, alpha=0.5)


@pytest.fixture(scope="session")
def exported(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportResult]:
    """`small` in both formats, by suffix."""
    folder = tmp_path_factory.mktemp("exported")
    return {suffix: export(small, out=folder / f"detector{suffix}") for suffix in (".onnx", ".xml")}


def write_prepared(folder: Path, crops: Iterable[np.ndarray]) -> Path:
    """A prepared folder of RGB crops: in turn real and fake, half train and half val, one video per crop."""
    (folder / "crops").mkdir(parents=True)
    rows, crops = [], list(crops)
    for number, image in enumerate(crops):
        cv2.imwrite(str(folder / "crops" / f"{number}.png"), image[:, :, ::-1])
        row = dict.fromkeys(COLUMNS, "") | {
            "path": f"crops/{number}.png", "label": number % 2, "dataset": "crops", "video_id": f"v{number}",
            "split": "train" if 2 * number < len(crops) else "val", "frame": 0, "time": 0.0, "face": 0,
            "box": [0.0] * 4, "landmarks": [0.0] * 10,
        }  # fmt: skip
        rows.append(row | ({"track": 0} if "track" in COLUMNS else {}))
    write_manifest(folder, pd.DataFrame(rows))
    return folder


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """24 crops of noise, 40 px."""
    return write_prepared(tmp_path / "prepared", noise(24, 40, seed=3))


@pytest.fixture(scope="session")
def prepare_crops(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[np.ndarray]], Path]:
    """`write_prepared` into a new folder."""
    return lambda crops: write_prepared(tmp_path_factory.mktemp("prepared") / "crops", crops)
