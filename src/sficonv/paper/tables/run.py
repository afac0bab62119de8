"""One training with its tests: run, continued, or read where it is done."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sficonv.evaluation.evaluate import evaluate
from sficonv.files import atomic_file
from sficonv.paper.tables.data import Selection, slug, write_selection
from sficonv.paper.tables.plan import Training
from sficonv.paper.timing import machine
from sficonv.training import train

TRAINED = "trained.json"
RESULT = "result.json"


def run_training(
    training: Training,
    seed: int,
    out: Path,
    *,
    bootstrap: int,
    accelerator: str = "auto",
    workers: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Train a network with one seed, and test it on all the data sets it serves.

    What is done is read, what was killed continues. `out/cells` holds a folder for each training, with the
    weights, their card, the curves and one folder for each test; `out/data` the manifests.

    Args:
        training: What to train and test.
        seed: Seed of the training.
        out: Folder of all runs.
        bootstrap: Resamplings of the videos for the intervals.
        accelerator: As for `train`.
        workers: Loader processes, as for `train`.

    Returns:
        For each column its result, as `EvaluationResult.to_dict` gives it, with `training` and `seed`.

    Raises:
        DataError: Unusable crops.
    """
    folder = out / "cells" / training.folder / f"seed{seed}"
    trained = _train(training, seed, folder, out, accelerator, workers)
    found = {}
    for column, test in training.tests:
        place = folder / f"{slug(test.of.name)}-{test.hash[:8]}-{bootstrap}"
        result = _read(place / RESULT)
        if result is None:
            result = _test(folder, test, place, out, bootstrap, accelerator)
        found[column.key] = {**result, "training": trained, "seed": seed}
    return found


def device_of(accelerator: str) -> str:
    """The device that Lightning takes for an accelerator, as torch calls it."""
    if accelerator == "cpu" or not torch.accelerator.is_available():
        return "cpu"
    return str(torch.accelerator.current_accelerator())


def is_trained(training: Training, seed: int, out: Path) -> bool:
    """Whether a training is finished."""
    return (out / "cells" / training.folder / f"seed{seed}" / TRAINED).is_file()


def _train(
    training: Training, seed: int, folder: Path, out: Path, accelerator: str, workers: int | None
) -> dict[str, Any]:
    done = _read(folder / TRAINED)
    if done is not None:
        return done
    continued = (folder / "checkpoints" / "last.ckpt").is_file()
    _say(f"{training.row.key} on {training.data.of.name}, seed {seed}: {training.steps} steps")
    start = time.perf_counter()
    result = train(
        write_selection(training.data, out / "data"),
        model=training.row.model,
        model_options=training.row.options,
        seed=seed,
        out=folder,
        accelerator=accelerator,
        workers=workers,
        **training.budget.options(),
    )
    card = result.card
    done = {
        "seconds": round(time.perf_counter() - start, 1),
        "continued": continued,
        "best_epoch": card["training"]["best_epoch"],
        "epochs": card["training"]["epochs"],
        "val_auc_video": card["metrics"]["val_auc_video"],
        "versions": card["versions"],
        "machine": machine(device_of(accelerator)),
    }
    _write(folder / TRAINED, done)
    shutil.rmtree(folder / "checkpoints")  # the optimiser's state: several times the weights
    return done


def _test(
    folder: Path, test: Selection, place: Path, out: Path, bootstrap: int, accelerator: str
) -> dict[str, Any]:
    result = evaluate(
        folder / "weights.safetensors",
        write_selection(test, out / "data"),
        split="test",
        bootstrap=bootstrap,
        out=place,
        device="cpu" if accelerator == "cpu" else None,
    )
    _write(place / RESULT, result.to_dict())
    return result.to_dict()


def _read(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _write(file: Path, content: dict[str, Any]) -> None:
    """Written last and at once: it says that the rest is there."""
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, markup=False)
