"""What a run starts from where the caller leaves it open, and on which splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sficonv.datasets.manifest import read_manifest
from sficonv.models import read_card
from sficonv.splits.split import split
from sficonv.splits.validation import lacks_validation
from sficonv.training.options import TrainOptions
from sficonv.training.recipes import Recipe

PAPER_MODEL, SMALL_MODEL, SHIPPED = "sfic_resnet26", "sfic_efficientnet_lite0", "default"


def choose_start(
    model: str | None, recipe: Recipe, options: TrainOptions
) -> tuple[str, TrainOptions, list[str]]:
    """The model of a run and what it starts from.

    Without a model and weights, the paper's recipe trains the paper's SFIC-ResNet26 from scratch, and any
    other recipe fine-tunes: the shipped detector, or SFIC-EfficientNet-Lite0 where ImageNet weights or
    options of the model are asked for.

    Returns:
        The model's name, the options with what was chosen, and what to tell the caller.

    Raises:
        ValueError: Weights of another model than the one that was named.
        WeightsError: The weights cannot be read.
    """
    chosen = ""
    if model is None and options.weights is None:
        of_model = (options.pretrained, options.alpha, options.beta, options.model_options)
        if recipe.name == "paper":
            model = PAPER_MODEL
        elif any(value not in (None, False) for value in of_model):
            model = SMALL_MODEL
        else:
            options = replace(options, weights=SHIPPED)
        chosen = ", chosen because neither a model nor weights were given"
    if options.weights is not None:
        found = read_card(options.weights)["model"]
        if model not in (None, found):
            raise ValueError(f"the weights {options.weights} are of the model {found!r}, not of {model!r}")
        what = "the shipped detector" if options.weights == SHIPPED else f"the weights {options.weights}"
        return found, options, [f"start: {what} ({found}){chosen}"]
    assert model is not None
    if options.pretrained:
        return model, options, [f"start: {model} with ImageNet weights{chosen}"]
    said = [f"start: {model} from scratch{chosen}"]
    if recipe.name == "finetune":
        said.append("  this recipe is made for trained weights: --pretrained takes those of ImageNet")
    return model, options, said


def ensure_splits(folders: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The manifests to train on, with splits and a validation set by identity where there are none.

    They are written beside the crops, where evaluation and calibration find them.

    Returns:
        The folders as they are or new manifests, and what to tell the caller.

    Raises:
        DataError: No validation set can be taken out of the training set.
    """
    tables = [read_manifest(folder) for folder in folders]
    unsplit = [not rows.empty and not (rows["split"] != "").any() for rows in tables]
    missing = not any(unsplit) and lacks_validation(pd.concat(tables))
    found: list[Path] = []
    said: list[str] = []
    for folder, rows, without in zip(folders, tables, unsplit, strict=True):
        if without:
            report = split(folder, protocol="identity")
            what = "has none, so they were drawn"
        elif missing and lacks_validation(rows):
            report = split(folder, protocol="validation")
            what = "has no validation set with real and fake faces, so one was drawn"
        else:
            found.append(folder)
            continue
        found.append(report.manifest)
        said += [
            f"splits: {folder} {what}: {report.protocol.statement}.",
            f"  They are in {report.manifest}; evaluate and calibrate take the same ones.",
        ]
    return found, said
