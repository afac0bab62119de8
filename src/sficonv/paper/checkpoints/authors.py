"""Import of the SFIC-ResNet checkpoints that the paper's authors release."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sficonv.errors import WeightsError
from sficonv.models.checkpoint import read_state_dict

_LAYER = re.compile(
    r"^(?P<block>.+)\.(?:SFIC(?P<index>\d)|downsample\.0)\.(?P<part>conv|bn_s|bn_f)\.(?P<rest>.+)$"
)


def import_state_dict(authors_state_dict: dict[str, Any]) -> dict[str, Tensor]:
    """Translate a state dict of the authors' release into one for this library's `sfic_resnet*`.

    The four kernels of Stage 2 become the blocks of one kernel, the two branches' normalisations become
    one (`[spa | fre]`), and MCSConv's kernels go to `conv1.mcs`. The result fits
    `create_model("sfic_resnet26" | "sfic_resnet50" | "sfic_resnet101")` with the alpha it was trained
    with (0.5 in the release). The release trains 0 = fake, 1 = real; this library's label order is 0 = real,
    1 = fake, and the last layer is translated only where `read_checkpoint` is told so.

    Args:
        authors_state_dict: As saved by the release, with or without a `DataParallel` prefix
            (`module.`) and a `MainNet` prefix.

    Returns:
        A new state dict; the tensors are copies where they were joined.

    Raises:
        WeightsError: If the keys are not those of the authors' SFIC-ResNet.

    Example:
        >>> state = import_state_dict(torch.load("sfic.pkl", weights_only=True))  # doctest: +SKIP
        >>> create_model("sfic_resnet26").load_state_dict(state)                   # doctest: +SKIP
    """
    flat = _strip_prefix(authors_state_dict)
    made: dict[str, Tensor] = {}
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in flat.items():
        match = _LAYER.match(key)
        if match is None:
            made[key] = value
            continue
        name = (
            f"{match['block']}.conv{match['index']}" if match["index"] else f"{match['block']}.downsample.0"
        )
        layers.setdefault(name, {})[f"{match['part']}.{match['rest']}"] = value
    if not layers:
        raise WeightsError(
            f"no SFIConv layer among {len(flat)} keys: not a checkpoint of the authors' SFIC-ResNet"
        )
    for name, parts in layers.items():
        made.update(_join(name, parts))
    return made


def read_checkpoint(path: str | Path, *, fake_is_zero: bool = False) -> dict[str, Tensor]:
    """Read a checkpoint file of the authors' release and translate it.

    Args:
        path: `.pkl` or `.pth`; read with `weights_only=True`, so it cannot run code.
        fake_is_zero: The checkpoint was trained with 0 = fake, 1 = real (the authors' label script):
            swap the classes to this library's order.

    Returns:
        A state dict for `create_model("sfic_resnet26" | ...)`.

    Raises:
        WeightsError: If the file is missing, unreadable, holds anything but tensors, or is another model's.

    Example:
        >>> read_checkpoint("missing.pkl")
        Traceback (most recent call last):
        sficonv.errors.WeightsError: missing.pkl: no such checkpoint
    """
    state = import_state_dict(read_state_dict(path))
    if fake_is_zero:
        if not {"fc.weight", "fc.bias"} <= state.keys():
            raise WeightsError(f"{path}: holds no classifier whose classes could be swapped")
        state |= {key: state[key].flip(0) for key in ("fc.weight", "fc.bias")}
    return state


def _strip_prefix(state: dict[str, Any]) -> dict[str, Tensor]:
    """Drop what wrappers put before the backbone's own names (`module.`, `MainNet`'s attribute)."""
    stems = [
        key[: -len("conv1.weight")]
        for key in state
        if key.endswith("conv1.weight") and ".layer" not in f".{key}"
    ]
    prefix = min(stems, key=len) if stems else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _join(name: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        return _join_convolution(name, parts) | _join_norm(name, parts)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{name}: the branches' tensors do not belong together ({error})") from error


def _join_norm(name: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    if name.endswith("downsample.0"):
        norm = name[: -len("0")] + "1"
    else:
        block, conv = name.rsplit(".", 1)
        norm = f"{block}.{conv.replace('conv', 'bn')}"
    made = {f"{norm}.num_batches_tracked": parts["bn_s.num_batches_tracked"]}
    for key in ("weight", "bias", "running_mean", "running_var"):
        made[f"{norm}.{key}"] = torch.cat([parts[p] for p in (f"bn_s.{key}", f"bn_f.{key}") if p in parts])
    return made


def _join_convolution(name: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    s2s, f2f = parts["conv.s2s.weight"], parts["conv.f2f.weight"]
    if "conv.MCSConv.weight" in parts:  # Stage 1
        return {f"{name}.weight": torch.cat((s2s, f2f)), f"{name}.mcs.weight": parts["conv.MCSConv.weight"]}
    if "conv.s2f.weight" in parts:  # Stage 2
        to_spa = torch.cat((s2s, parts["conv.f2s.weight"]), 1)
        to_fre = torch.cat((parts["conv.s2f.weight"], f2f), 1)
        return {f"{name}.weight": torch.cat((to_spa, to_fre))}
    return {f"{name}.weight": torch.cat((s2s, f2f), 1)}  # Stage 3
