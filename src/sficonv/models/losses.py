"""What a detector is trained on: its own loss where it has one, cross entropy otherwise."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@runtime_checkable
class HasLosses(Protocol):
    """A detector with a loss of its own. The default, cross entropy of `model(x)`, needs nothing."""

    uses_masks: bool
    """Whether `losses` looks at `masks`: nobody reads mask files for a model that does not.

    A model that is trained on several domains has `uses_domains = True` too: its `losses` take `domains`.
    That of a model of clips takes `present`. See `training_losses`.
    """

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """The terms of the loss, weighted, by name; training minimises their sum.

        Args:
            x: `(B, 3, H, W)`, as `forward` takes it.
            labels: `(B,)` int64, 0 = real, 1 = fake.
            masks: `(B, 1, H, W)` in [0, 1], 1 where a pixel is forged; `None`: `default_masks`.
            label_smoothing: Share of the target that is spread over both classes, in [0, 1).

        Returns:
            Scalars, with gradient.
        """
        ...


def training_losses(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    masks: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    domains: Tensor | None = None,
    present: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of a model's training loss, by name; training minimises their sum.

    Args:
        model: Any model of `create_model`: its own `losses` are taken where it has them.
        x, labels, masks, label_smoothing: See `HasLosses.losses`.
        domains: `(B,)` int64, which kind of forgery each image is, -1 where it is of none (a real face) or
            nobody knows; only models with `uses_domains` look at it.
        present: `(B, T)` bool, which frames of the clips `x` are not padding, see `sficonv.models.clips`.

    Returns:
        Scalars, with gradient.

    Example:
        >>> losses = training_losses(nn.Flatten(), torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
        >>> {name: round(value.item(), 3) for name, value in losses.items()}
        {'cross_entropy': 0.693}
    """
    more = {} if present is None else {"present": present}
    if not isinstance(model, HasLosses):
        return {"cross_entropy": F.cross_entropy(model(x, **more), labels, label_smoothing=label_smoothing)}
    if uses_domains(model):
        more["domains"] = torch.full_like(labels, -1) if domains is None else domains
    return model.losses(x, labels, masks, label_smoothing=label_smoothing, **more)


def uses_domains(model: nn.Module) -> bool:
    """Whether the loss of a model looks at the domains of the images.

    Example:
        >>> uses_domains(nn.Flatten())
        False
    """
    return bool(getattr(model, "uses_domains", False))


def default_masks(labels: Tensor, x: Tensor) -> Tensor:
    """The masks of images that come without: all ones for a fake, all zeros for a real face.

    Args:
        labels: `(B,)`, 0 = real, 1 = fake.
        x: `(B, 3, H, W)`, the images.

    Returns:
        `(B, 1, H, W)`, of the type of `x`.

    Example:
        >>> default_masks(torch.tensor([0, 1]), torch.zeros(2, 3, 4, 4)).mean((1, 2, 3))
        tensor([0., 1.])
    """
    return labels.to(x.dtype).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[-2:])
