"""What `convert` and `fold` can take: everything else is refused with what to give instead."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from keyword import iskeyword
from typing import Any

import torch
from torch import nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

_WRAPPERS: dict[type[nn.Module], str] = {
    DataParallel: "take what it wraps, model.module, and wrap the result again",
    DistributedDataParallel: "take what it wraps, model.module, and wrap the result again",
    OptimizedModule: "take what was compiled, model._orig_mod, and compile the result",
    torch.jit.ScriptModule: "TorchScript has no Python code left to read; take the model that it was made of",
}


def check_model(model: Any, where: str) -> None:
    """Refuse what has no Python code to read.

    Args:
        model: What was given.
        where: Name of the function, for the message.

    Raises:
        TypeError: If it is no module.
        ValueError: If it is a wrapper around one, or a name in it cannot stand in Python code.
    """
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(
            f"{where} takes a model (an instance of torch.nn.Module), not {what}; "
            "create_model or timm.create_model make one by its name"
        )
    for kind, way_out in _WRAPPERS.items():
        if isinstance(model, kind):
            raise ValueError(f"{where}: {type(model).__name__} is a wrapper: {way_out}")
    for name, _ in model.named_modules():
        if any(map(iskeyword, name.split("."))):
            raise ValueError(f"{where}: the module {name!r} is named like a keyword of Python; rename it")


def check_size(input_size: Sequence[int] | None, where: str) -> None:
    """Refuse an example's size that is not `(C, H, W)`.

    Raises:
        ValueError: If it is anything else.
    """
    if input_size is None:
        return
    right = isinstance(input_size, Sequence) and len(input_size) == 3
    if not (right and all(type(n) is int and n > 0 for n in input_size)):
        raise ValueError(f"{where}: input_size must be (C, H, W) in whole numbers, got {input_size!r}")


def copied(model: nn.Module, where: str) -> nn.Module:
    """A deep copy.

    Raises:
        ValueError: If the model holds something that cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        reason = str(error).partition(".  ")[0]
        raise ValueError(
            f"{where}: {type(model).__name__} cannot be copied ({reason}). Layers under "
            "torch.nn.utils.weight_norm or spectral_norm need the forms of torch.nn.utils.parametrizations, "
            "pruned ones torch.nn.utils.prune.remove"
        ) from error
