"""LTW (Sun et al., "Domain general face forgery detection by learning to weight", AAAI 2021).

A small network weighs the training images. It is taught by a rehearsal of what is wanted: after one step on
the weighted images of some kinds of forgery, the detector must do better on a kind that was held out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.frequency import full_precision
from sficonv.models.rivals.running_mean import RunningMean
from sficonv.models.rivals.separable import separable
from sficonv.models.rivals.trunk import feature_maps

STEP = 0.01
"""Length of the rehearsed step."""
COMPACT = 0.01
"""Weight of the compactness of real faces."""


class WeightNet(nn.Module):
    """Weight of an image from the trunk's map: two depthwise separable convolutions, each of which halves the
    channels, then one number in (0, 1).

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            separable(channels, channels // 2),
            separable(channels // 2, channels // 4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels // 4, 1),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """`(B, C, h, w)` to `(B,)`."""
        return self.net(maps)[:, 0]


def hold_out(domains: Tensor, labels: Tensor) -> Tensor:
    """Which images of a batch are kept for the rehearsed test.

    Args:
        domains: `(B,)` int64, -1 where an image is of none.
        labels: `(B,)` int64.

    Returns:
        `(B,)` bool: all images of one domain, drawn at random, where there are two or more. Those without a
        domain (or of the only one) are dealt out in turns, real and fake ones by themselves.

    Example:
        >>> hold_out(torch.full((4,), -1), torch.tensor([0, 1, 0, 1]))
        tensor([False, False,  True,  True])
    """
    kinds = domains[domains >= 0].unique()
    if len(kinds) < 2:
        return _every_other(labels == 0) | _every_other(labels == 1)
    none = domains < 0
    drawn = kinds[torch.randint(len(kinds), (), device=kinds.device)]
    return (domains == drawn) | _every_other(none & (labels == 0)) | _every_other(none & (labels == 1))


def _every_other(chosen: Tensor) -> Tensor:
    return chosen & (chosen.cumsum(0) % 2 == 0)


class LTW(nn.Module):
    """A classifier, the network that weighs its training images, and the centre of the real faces.

    Args:
        trunk: `(B, 3, H, W)` to `(B, C, h, w)`.
        channels: C.

    Example:
        >>> LTW(nn.Conv2d(3, 8, 3), 8).eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    uses_masks = False
    uses_domains = True

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.classify = nn.Linear(channels, 2)
        self.weigh = WeightNet(channels)
        self.centre = RunningMean(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`."""
        return self.classify(self.trunk(x).mean((2, 3)))

    def compactness(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean squared distance of the real faces' features from their centre; fakes are left alone."""
        real = features[labels == 0]
        return (real - self.centre(real)).square().sum() / max(1, real.numel())

    def losses(
        self,
        x: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        *,
        label_smoothing: float = 0.0,
        domains: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """See `sficonv.models.losses.HasLosses`: three terms, of which only the second teaches the weights.

        They are the weighted loss of the images that are trained on, the loss of the held-out ones after one
        step on the others, and the compactness of real faces.
        """
        held_out = hold_out(torch.full_like(labels, -1) if domains is None else domains, labels)
        if held_out.all() or not held_out.any():
            held_out = torch.arange(len(labels), device=labels.device) % 2 == 1
        tested = held_out if held_out.any() else ~held_out  # the only image of a batch is on both sides
        with full_precision(x):  # a gradient of a gradient needs its digits
            maps = self.trunk(x[~held_out])
            features = maps.mean((2, 3))
            each = F.cross_entropy(
                self.classify(features), labels[~held_out], label_smoothing=label_smoothing, reduction="none"
            )
            weights = self.weigh(maps.detach())
            weighted = (weights * each).mean()
            detector = {n: p for n, p in self.named_parameters() if not n.startswith("weigh.")}
            gradients = torch.autograd.grad(weighted, list(detector.values()), create_graph=True)
            steps = zip(detector.items(), gradients, strict=True)
            stepped = {name: p - STEP * gradient for (name, p), gradient in steps}
            after = functional_call(self, stepped, (x[tested],))
            return {
                "weighted": (weights.detach() * each).mean(),
                "held_out": F.cross_entropy(after, labels[tested], label_smoothing=label_smoothing),
                "compactness": COMPACT * self.compactness(features, labels[~held_out]),
            }


@register_model
def ltw(*, pretrained: bool = False, trunk: str = "efficientnet_b0") -> tuple[nn.Module, ModelConfig]:
    """LTW. Domains are the methods of the training set's fakes, as the manifest names them.

    Trunk, input size, the layers of the weighing network and the share of the compactness (0.01) are those of
    the paper and of its public code (whose configuration has the larger B4). Chosen here: one batch holds all
    domains and one of them is held out in each step, where the public code splits them once per epoch,
    because the loader knows nothing of domains; real faces and forgeries made on the fly belong to no domain
    and are dealt out in turns, and so are the fakes where a batch has those of one method only; the weights
    do not train the trunk whose map they read, because it could then weigh away what it gets wrong; fakes are
    not pushed away from the centre of the real faces, as they are in the public code, because such a loss has
    no lower bound; a rehearsed step of 0.01, one of plain gradient descent.
    """
    return LTW(*feature_maps(trunk, pretrained=pretrained)), ModelConfig("ltw", image_size=224)
