"""Names to models: `create_model("sfic_resnet26", alpha=0.5)` and `list_models("sfic_*")`."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from torch import nn

from sficonv.models.config import ModelConfig, check_input

Builder = Callable[..., tuple[nn.Module, ModelConfig]]
_BUILDERS: dict[str, Builder] = {}
COMMON = ("num_classes", "pretrained", "image_size")
"""Arguments of a builder that are not options of the model, see `register_model`."""


def register_model(builder: Builder) -> Builder:
    """Register a function under its own name.

    Args:
        builder: Returns the model and its `ModelConfig` (`image_size`, `mean`, `std`; the registry fills in
            the rest). Its keyword arguments with their defaults are the model's options; three names among
            them, each of which may be left out, have a fixed meaning: `num_classes` (absent: always 2),
            `pretrained` (absent: there are no pretrained weights), `image_size` (present: the weights
            fit one input size, which is this; absent: they fit any).

    Raises:
        ValueError: If the name is taken.

    Example:
        >>> from sficonv.models import ModelConfig
        >>> @register_model
        ... def one_pixel(*, image_size: int = 64):
        ...     model = nn.Sequential(nn.AvgPool2d(image_size), nn.Flatten(), nn.Linear(3, 2))
        ...     return model, ModelConfig("one_pixel", image_size=image_size)
        >>> create_model("one_pixel", image_size=32).config.fixed_size
        True
        >>> del _BUILDERS["one_pixel"]
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


def has_pretrained(name: str) -> bool:
    """Whether a model can start from ImageNet weights.

    Args:
        name: One of `list_models()`.

    Example:
        >>> has_pretrained("resnet50"), has_pretrained("ldfnet")
        (True, False)
    """
    return "pretrained" in inspect.signature(_BUILDERS[name]).parameters


def create_model(
    name: str,
    *,
    num_classes: int = 2,
    pretrained: bool = False,
    image_size: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build a detector by name.

    Args:
        name: One of `list_models()`.
        num_classes: Number of logits; 2 means 0 = real, 1 = fake. The comparison detectors have 2.
        pretrained: Start from ImageNet weights if they are available (see `docs/models.md`).
        image_size: Side of the square input in pixels. Default: the model's own.
        **options: The model's own options, for example `alpha`, `beta` and `mcs_mode` of the `sfic_*`
            models. `None` means the model's default.

    Returns:
        A module that maps a normalised `(B, 3, H, W)` batch to logits `(B, num_classes)`. Its `config`
        attribute is the `ModelConfig` that `to_input` and `save_weights` read. It refuses input of another
        size or shape with a `ValueError`. A model may have a loss of its own, see
        `sficonv.models.losses.training_losses`.

    Raises:
        TypeError: If `name` is no text.
        ValueError: Unknown name (the message lists near matches), unknown option, or something asked for
            that this model does not have.

    Example:
        >>> model = create_model("sfic_resnet26", alpha=0.5, beta=1.0)
        >>> model.config.image_size
        256
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a model is text, got {name!r}")
    if name not in _BUILDERS:
        near = get_close_matches(name.lower().replace("-", "_"), _BUILDERS) or list_models()
        raise ValueError(f"unknown model {name!r}; registered: {', '.join(near)}")
    for what, number in (("num_classes", num_classes), ("image_size", image_size)):
        if number is not None and (type(number) is not int or number < 1):
            raise ValueError(f"{name}: {what} must be a whole number, at least 1, got {number!r}")
    builder = _BUILDERS[name]
    parameters = inspect.signature(builder).parameters
    known = {key: p.default for key, p in parameters.items() if key not in COMMON}
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - known.keys()):
        raise ValueError(
            f"model {name!r} has no option {', '.join(unknown)}; "
            f"it knows {', '.join(sorted(known)) or 'none'}"
        )
    fixed_size = "image_size" in parameters
    if fixed_size and image_size is not None:
        given["image_size"] = image_size
    if has_pretrained(name):
        given["pretrained"] = pretrained
    elif pretrained:
        raise ValueError(f"model {name!r} has no pretrained weights")
    if "num_classes" in parameters:
        given["num_classes"] = num_classes
    elif num_classes != 2:
        raise ValueError(f"model {name!r} has 2 classes, got num_classes={num_classes}")
    model, config = builder(**given)
    chosen = known | {key: value for key, value in given.items() if key in known}
    config = replace(config, name=name, options=chosen, num_classes=num_classes, fixed_size=fixed_size)
    model.config = config.with_image_size(image_size)  # type: ignore[assignment]
    model.register_forward_pre_hook(check_input)
    return model
