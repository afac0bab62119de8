"""Two-branch recurrent network (Masi et al., "Two-branch recurrent network for isolating deepfakes in
videos", ECCV 2020).

One branch hands on what the first layers make of a frame, the other what Laplacians of Gaussians of several
widths leave of it: edges and grain without the face. A recurrent network reads the frames in both directions,
and the loss keeps real faces inside a sphere and forged ones outside.
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
from sficonv.models.rivals.running_mean import RunningMean
from sficonv.models.rivals.trunk import pooled_features, stretch
from sficonv.nn.sficonv import Ratio

SIGMAS = (0.8, 1.6, 3.2)
"""Widths of the Gaussians, in positions."""
BANDS = 16
"""Channels that go through each of them."""
RADIUS, MARGIN = 1.0, 1.0
"""Of the sphere of real faces, and the gap outside of it that fakes must leave."""
WEIGHT = 0.5
"""Of the sphere in the loss."""


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
    """`(B, C, H, W)` to `(B, C * scales, H, W)`: each channel through each kernel, borders repeated.

    Args:
        channels: C.

    Example:
        >>> bool(MultiScaleLoG(3)(torch.full((1, 3, 32, 32), 0.7)).abs().max() < 1e-5)
        True
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernels = [laplacian_of_gaussian(sigma) for sigma in SIGMAS]
        reach = max(len(kernel) for kernel in kernels) // 2
        padded = [F.pad(kernel, [reach - len(kernel) // 2] * 4) for kernel in kernels]
        self.reach = reach
        kernel = torch.stack(padded)[:, None].repeat(channels, 1, 1, 1)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, [self.reach] * 4, mode="replicate"), self.kernel, groups=x.shape[1])


class LaplacianBottleneck(nn.Sequential):
    """A few channels made of a map, each through all Laplacians, and a map of as many channels as before.

    Args:
        channels: Channels of the map.
        kernel_size: Of the convolution that makes the few channels.

    Example:
        >>> LaplacianBottleneck(64)(torch.rand(2, 64, 16, 16)).shape
        torch.Size([2, 64, 16, 16])
    """

    def __init__(self, channels: int, kernel_size: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, BANDS, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(BANDS),
            nn.ReLU(),
            MultiScaleLoG(BANDS),
            nn.Conv2d(BANDS * len(SIGMAS), channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )


class DenseBranches(nn.Module):
    """A DenseNet whose first convolution and first block stand twice, in the second one with the Laplacians
    between the two; then both are joined.

    Args:
        trunk: A DenseNet of timm.
        pretrained: Start it from ImageNet weights.
    """

    def __init__(self, trunk: str, pretrained: bool = False) -> None:
        super().__init__()
        colour, edge = (
            timm.create_model(trunk, pretrained=pretrained).get_submodule("features") for _ in range(2)
        )
        self.colour_branch = stretch(colour, "conv0", "denseblock1")
        stem = edge.get_submodule("norm0").num_features
        self.edge_branch = nn.Sequential(
            stretch(edge, "conv0", "norm0"),
            LaplacianBottleneck(stem),  # type: ignore[arg-type]
            stretch(edge, "pool0", "denseblock1"),
        )
        channels = colour.get_submodule("transition1.norm").num_features
        self.join = nn.Conv2d(2 * channels, channels, 1, bias=False)  # type: ignore[operator, arg-type]
        self.rest = nn.Sequential(
            stretch(colour, "transition1", "norm5"), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.channels = int(colour.get_submodule("norm5").num_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` to `(N, channels)`."""
        return self.rest(self.join(torch.cat((self.colour_branch(x), self.edge_branch(x)), 1)))


class LateBranches(nn.Module):
    """Two whole trunks, one for colours and one for what the Laplacians leave of them, whose features are put
    side by side.

    Args:
        colour, edge: Each `(N, 3, H, W)` to `(N, D)`.
    """

    def __init__(self, colour: nn.Module, edge: nn.Module) -> None:
        super().__init__()
        self.colour_branch = colour
        self.edge_branch = nn.Sequential(LaplacianBottleneck(3, kernel_size=3), edge)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` to `(N, 2 D)`."""
        return torch.cat((self.colour_branch(x), self.edge_branch(x)), 1)


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

    def __init__(self, features: int) -> None:
        super().__init__()
        self.centre = RunningMean(features)

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """`(B, features)` and `(B,)` to the mean of what lies on the wrong side, a scalar."""
        with full_precision(vectors):
            vectors, real = vectors.float(), labels == 0
            distance = (vectors - self.centre(vectors[real])).square().sum(1).clamp(min=1e-12).sqrt()
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

    With a DenseNet of timm the branches are joined behind its first block; with any other trunk, such as
    `sfic_resnet26` (whose options `alpha` and `beta` are), each branch is a whole trunk.

    From the paper's abstract: two branches, the second with Laplacians of Gaussians as a bottleneck layer
    instead of a filter before the network; a recurrent network; a loss that compresses natural faces and
    pushes manipulated ones away. There is no public code, and the rest was not checked against the text.
    Chosen here: the bottleneck stands behind the first convolution, where maps have the most positions, and
    has 16 channels, because large kernels over all 64 would add a quarter to all operations; three
    widths; 128 features for each direction; a running centre of the sphere, a radius and a margin of 1; and a
    linear layer with cross entropy beside the sphere, because calibration and export ask for two logits.
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
