"""The model card of a run: data, recipe, how it was trained, what was measured."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from sficonv.card import DEFAULT_BAND
from sficonv.training.data import TrainingData
from sficonv.training.recipes import Recipe

MEASURED = ("val_auc_video", "val_auc_frame", "val_loss")


def model_card(
    data: TrainingData,
    settings: dict[str, Any],
    recipe: Recipe,
    history: pd.DataFrame,
    best_epoch: int,
    speed: dict[str, Any],
) -> dict[str, Any]:
    """The entries that `save_weights` puts beside those of the model.

    Args:
        data: What the run read.
        settings: Those in its `config.yaml`.
        recipe: Its recipe.
        history: One row per epoch.
        best_epoch: The epoch whose weights are kept.
        speed: From `InputSpeed.summary`.
    """
    row = history[history["epoch"] == best_epoch].iloc[0]
    return {
        "data": data.summary,
        **({"crop": data.crop} if data.crop else {}),
        "recipe": dataclasses.asdict(recipe),
        "training": {
            "seed": recipe.seed,
            "best_epoch": best_epoch,
            "epochs": len(history),
            "pretrained": settings["pretrained"],
            "initial_weights": Path(settings["weights"]).name if settings["weights"] else None,
            "steps_per_epoch": settings["steps_per_epoch"],
            "precision": settings["precision"],
            "speed": speed,
            "warnings": data.warnings,
        },
        "metrics": {name: float(row[name]) for name in MEASURED},
        "calibration": {"temperature": 1.0, "uncertain": list(DEFAULT_BAND)},
        "versions": {
            name: version(name) for name in ("sficonv", "torch", "torchvision", "timm", "lightning")
        },
        "limits": [
            "The metrics are those of the validation rows that chose the epoch: a little too good.",
            "The scores are not calibrated.",
        ],
    }
