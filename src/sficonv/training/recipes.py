"""Training recipes: every number of a run in one frozen object."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

SMALLEST_LR = 1e-9
"""Below it, Adam's steps are lost in the rounding of 32-bit weights."""


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained.

    Args:
        name: Name of the recipe.
        optimizer: `"adam"` or `"adamw"`.
        lr: Learning rate: the first one of `"halve"`, the highest one of `"cosine"`.
        betas: Adam's two decay rates.
        weight_decay: Weight decay; norms, biases and the kernels of MCSConv are left out of it.
        schedule: `"halve"` halves the learning rate after every epoch; `"cosine"` raises it linearly for the
            share `warmup` of all steps, then lowers it to almost zero.
        warmup: Share of the steps for which `"cosine"` raises the learning rate, in [0, 1).
        epochs: Passes over the data, or over `steps_per_epoch` batches.
        batch_size: Images per batch on each device.
        seed: Decides initialisation, order and augmentation: the same seed gives the same weights.
        image_size: Side of the model's input in pixels. Default: the model's own.
        transform: Augmentation: `"paper"` flips and rotates, `"finetune"` also changes colour, resolution and
            compression; see `sficonv.training.transforms`.
        sampling: `"shuffle"` draws every crop once per epoch; `"balanced"` draws real and fake crops equally
            often, and every video equally often within its label. Where forgeries are made, videos of a data
            set are always drawn equally often.
        label_smoothing: Share of the target that is spread over both classes, in [0, 1).
        self_blend: Share of the forgeries that are made during training, from real faces. With 0 the crops
            are taken as they are. Above 0, batches are made on the device, of pairs: a real crop, and a
            forgery of it that is made there or, with the remaining share, the fake crop that was made from
            it.
        cross_blend: Share of the forgeries made during training that paste another person's face.
        main_share: Share of the real faces that come from `data`; the rest come from `extra_data`, if given.
            Used where forgeries are made.
        ema_decay: Decay per step of the averaged weights that are validated and saved; 0 does not average.
        grad_clip: Largest gradient norm; 0 does not clip.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> RECIPES["paper"].batch_size
        64
    """

    name: str
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Literal["halve", "cosine"] = "halve"
    warmup: float = 0.0
    epochs: int = 20
    batch_size: int = 64
    seed: int = 7
    image_size: int | None = None
    transform: Literal["paper", "finetune"] = "paper"
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    label_smoothing: float = 0.0
    self_blend: float = 0.0
    cross_blend: float = 0.0
    main_share: float = 0.5
    ema_decay: float = 0.0
    grad_clip: float = 0.0

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Recipe).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "image_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("self_blend", "cross_blend", "main_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("warmup", "label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if self.self_blend and self.batch_size % 2:
            raise ValueError(
                f"batch_size must be even where batches are made of pairs, got {self.batch_size}"
            )

    def warnings(self) -> list[str]:
        """What was probably not meant, in plain words.

        Example:
            >>> len(Recipe.named("paper").warnings()), len(Recipe.named("paper", epochs=50).warnings())
            (0, 1)
        """
        if self.schedule != "halve":
            return []
        useful = 1 + max(0, math.floor(math.log2(self.lr / SMALLEST_LR)))
        if self.epochs <= 1.25 * useful:
            return []
        return [
            f"the learning rate halves after every epoch: from epoch {useful + 1} of {self.epochs} on it is "
            f"below {SMALLEST_LR:g} and changes nothing. Give fewer epochs, or schedule='cosine' "
            "(--schedule cosine)."
        ]

    @classmethod
    def named(cls, recipe: str | Recipe, **changes: Any) -> Recipe:
        """A recipe by its name, or one of your own, with some fields changed.

        Args:
            recipe: A name in `RECIPES`, or a recipe.
            **changes: Fields by name; `None` keeps a field.

        Raises:
            ValueError: There is no such recipe or field, or a value is out of range.

        Example:
            >>> Recipe.named("paper", epochs=5).epochs
            5
        """
        if isinstance(recipe, str):
            if recipe not in RECIPES:
                raise ValueError(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
            recipe = RECIPES[recipe]
        known = [field.name for field in fields(cls)]
        if unknown := sorted(changes.keys() - set(known)):
            raise ValueError(f"a recipe has no {', '.join(unknown)}; it has {', '.join(known)}")
        return replace(recipe, **{key: value for key, value in changes.items() if value is not None})


RECIPES = {
    # Guo et al. 2024, section IV-A, from the crops as they are.
    "paper": Recipe("paper"),
    # For pretrained weights and little data.
    "finetune": Recipe(
        "finetune",
        optimizer="adamw",
        lr=3e-4,
        weight_decay=0.02,
        schedule="cosine",
        warmup=0.1,
        epochs=20,
        batch_size=32,
        transform="finetune",
        sampling="balanced",
        self_blend=0.7,
        cross_blend=0.2,
        ema_decay=0.998,
        grad_clip=5.0,
    ),
}
