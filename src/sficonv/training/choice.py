"""What a run starts from where the caller leaves it open, and on which splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sficonv.datasets.manifest import read_manifest
from sficonv.models import read_card
from sficonv.splits.split import split
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


def with_splits(data: Path) -> tuple[Path, list[str]]:
    """The manifest to train on: where no crop belongs to a split, one that is split by identity.

    It is written beside the crops, where evaluation and calibration find it.

    Returns:
        The folder as it is or the new manifest, and what to tell the caller.
    """
    rows = read_manifest(data)
    if rows.empty or (rows["split"] != "").any():
        return data, []
    report = split(data, protocol="identity")
    return report.manifest, [
        f"splits: {data} has none, so they were drawn: {report.protocol.statement}.",
        f"  They are in {report.manifest}; evaluate and calibrate take the same ones.",
    ]
