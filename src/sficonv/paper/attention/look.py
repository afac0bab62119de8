"""The maps of one detector for a set of fakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.attention.maps import forgery_attention, grad_cam
from sficonv.card import read_calibration
from sficonv.models.config import to_inputs
from sficonv.models.inference import asks_for_mirror, p_fake
from sficonv.paper.attention.fakes import Fake

KINDS = ("FAM", "Grad-CAM")


@dataclass(frozen=True)
class Looked:
    """Where one detector looks in a set of fakes.

    Args:
        label: The detector's name in tables and pictures.
        maps: `(N, 1, S, S)` in [0, 1] for each of `KINDS`.
        p_fake: `(N,)`.
    """

    label: str
    maps: dict[str, Tensor]
    p_fake: np.ndarray


def look(
    model: nn.Module,
    card: dict[str, Any],
    label: str,
    fakes: list[Fake],
    *,
    side: int,
    batch_size: int = 16,
    device: str = "cpu",
) -> Looked:
    """Draw the maps of a detector for each fake.

    Args:
        model: With a `config`; moved to `device`.
        card: Its model card; the calibration in it is used.
        label: What to call it.
        fakes: What it looks at.
        side: Side of the maps, in pixels: entropy and area depend on the resolution, so the maps of
            detectors that are compared need the same.
        batch_size: Fakes in one pass.
        device: Where to compute.

    Raises:
        ValueError: The model has no feature map that Grad-CAM could show.
    """
    calibration, mirror = read_calibration(card), asks_for_mirror(card)
    model.to(device)
    maps: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    scores: list[np.ndarray] = []
    for start in range(0, len(fakes), batch_size):
        batch = fakes[start : start + batch_size]
        x = to_inputs([fake.image.to(device) for fake in batch], model.config)  # type: ignore[arg-type]
        with torch.inference_mode():
            scores.append(p_fake(model, x, calibration=calibration, mirror=mirror).cpu().numpy())
        for kind, found in zip(KINDS, (forgery_attention(model, x), grad_cam(model, x)), strict=True):
            maps[kind].append(_resize(found, side).cpu())
    return Looked(label, {kind: torch.cat(parts) for kind, parts in maps.items()}, np.concatenate(scores))


def _resize(maps: Tensor, side: int) -> Tensor:
    if maps.shape[-2:] == (side, side):
        return maps
    return F.interpolate(maps, size=(side, side), mode="bilinear", antialias=True).clamp(0, 1)
