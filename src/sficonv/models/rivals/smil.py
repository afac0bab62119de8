"""S-MIL (Li et al., "Sharp multiple instance learning for DeepFake video detection", ACM MM 2020).

A clip is a bag, and what is seen in one frame or in a few frames in a row is an instance: the clip is fake as
soon as one instance is, so a video in which only some frames are forged can be learned from its label alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.clips import ClipModel
from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.trunk import pooled_features
from sficonv.nn.sficonv import Ratio

WIDTHS = (1, 2, 3, 4)
"""Frames that an instance looks at."""


def sharp_bag(instances: Tensor, present: Tensor) -> Tensor:
    """The bag's logit, straight from those of its instances: `log(mean(exp(z)))`.

    Plain multiple-instance learning turns each instance into a probability first, whose gradient vanishes
    where it is sure of itself. Here an instance's share of the gradient is its softmax weight, and the bag is
    fake as soon as one instance is.

    Args:
        instances: Logits `(B, N)`.
        present: `(B, N)` bool, at least one in each bag.

    Returns:
        Logits `(B,)`.

    Example:
        >>> sharp_bag(torch.tensor([[50.0, -9.0, -9.0]]), torch.ones(1, 3, dtype=torch.bool)).sigmoid()
        tensor([1.])
    """
    there = instances.masked_fill(~present, torch.finfo(instances.dtype).min / 2)
    return there.logsumexp(1) - present.sum(1).to(instances.dtype).log()


class TemporalInstances(nn.Module):
    """One-dimensional convolutions of several widths over the frames: each window is an instance.

    Args:
        channels: Channels of a frame.
        width: Channels of an instance.
        widths: Frames in a window.
    """

    def __init__(self, channels: int, width: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.widths = widths
        self.convs = nn.ModuleList([nn.Conv1d(channels, width, frames) for frames in widths])

    def forward(self, features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, D)` and `(B, T)` bool to instances `(B, N, width)` and `(B, N)` bool.

        Each width has T windows, one that begins at each frame; those that reach beyond the last frame are no
        instances.
        """
        x, missing = features.transpose(1, 2), 1.0 - present[:, None].to(features.dtype)
        instances, complete = [], []
        for conv, frames in zip(self.convs, self.widths, strict=True):
            beyond = frames - 1
            instances.append(conv(F.pad(x, (0, beyond))).relu())
            complete.append(F.max_pool1d(F.pad(missing, (0, beyond), value=1.0), frames, 1)[:, 0] < 0.5)
        return torch.cat(instances, 2).transpose(1, 2), torch.cat(complete, 1)


class SMIL(ClipModel):
    """Frame features, instances of several widths, one linear layer for all instances, the sharp bag.

    Args:
        encoder: `(N, 3, H, W)` to `(N, channels)`.
        channels: Features of a frame.
        width: Features of an instance.

    Example:
        >>> model = SMIL(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3)
        >>> model(torch.rand(2, 5, 3, 32, 32)).shape
        torch.Size([2, 2])
    """

    def __init__(self, encoder: nn.Module, channels: int, width: int = 512) -> None:
        super().__init__(encoder)
        self.instances = TemporalInstances(channels, width)
        self.classify = nn.Linear(width, 1)

    def judge(self, features: Tensor, present: Tensor) -> Tensor:
        """See `ClipModel`; the logit of real is 0, so that the softmax is the bag's probability."""
        instances, complete = self.instances(features, present)
        bag = sharp_bag(self.classify(instances)[..., 0], complete)
        return torch.stack((torch.zeros_like(bag), bag), 1)


@register_model
def smil(
    *,
    pretrained: bool = False,
    trunk: str = "xception",
    frames: int = 8,
    alpha: Ratio | None = None,
    beta: Ratio | None = None,
) -> tuple[nn.Module, ModelConfig]:
    """S-MIL on clips of `frames` frames. `trunk` is any backbone of `create_model`.

    With an `sfic_*` trunk, `alpha` and `beta` are its own; others have no such options.

    From the paper's abstract: a video is a bag, its instances are encoded in space and time, and they are
    mapped straight to the bag's prediction, which relieves the vanishing gradient of going through theirs.
    There is no public code, and the rest was not checked against the text. Chosen here: windows of 1 to 4
    frames, because 1 is the frame itself, so that a still image can be judged; 512 features of an instance;
    and the form of the sharp aggregator, see `sharp_bag` (the number of instances is taken off because a
    short clip would count as more real than a long one of the same frames).
    """
    if frames < 2:
        raise ValueError(f"smil: frames must be at least 2, got {frames}")
    encoder, channels, config = pooled_features(trunk, pretrained=pretrained, alpha=alpha, beta=beta)
    return SMIL(encoder, channels), replace(config, name="smil", options={}, frames=frames)
