"""DCL (Sun et al., "Dual contrastive learning for general face forgery detection", AAAI 2022).

Two views of a face, one read by the detector and one by its slow copy. They are contrasted with a memory of
hard faces of the other class, and the pasted region of a fake with what was left of the face.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.losses import default_masks
from sficonv.models.registry import register_model
from sficonv.models.rivals.contrast import contrast
from sficonv.models.rivals.frequency import full_precision
from sficonv.models.rivals.trunk import feature_maps

MOMENTUM, TEMPERATURE = 0.999, 0.07
SIDE = 10
"""Faces are compared by one number for each of so many positions a side: those of the last map at 299 px."""
INTRA = 0.1
"""Weight of the contrast within an image."""


class Encoder(nn.Module):
    """A trunk, and the unit vector by which faces are compared: its last map with the channels mixed to one.

    Args:
        trunk: A convolutional network of timm.
        pretrained: Start it from ImageNet weights.
    """

    def __init__(self, trunk: str, pretrained: bool = False) -> None:
        super().__init__()
        self.trunk, self.channels = feature_maps(trunk, pretrained=pretrained)
        self.squeeze = nn.Conv2d(self.channels, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, 3, H, W)` to its last map `(B, C, h, w)` and unit vectors `(B, SIDE^2)`."""
        maps = self.trunk(x)
        squeezed = F.adaptive_avg_pool2d(self.squeeze(maps).float(), SIDE)
        return maps, F.normalize(squeezed.flatten(1), dim=1)


class HardQueues(nn.Module):
    """The last hard faces of each class: those that look most like the other class.

    Args:
        size: Faces kept of each class.
        features: Length of their vectors.
    """

    vectors: Tensor
    seen: Tensor

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(2, size, features))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """`(2, size)` bool, True where there is a face."""
        size = self.vectors.shape[1]
        return torch.arange(size, device=self.seen.device) < self.seen[:, None]

    @torch.no_grad()
    def push(self, keys: Tensor, labels: Tensor) -> None:
        """Take in the harder half of the faces of each class; the oldest make room.

        Args:
            keys: Unit vectors `(B, features)`.
            labels: `(B,)`.
        """
        prototypes = self.vectors.sum(1)  # of what is there: the rest is 0
        size = self.vectors.shape[1]
        for label in (0, 1):
            own = keys[labels == label]
            hardest = (own @ prototypes[1 - label]).argsort(descending=True)[: -(-len(own) // 2)][-size:]
            places = (self.seen[label] + torch.arange(len(hardest), device=keys.device)) % size
            self.vectors[label, places] = own[hardest]
            self.seen[label] += len(hardest)


def disturbed(x: Tensor) -> Tensor:
    """Another view of normalised images `(B, 3, H, W)`: contrast, brightness, sharpness and noise.

    Positions stay, so that masks fit both views.
    """
    draw = torch.rand(4, len(x), 1, 1, 1, device=x.device, dtype=x.dtype)
    x = x * (0.8 + 0.4 * draw[0]) + 0.4 * (draw[1] - 0.5)
    x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), draw[2])
    return x + 0.1 * draw[3] * torch.randn_like(x)


def intra_instance(query: Tensor, key: Tensor, masks: Tensor) -> Tensor:
    """Contrast of the positions of a face: those of its own kind, forged or not, are alike.

    Args:
        query, key: Maps `(B, C, h, w)` of both views.
        masks: `(B, 1, H, W)` in [0, 1], 1 where a pixel is forged.

    Returns:
        A scalar; faces that are all of one kind do not count.
    """
    forged = F.adaptive_avg_pool2d(masks, query.shape[-2:])[:, 0].flatten(1) > 0.5  # type: ignore[arg-type]
    q, k = (F.normalize(maps.float().flatten(2), dim=1) for maps in (query, key))
    alike = forged[:, :, None] == forged[:, None]
    return contrast(q.transpose(1, 2) @ k / TEMPERATURE, alike, ~alike)


class DCL(nn.Module):
    """A classifier on a trunk whose features are learned by the two contrasts.

    Args:
        trunk: A convolutional network of timm.
        queue: Faces kept of each class.
        pretrained: Start the trunk from ImageNet weights.

    Example:
        >>> DCL("resnet10t", queue=8).eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    uses_masks = True

    def __init__(self, trunk: str, queue: int, pretrained: bool = False) -> None:
        super().__init__()
        if queue < 1:
            raise ValueError(f"dcl: queue must be at least 1, got {queue}")
        self.encoder = Encoder(trunk, pretrained)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.classify = nn.Linear(self.encoder.channels, 2)
        self.queues = HardQueues(queue, SIDE**2)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`."""
        return self.classify(self.encoder.trunk(x).mean((2, 3)))

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """See `sficonv.models.losses.HasLosses`: cross entropy, and the contrasts between and within faces.

        In training it also moves the slow copy and takes the batch into the queues.
        """
        maps, query = self.encoder(x)
        with torch.no_grad():
            if self.training:
                self.follow()
            key_maps, key = self.key_encoder(disturbed(x))
            if self.training:
                self.queues.push(key, labels)
        with full_precision(x):
            own = (query * key).sum(1, keepdim=True)
            hard = query @ self.queues.vectors.clone().flatten(0, 1).T
            of_class = torch.arange(2, device=x.device)[:, None]
            unlike = (self.queues.filled & (labels[:, None, None] != of_class)).flatten(1)
            itself = torch.ones_like(own, dtype=torch.bool)
            masks = default_masks(labels, x) if masks is None else masks
            return {
                "cross_entropy": F.cross_entropy(
                    self.classify(maps.mean((2, 3))).float(), labels, label_smoothing=label_smoothing
                ),
                "inter_instance": contrast(
                    torch.cat((own, hard), 1) / TEMPERATURE,
                    torch.cat((itself, torch.zeros_like(unlike)), 1),
                    torch.cat((~itself, unlike), 1),
                ),
                "intra_instance": INTRA * intra_instance(maps, key_maps, masks.float()),
            }

    @torch.no_grad()
    def follow(self) -> None:
        """Move the slow copy a thousandth of the way to the encoder; its statistics are its own."""
        pairs = zip(self.key_encoder.parameters(), self.encoder.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - MOMENTUM)


@register_model
def dcl(
    *, pretrained: bool = False, trunk: str = "tf_efficientnet_b4", queue: int = 32768
) -> tuple[nn.Module, ModelConfig]:
    """DCL with a memory of `queue` faces of each class.

    Trunk, input, momentum, temperature, the vectors, the memory's length and the weights of the terms are
    those of the authors' code. Chosen here: the loader's augmented image is one view and the other is made
    from it without moving it, because the loader hands one image and the masks must fit both (the authors'
    views have SRM noise, shuffled patches and other frames); the harder half of each class enters the memory,
    by its likeness to what the memory holds of the other class (theirs: the five hardest, by a running mean
    of it); regions are contrasted between the two views (theirs: within one), and a face of unknown mask, or
    forged all over, has no contrast within.
    """
    return DCL(trunk, queue, pretrained), ModelConfig("dcl", image_size=299, mean=(0.5,) * 3, std=(0.5,) * 3)
