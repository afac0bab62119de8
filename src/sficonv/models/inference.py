"""From a model and a batch to P(fake): the one place for views and calibration.

The detector, the evaluation and the exported graph all come here, so that a model card means the same
everywhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sficonv.card import Calibration
from sficonv.errors import WeightsError

ORIGINAL, MIRRORED = "original", "mirrored"


def usual_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def asks_for_mirror(card: dict[str, Any]) -> bool:
    """Whether a model card asks for the mean over the crop and its mirror image.

    Args:
        card: From `sficonv.models.checkpoint.read_card`. Its entry `inference.views` is `["original"]`, the
            default, or `["original", "mirrored"]`; the calibration of such a card belongs to the mean.

    Raises:
        WeightsError: If the entry says anything else.

    Example:
        >>> asks_for_mirror({"inference": {"views": ["original", "mirrored"]}}), asks_for_mirror({})
        (True, False)
    """
    inference = card.get("inference", {})
    views = inference.get("views", [ORIGINAL]) if isinstance(inference, dict) else None
    if views not in ([ORIGINAL], [ORIGINAL, MIRRORED]):
        raise WeightsError(
            f"the model card's inference.views must be ['{ORIGINAL}'] or ['{ORIGINAL}', '{MIRRORED}'], "
            f"got {inference!r}"
        )
    return len(views) == 2


def mean_logits(model: nn.Module, x: Tensor, *, mirror: bool, present: Tensor | None = None) -> Tensor:
    """The logits of a batch, or their mean over the batch and its mirror image.

    Args:
        model: Maps `(B, 3, H, W)` to logits `(B, K)`, or clips.
        x: Normalised crops `(B, 3, H, W)`, or clips `(B, T, 3, H, W)`.
        mirror: Whether to average.
        present: For clips, which frames are there, see `sficonv.models.clips`.

    Returns:
        `(B, K)`.
    """
    more = () if present is None else (present,)
    logits: Tensor = model(x, *more)
    # Two passes, not one of twice the size: on a CPU the maps of larger batches leave its caches.
    return (logits + model(x.flip(-1), *more)) / 2 if mirror else logits


def calibrated(logits: Tensor, calibration: Calibration) -> Tensor:
    """P(fake) `(B,)` of logits `(B, 2)`, as the model card's calibration says."""
    return calibration.apply(logits[:, 1] - logits[:, 0]).sigmoid()


def p_fake(
    model: nn.Module,
    x: Tensor,
    *,
    calibration: Calibration | None = None,
    mirror: bool = False,
    present: Tensor | None = None,
) -> Tensor:
    """P(fake) of a batch, calibrated.

    Args:
        model: Maps `(B, 3, H, W)` to logits `(B, 2)`.
        x: Normalised crops `(B, 3, H, W)`, from `to_input`.
        calibration: From the model card, for the logits after the mean; default: none.
        mirror: Average the logits over the crop and its mirror image, see `asks_for_mirror`.
        present: For clips, see `mean_logits`.

    Returns:
        `float64` `(B,)` in [0, 1].

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
        >>> p_fake(model, torch.rand(3, 3, 8, 8)).shape
        torch.Size([3])
    """
    logits = mean_logits(model, x, mirror=mirror, present=present).double()
    return calibrated(logits, calibration or Calibration())
