"""Names to models: `create_model("sfic_resnet26", alpha=0.5)` and `list_models("sfic_*")`."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from sficonv.models.config import ModelConfig

Builder = Callable[..., tuple[nn.Module, ModelConfig]]
_BUILDERS: dict[str, Builder] = {}


def register_model(builder: Builder) -> Builder:
    """Register a function under its own name.

    Args:
        builder: Called as `builder(num_classes=..., pretrained=..., **options)`; returns the model and
            its `ModelConfig` (the registry fills in `name`, `options` and `num_classes`).

    Raises:
        ValueError: If the name is taken.
    """
    name = builder.__name__
    if name in _BUILDERS:
        raise ValueError(f"model {name!r} is registered already")
    _BUILDERS[name] = builder
    return builder


def list_models(pattern: str = "*") -> list[str]:
    """Registered model names that match a shell pattern, sorted.

    Example:
        >>> "sfic_resnet26" in list_models("sfic_*")
        True
    """
    return sorted(fnmatch.filter(_BUILDERS, pattern))


def create_model(name: str, *, num_classes: int = 2, pretrained: bool = False, **options: Any) -> nn.Module:
    """Build a detector by name.

    Args:
        name: One of `list_models()`.
        num_classes: Number of logits; 2 means 0 = real, 1 = fake.
        pretrained: Start from ImageNet weights where they can be had (see `docs/models.md`).
        **options: The model's own options, for example `alpha`, `beta` and `mcs_mode` of the `sfic_*`
            models. `None` means the model's default.

    Returns:
        A module that maps a normalised `(B, 3, H, W)` batch to logits `(B, num_classes)`. Its `config`
        attribute is the `ModelConfig` that `to_input` and `save_weights` read.

    Raises:
        ValueError: Unknown name (the message lists near matches) or unknown option.

    Example:
        >>> model = create_model("sfic_resnet26", alpha=0.5, beta=1.0)
        >>> model.config.image_size
        256
    """
    if name not in _BUILDERS:
        near = [m for m in list_models() if name.split("_")[-1] in m] or list_models()
        raise ValueError(f"unknown model {name!r}; registered: {', '.join(near)}")
    builder = _BUILDERS[name]
    parameters = inspect.signature(builder).parameters
    known = {key: p.default for key, p in parameters.items() if key not in ("num_classes", "pretrained")}
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - known.keys()):
        raise ValueError(
            f"model {name!r} has no option {', '.join(unknown)}; "
            f"it knows {', '.join(sorted(known)) or 'none'}"
        )
    model, config = builder(num_classes=num_classes, pretrained=pretrained, **given)
    model.config = replace(  # type: ignore[assignment]
        config, name=name, options=known | given, num_classes=num_classes
    )
    return model
