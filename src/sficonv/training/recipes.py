"""Training recipes: every number of a run in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained.

    Args:
        name: name of the recipe.
        optimizer: `"adam"` or `"adamw"`.
        lr: learning rate: the first one of `"halve"`, the highest one of `"cosine"`.
        betas: Adam's decay rates.
        weight_decay: weight decay; norms and biases are left out of it.
        schedule: `"halve"` multiplies the rate by 1/2 after every epoch; `"cosine"` rises linearly for
            `warmup` of all steps and falls to almost zero.
        warmup: share of the steps in [0, 1), used by `"cosine"`.
        epochs: passes over the data (or over `steps_per_epoch` batches).
        batch_size: images per batch and device.
        seed: decides initialisation, order and augmentation.
        image_size: side of the crops in pixels; `None`: the model's own.
        transform: `"paper"` or `"finetune"`, see `sficonv.training.transforms`.
        sampling: `"shuffle"`: every crop once per epoch. `"balanced"`: real and fake alike, and every video
            alike within its label.
        label_smoothing: in [0, 1).
        self_blend: share of forgeries made on the fly. 0 trains on the crops as they are; above 0, batches
            are made of pairs of a real crop and a forgery of it: made from it with this probability, else
            the fake crop of the same source video that is nearest in time.
        cross_blend: share of the forgeries made on the fly that paste another person's face.
        main_share: share of the real faces that comes from `data`, the rest from `extra_data` (if any).
        ema_decay: decay per step of the averaged weights that are validated and saved; 0: no averaging.
        grad_clip: largest gradient norm; 0: no clipping.

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

    def override(self, **values: Any) -> Recipe:
        """The same recipe with the given fields changed; `None` keeps a field.

        Raises `ValueError` naming a field that does not exist.
        """
        known = {field.name for field in fields(self)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"a recipe has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return replace(self, **{key: value for key, value in values.items() if value is not None})


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


def get_recipe(recipe: str | Recipe, **overrides: Any) -> Recipe:
    """A recipe by name (or one of your own), with fields overridden.

    Raises `ValueError` for an unknown name or field.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    return recipe.override(**overrides)
