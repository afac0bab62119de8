"""Weights on disk: a `.safetensors` file and a JSON model card of the same name beside it.

Nothing here unpickles: a weights file can hold tensors only, and the card is plain JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sficonv.card import FORMAT, check_card, parse_card
from sficonv.conversion.convert import ConvertedModel
from sficonv.errors import WeightsError
from sficonv.files import atomic_file, sha256_of
from sficonv.models.config import ModelConfig
from sficonv.models.hub import fetch, is_repository
from sficonv.models.registry import COMMON, create_model
from sficonv.shipped import DEFAULT, shipped

_SUFFIXES = (".safetensors", ".json", ".pt", ".pth", ".pkl", ".ckpt", ".bin")
_NEEDED = ("model", "options", "num_classes", "image_size", "mean", "std")


def save_weights(
    path: str | Path, model: nn.Module, card: dict[str, Any] | None = None, *, half: bool = False
) -> Path:
    """Write a model's tensors and its card.

    Args:
        path: Where to write. A suffix of weights (`.pt`, ...) becomes `.safetensors`, which is added to any
            other name; the card goes beside it as `.json`.
        model: A model from `create_model` (its `config` goes into the card).
        card: More entries for the card: `data`, `metrics`, `calibration`, `limits`, ... What it says of the
            model itself (its name, options, input) does not count: `model` knows that.
        half: Store floating-point tensors in 16 bits (half the size; the scores move a little).

    Returns:
        The path of the `.safetensors` file.

    Raises:
        WeightsError: If `model` cannot be built again by its `config`, a tensor holds values that are not
            finite, or too large for 16 bits, or an entry of `card` makes no sense.

    Example:
        >>> import tempfile
        >>> model = create_model("resnet26")
        >>> save_weights(Path(tempfile.mkdtemp()) / "detector", model).name
        'detector.safetensors'
    """
    path = Path(path)
    path = path.with_suffix("") if path.suffix in _SUFFIXES else path
    path = path.with_name(path.name + ".safetensors")  # a name such as "run.v1" keeps its dot
    if not isinstance(getattr(model, "config", None), ModelConfig):
        raise WeightsError(
            f"{path}: {type(model).__name__} has no config to build it again by; save a model from "
            "create_model (a network of your own becomes one with register_model)"
        )
    if isinstance(model, ConvertedModel) and model.report.alpha and "alpha" not in model.config.options:
        raise WeightsError(
            f"{path}: {model.config.name} was converted after it was created, which its card cannot say; "
            "create it as an sfic_ model, or register the conversion with register_model"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for key, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        tensors[key] = value.half() if half and value.is_floating_point() else value
        if not torch.isfinite(tensors[key]).all():
            raise WeightsError(
                f"{path}: {key} holds values that are not finite{' in 16 bits' if half else ''}"
            )
    config = model.config.to_dict()  # type: ignore[union-attr,operator]
    # what the model is, it says itself: the card may be that of another one, from which it was trained
    told = {"format": FORMAT, "labels": ["real", "fake"], **(card or {})}
    document = {**told, "model": config.pop("name"), **config}
    with atomic_file(path.with_suffix(".json")) as new_card, atomic_file(path) as new_weights:
        try:
            save_file(tensors, new_weights)
        except SafetensorError as error:  # a full disk, for one
            raise WeightsError(f"{path}: cannot be written ({error})") from error
        document["weights_sha256"] = sha256_of(new_weights)
        text = json.dumps(document, indent=2, default=str) + "\n"
        check_card(json.loads(text), path)  # what is written can be read again
        new_card.write_text(text, encoding="utf-8")
    return path


def read_card(path: str | Path) -> dict[str, Any]:
    """Read the model card that belongs to a weights file.

    Args:
        path: The `.safetensors` file, or `"default"` for the shipped detector.

    Raises:
        WeightsError: If the card is missing, is not JSON, or is of another format.
    """
    path = resolve_weights(path).with_suffix(".json")
    if not path.is_file():
        raise WeightsError(f"{path}: the model card that belongs to the weights is missing")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path}: not a model card ({error})") from error
    return parse_card(text, path)


def resolve_weights(path: str | Path) -> Path:
    """The `.safetensors` file that `path` means: a file with that suffix, `"default"`, or `owner/name`.

    `owner/name` is a repository of the Hugging Face Hub (`sficonv.models.hub`); only that needs a network.
    `owner/name@commit` pins what is loaded.

    Raises:
        WeightsError: If it is missing, empty, or a pickle (`.pt`, `.pth`, `.pkl`, `.ckpt`): those can run
            code when they are opened and are refused here.
    """
    if str(path) == DEFAULT:
        return shipped()
    if is_repository(path):
        return fetch(str(path))
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: weights must be a .safetensors file. Pickled checkpoints can run code when opened and "
            "are refused; `sficonv.paper.checkpoints` imports the ones it knows"
        )
    return path


def load_weights(path: str | Path = DEFAULT) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model a weights file was saved from, in eval mode, with its card.

    Args:
        path: A `.safetensors` file with its card beside it, `"default"` for the shipped detector, or
            `owner/name`, a repository of the Hugging Face Hub.

    Returns:
        The model (float32, eval mode) and the card.

    Raises:
        WeightsError: If the file is missing, corrupt, a pickle, does not fit the model its card names, or is
            not the one that the card was written for.

    Example:
        >>> import tempfile
        >>> path = save_weights(Path(tempfile.mkdtemp()) / "w", create_model("resnet26"))
        >>> model, card = load_weights(path)
        >>> card["model"]
        'resnet26'
    """
    path = resolve_weights(path)
    card = read_card(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    if unsaid := [name for name in _NEEDED if card.get(name) is None]:
        raise WeightsError(f"{path}: its card does not say {', '.join(unsaid)}")
    if set_too := card["options"].keys() & set(COMMON):  # "pretrained" would fetch weights from a network
        raise WeightsError(f"{path}: its card's options cannot set {', '.join(sorted(set_too))}")
    try:
        options = {k: _number(v) for k, v in card["options"].items()}
        model = create_model(
            card["model"], num_classes=card["num_classes"], image_size=card["image_size"], **options
        )
    except (ArithmeticError, LookupError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its card does not describe a model of this version ({error})") from error
    fill(model, tensors, path)
    if card.get("weights_sha256") not in (None, sha256_of(path)):
        raise WeightsError(f"{path}: not the weights that its card was written for (their hash differs)")
    model.config = replace(  # type: ignore[type-var]
        model.config, image_size=card["image_size"], mean=tuple(card["mean"]), std=tuple(card["std"])
    )
    return model.eval(), card


def fill(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Give a model of `create_model` its weights.

    Args:
        model: Changed in place; its tensors keep their types.
        tensors: One for every entry of its state dict.
        path: Where they come from, for the message.

    Raises:
        WeightsError: If they do not fit, or are not finite.
    """
    wanted = model.state_dict()
    if problems := _mismatch(wanted, tensors):
        name = model.config.name  # type: ignore[union-attr]
        raise WeightsError(f"{path}: these are not weights of {name!r}: {'; '.join(problems)}")
    model.load_state_dict({key: value.to(wanted[key].dtype) for key, value in tensors.items()})
    if not all(bool(torch.isfinite(t).all()) for t in model.state_dict().values()):
        raise WeightsError(f"{path}: the weights hold values that are not finite")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict in somebody else's checkpoint (`.pt`, `.pth`, `.pkl`), without running its code.

    Args:
        path: A state dict, alone or under `state_dict`, `model` or `net`; read with `weights_only=True`.

    Raises:
        WeightsError: If the file is missing, unreadable, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path}: cannot be read as a file of tensors only, so it is refused ({error})"
        ) from error
    for key in ("state_dict", "model", "net"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path}: holds no state dict")
    return loaded


def _number(value: Any) -> Any:
    """A ratio such as 1/3 is text in the card."""
    return Fraction(value) if isinstance(value, str) and re.fullmatch(r"\d+/\d+", value) else value


def _mismatch(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    missing = sorted(wanted.keys() - given.keys())
    extra = sorted(given.keys() - wanted.keys())
    common = sorted(wanted.keys() & given.keys())
    shapes = [k for k in common if wanted[k].shape != given[k].shape]
    types = [k for k in common if wanted[k].is_floating_point() != given[k].is_floating_point()]
    kinds = (
        ("missing", missing), ("unknown", extra), ("of another shape", shapes), ("of another type", types)
    )  # fmt: skip
    return [f"{len(keys)} {what}, such as {keys[0]}" for what, keys in kinds if keys]
