"""Clips, several frames of one face that are judged together: what detectors of them share.

A batch of clips is `x (B, T, 3, H, W)` with `present (B, T)`, True where a frame is there; shorter clips are
padded at their end. A single image `(B, 3, H, W)` is a clip of one frame. `sficonv.datasets.clips` says which
crops form a clip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def pad_clips(clips: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A batch of clips of different lengths.

    Args:
        clips: Each `(t, 3, H, W)` with at least one frame; H and W are those of the first.

    Returns:
        `(B, T, 3, H, W)`, where T is the length of the longest and zeros stand for the missing frames, and
        `(B, T)` bool, True where a frame is there.

    Example:
        >>> x, present = pad_clips([torch.ones(2, 3, 8, 8), torch.ones(1, 3, 8, 8)])
        >>> x.shape, present.tolist()
        (torch.Size([2, 2, 3, 8, 8]), [[True, True], [True, False]])
    """
    x = nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    lengths = torch.tensor([len(clip) for clip in clips], device=x.device)
    return x, torch.arange(x.shape[1], device=x.device) < lengths[:, None]


class ClipModel(nn.Module, ABC):
    """A detector that encodes each frame by itself and judges the sequence of what comes out.

    Args:
        encoder: `(N, 3, H, W)` to features `(N, D)`.

    Subclasses say how the sequence is judged.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Logits `(B, 2)` of clips.

        Args:
            x: `(B, T, 3, H, W)`, or `(B, 3, H, W)` for clips of one frame.
            present: `(B, T)` bool, True where a frame is there, missing ones at the end. `None`: all are.
        """
        return self.judge(*self.encode(x, present))

    def encode(self, x: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The arguments of `forward` to features `(B, T, D)`, zero for missing frames, and `present`."""
        if x.ndim == 4:
            x = x[:, None]
        if present is None:
            present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if self.training:  # missing frames must not count in the statistics of batch normalisation
            found = self.encoder(x[present])
            features = found.new_zeros(*x.shape[:2], found.shape[1])
            features[present] = found
            return features, present
        features = self.encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return features * present[..., None], present

    @abstractmethod
    def judge(self, features: Tensor, present: Tensor) -> Tensor:
        """`(B, T, D)` and `(B, T)` bool to logits `(B, 2)`."""
