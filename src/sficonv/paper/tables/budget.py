"""What every training of a table is given, and how that departs from the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

from sficonv.training import RECIPES, Recipe

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
PAPER_SEEDS = (7,)


@dataclass(frozen=True)
class Budget:
    """What every training is given; only the seed changes between the runs of a cell.

    Args:
        recipe: Everything else of the training; its seed is not used.
        steps_per_epoch: Batches an epoch; `None`: as many as draw each crop once.
        precision: As for `train`.
        pretrained: Start from ImageNet weights.
    """

    recipe: Recipe
    steps_per_epoch: int | None = None
    precision: Precision = "32-true"
    pretrained: bool = False

    def steps(self, crops: int) -> int:
        """Batches of a whole training on so many crops."""
        return self.recipe.epochs * (self.steps_per_epoch or ceil(crops / self.recipe.batch_size))

    def options(self) -> dict[str, Any]:
        """As arguments of `train`, without the seed."""
        return {
            "recipe": self.recipe,
            "steps_per_epoch": self.steps_per_epoch,
            "precision": self.precision,
            "pretrained": self.pretrained,
        }

    def identity(self) -> dict[str, Any]:
        """As plain values that tell trainings apart."""
        recipe = {key: value for key, value in asdict(self.recipe).items() if key != "seed"}
        return {**self.options(), "recipe": {**recipe, "betas": list(self.recipe.betas)}}

    def departures(self) -> list[str]:
        """What is not as in the paper, one thing each."""
        ours, paper = asdict(self.recipe), asdict(RECIPES["paper"])
        found = [
            f"{name.replace('_', ' ')} {ours[name]} (the paper: {paper[name] or '256 px'})"
            for name in ours
            if name not in ("name", "seed", "sampling") and ours[name] != paper[name]
        ]
        if self.recipe.sampling == "balanced":
            found.append("real and fake images drawn equally often (the paper has as many of each)")
        if self.steps_per_epoch is not None:
            found.append(f"{self.steps_per_epoch} batches an epoch (the paper: every image once)")
        if self.precision != "32-true":
            found.append(f"precision {self.precision}")
        if self.pretrained:
            found.append("started from ImageNet weights (the paper: from scratch)")
        return found

    def __str__(self) -> str:
        r = self.recipe
        steps = f"{self.steps_per_epoch} batches" if self.steps_per_epoch else "every image once"
        size = f"{r.image_size} px" if r.image_size else "each network's own image size"
        return (
            f"{r.epochs} epochs of {steps}, batch size {r.batch_size}, {size}, {r.optimizer}, learning rate "
            f"{r.lr:g} ({r.schedule}), {self.precision}"
        )
