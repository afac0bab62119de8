"""Two-branch recurrent network (Masi et al., "Two-branch recurrent network for isolating deepfakes in
videos", ECCV 2020).

One branch reads the colours of a frame, the other what Laplacians of Gaussians of several widths leave of it:
edges and grain without the face. A recurrent network reads the frames in both directions, and the loss keeps
real faces inside a sphere and forged ones outside.
"""

from __future__ import annotations

import math

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.clips import ClipModel
from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.frequency import full_precision
from sficonv.models.rivals.trunk import pooled_features, stretch
from sficonv.nn.sficonv import Ratio

SIGMAS = (0.8, 1.6, 3.2)
"""Widths of the Gaussians, in pixels."""
RADIUS, MARGIN = 1.0, 1.0
"""Of the sphere of real faces, and the gap outside of it that fakes must leave."""
WEIGHT = 0.5
"""Of the sphere in the loss."""
RATE = 0.05
"""Share of the sphere's centre that a batch replaces."""


def laplacian_of_gaussian(sigma: float) -> Tensor:
    """The kernel of a Laplacian of a Gaussian, normalised over scales.

    Args:
        sigma: Width of the Gaussian in pixels.

    Returns:
        `(K, K)` with K = 2 ceil(3 sigma) + 1; it sums to 0.

    Example:
        >>> laplacian_of_gaussian(1.0).shape
        torch.Size([7, 7])
    """
    reach = math.ceil(3 * sigma)
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    square = (place[:, None] ** 2 + place**2) / (2 * sigma**2)
    kernel = -(1 - square) * torch.exp(-square) / (math.pi * sigma**2)
    return (kernel - kernel.mean()).float()


class MultiScaleLoG(nn.Module):
    """`(B, 3, H, W)` to `(B, 3 * scales, H, W)`: each colour through each kernel, borders repeated.

    Example:
        >>> bool(MultiScaleLoG()(torch.full((1, 3, 32, 32), 0.7)).abs().max() < 1e-5)
        True
    """

    def __init__(self) -> None:
        super().__init__()
        kernels = [laplacian_of_gaussian(sigma) for sigma in SIGMAS]
        reach = max(len(kernel) for kernel in kernels) // 2
        padded = [F.pad(kernel, [reach - len(kernel) // 2] * 4) for kernel in kernels]
        self.reach = reach
        self.register_buffer("kernel", torch.stack(padded)[:, None].repeat(3, 1, 1, 1), persistent=False)

    kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, [self.reach] * 4, mode="replicate"), self.kernel, groups=3)


class DenseBranches(nn.Module):
    """A DenseNet whose stem and first block stand twice, for colours and for edges; then they are joined.

    Args:
        trunk: A DenseNet of timm.
        pretrained: Start it from ImageNet weights (timm spreads the first kernels over the edges' channels).
    """

    def __init__(self, trunk: str, pretrained: bool = False) -> None:
        super().__init__()
        self.edges = MultiScaleLoG()
        colour, edge = (
            timm.create_model(trunk, pretrained=pretrained, in_chans=channels).get_submodule("features")
            for channels in (3, 3 * len(SIGMAS))
        )
        self.colour_branch = stretch(colour, "conv0", "denseblock1")
        self.edge_branch = stretch(edge, "conv0", "denseblock1")
        channels = colour.get_submodule("transition1.norm").num_features
        self.join = nn.Conv2d(2 * channels, channels, 1, bias=False)  # type: ignore[operator, arg-type]
        self.rest = nn.Sequential(
            stretch(colour, "transition1", "norm5"), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.channels = int(colour.get_submodule("norm5").num_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` to `(N, channels)`."""
        both = torch.cat((self.colour_branch(x), self.edge_branch(self.edges(x))), 1)
        return self.rest(self.join(both))


class LateBranches(nn.Module):
    """Two whole trunks, one for colours and one for edges, whose features are put side by side.

    Args:
        colour, edge: Each `(N, 3, H, W)` to `(N, D)`.
    """

    def __init__(self, colour: nn.Module, edge: nn.Module) -> None:
        super().__init__()
        self.edges = nn.Sequential(MultiScaleLoG(), nn.Conv2d(3 * len(SIGMAS), 3, 1))
        self.colour_branch, self.edge_branch = colour, edge

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` to `(N, 2 D)`."""
        return torch.cat((self.colour_branch(x), self.edge_branch(self.edges(x))), 1)


class BothDirections(nn.Module):
    """Two LSTMs, one from the first frame on and one from the last; each gives the state at its end.

    Missing frames are not read: the second one begins with the last frame that is there.

    Args:
        channels: Features of a frame.
        hidden: Features of each state.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(channels, hidden, batch_first=True)
        self.backward_ = nn.LSTM(channels, hidden, batch_first=True)

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """`(B, T, D)` and `(B, T)` bool, missing frames last, to `(B, 2 hidden)`."""
        last = present.sum(1, keepdim=True) - 1
        order = (last - torch.arange(present.shape[1], device=present.device)).clamp(min=0)
        reverse = features.gather(1, order[..., None].expand_as(features))
        ends = []
        for lstm, sequence in ((self.onward, features), (self.backward_, reverse)):
            states = lstm(sequence)[0]
            ends.append(states.gather(1, last[..., None].expand(-1, -1, states.shape[2]))[:, 0])
        return torch.cat(ends, 1)


class Sphere(nn.Module):
    """Real faces within a radius of their running centre, fakes beyond it by a margin.

    Args:
        features: Length of the vectors.
    """

    centre: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """`(B, features)` and `(B,)` to the mean of what lies on the wrong side, a scalar."""
        with full_precision(vectors):
            vectors, real = vectors.float(), labels == 0
            if self.training and real.any():
                self.centre.lerp_(vectors.detach()[real].mean(0), RATE)
            distance = (vectors - self.centre.clone()).square().sum(1).clamp(min=1e-12).sqrt()
            wrong = torch.where(real, distance - RADIUS, RADIUS + MARGIN - distance)
            return wrong.relu().mean()


class TwoBranch(ClipModel):
    """Both branches of each frame, both directions of the clip, a linear layer, and the sphere.

    Args:
        encoder: `(N, 3, H, W)` to `(N, channels)`.
        channels: Features of a frame.
        hidden: Features of each direction.
    """

    uses_masks = False

    def __init__(self, encoder: nn.Module, channels: int, hidden: int = 128) -> None:
        super().__init__(encoder)
        self.directions = BothDirections(channels, hidden)
        self.sphere = Sphere(2 * hidden)
        self.classify = nn.Linear(2 * hidden, 2)

    def judge(self, features: Tensor, present: Tensor) -> Tensor:
        """See `ClipModel`."""
        return self.classify(self.directions(features, present))

    def losses(
        self,
        x: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        *,
        label_smoothing: float = 0.0,
        present: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """See `sficonv.models.losses.HasLosses`: cross entropy, and what lies on the sphere's wrong side."""
        vectors = self.directions(*self.encode(x, present))
        logits = self.classify(vectors)
        return {
            "cross_entropy": F.cross_entropy(logits, labels, label_smoothing=label_smoothing),
            "sphere": WEIGHT * self.sphere(vectors, labels),
        }


@register_model
def two_branch(
    *,
    pretrained: bool = False,
    trunk: str = "densenet121",
    frames: int = 8,
    alpha: Ratio | None = None,
    beta: Ratio | None = None,
) -> tuple[nn.Module, ModelConfig]:
    """The two-branch network on clips of `frames` frames.

    With a DenseNet of timm the branches are joined behind its first block, as in the paper; with any other
    trunk, such as `sfic_resnet26` (whose options `alpha` and `beta` are), each branch is a whole trunk.
    There is no public code. Not stated in the paper, or not checked against it here; chosen here: the
    Laplacians look at the image, because that is where high frequencies are; their widths; 128 features for
    each direction; a running centre of the sphere, a radius and a margin of 1; and a linear layer with cross
    entropy beside the sphere, because calibration and export ask for two logits.
    """
    if frames < 2:
        raise ValueError(f"two_branch: frames must be at least 2, got {frames}")
    encoder: nn.Module
    if trunk.startswith("densenet") and timm.is_model(trunk) and alpha is None and beta is None:
        encoder = DenseBranches(trunk, pretrained)
        return TwoBranch(encoder, encoder.channels), ModelConfig("two_branch", frames=frames)
    options = {"pretrained": pretrained, "alpha": alpha, "beta": beta}
    colour, channels, config = pooled_features(trunk, **options)  # type: ignore[arg-type]
    edge, _, _ = pooled_features(trunk, **options)  # type: ignore[arg-type]
    encoder = LateBranches(colour, edge)
    return TwoBranch(encoder, 2 * channels), ModelConfig(
        "two_branch", mean=config.mean, std=config.std, frames=frames
    )
