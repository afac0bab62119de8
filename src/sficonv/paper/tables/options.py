"""What a reproduction may do otherwise than the paper: the options of `reproduce`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sficonv.paper.tables.budget import PAPER_SEEDS, Budget, Precision
from sficonv.paper.tables.data import ProtocolName
from sficonv.training import Recipe


@dataclass(frozen=True)
class ReproduceOptions:
    """Splits, budget and machine of every training of a table; the defaults are the paper's.

    Args:
        protocol: "paper": frames divided at random, as in the paper; leaky, compare with its figures only.
            "official": the published splits. "identity": a split of our own in which no person is on two
            sides, for parts of data sets that lack an official split.
        seeds: Seeds of the training, separated by commas; with several, the table shows mean and standard
            deviation.
        recipe: "paper" or "finetune".
        epochs: Passes over the training data. Default: the recipe's.
        steps_per_epoch: Batches of an epoch. Default: every image once.
        batch_size: Images of a batch. Default: the recipe's.
        image_size: Side of the input in pixels. Default: each network's own (256; F3-Net 299).
        lr: Learning rate. Default: the recipe's.
        sampling: "shuffle": each image once; "balanced": both labels equally often. Default: the recipe's,
            but balanced where the protocol is not the paper's, which has as many real as fake images.
        frames: Crops of a video that are validated and tested on, at most. Default: all.
        pretrained: Start from ImageNet weights where there are any; the paper starts from scratch.
        precision: "32-true", "bf16-mixed" or "16-mixed".
        split_seed: Seed of what the protocol draws; the same for all seeds of the training.
        fractions: For "identity": shares of train, val and test.
        bootstrap: Resamplings of the test videos for the intervals; 0 for none.
        accelerator: As in `lightning.pytorch.Trainer`.
        workers: Loader processes; they do not change the result. Default: one per core except one, at most 8.

    Raises:
        ValueError: If a value makes no sense.

    Example:
        >>> ReproduceOptions(seeds="7,8").seed_numbers
        (7, 8)
    """

    protocol: ProtocolName = "paper"
    seeds: str | tuple[int, ...] = PAPER_SEEDS
    recipe: Literal["paper", "finetune"] = "paper"
    epochs: int | None = None
    steps_per_epoch: int | None = None
    batch_size: int | None = None
    image_size: int | None = None
    lr: float | None = None
    sampling: Literal["shuffle", "balanced"] | None = None
    frames: int | None = None
    pretrained: bool = False
    precision: Precision = "32-true"
    split_seed: int = 7
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    bootstrap: int = 1000
    accelerator: str = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}")
        numbers = self.seed_numbers
        if not numbers or len(set(numbers)) < len(numbers):
            raise ValueError(f"seeds must be given, each once; got {self.seeds!r}")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds as numbers."""
        try:
            given = self.seeds.split(",") if isinstance(self.seeds, str) else self.seeds
            return tuple(int(seed) for seed in given)
        except ValueError:
            raise ValueError(f"seeds must be whole numbers separated by commas, got {self.seeds!r}") from None

    def budget(self) -> Budget:
        """What every training is given."""
        balanced = self.sampling is None and self.protocol != "paper"
        recipe = Recipe.named(
            self.recipe,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            image_size=self.image_size,
            sampling="balanced" if balanced else self.sampling,
        )
        return Budget(recipe, self.steps_per_epoch, self.precision, self.pretrained)
