"""A mean over the batches of a training, for the losses that keep faces near a centre."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RATE = 0.05
"""Share of the mean that a batch replaces."""


class RunningMean(nn.Module):
    """Follows the means of the batches in training; it is not trained itself.

    Args:
        *shape: Of what is averaged.

    Example:
        >>> mean = RunningMean(2)
        >>> mean(torch.tensor([[2.0, 4.0], [2.0, 0.0]]))
        tensor([0.1000, 0.1000])
    """

    mean: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))

    def forward(self, batch: Tensor) -> Tensor:
        """The mean `shape` after a batch `(B, *shape)`, which may be empty."""
        if self.training and len(batch):
            self.mean.lerp_(batch.detach().to(self.mean.dtype).mean(0), RATE)
        return self.mean.clone()
