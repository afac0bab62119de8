"""Two streams, colour and noise residual (Luo et al., "Generalizing face forgery detection with
high-frequency features", CVPR 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.cross_attention import CrossAttention
from sficonv.models.rivals.frequency import full_precision
from sficonv.models.rivals.trunk import stretch, xception

MARGIN, SCALE = 0.45, 30.0
"""m and s of the additive-margin softmax."""


def srm_kernels() -> Tensor:
    """The three high-pass kernels of the steganalysis rich model that are in use for forensics.

    Returns:
        `(3, 5, 5)`: second-order 3x3 (divided by 4), third-order 5x5 (by 12), second-order horizontal (by 2).

    Example:
        >>> srm_kernels().sum((1, 2)).abs().max() < 1e-6
        tensor(True)
    """
    small = [[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]]
    large = [
        [-1, 2, -2, 2, -1],
        [2, -6, 8, -6, 2],
        [-2, 8, -12, 8, -2],
        [2, -6, 8, -6, 2],
        [-1, 2, -2, 2, -1],
    ]
    line = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, -2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    return torch.tensor([small, large, line]) / torch.tensor([4.0, 12.0, 2.0])[:, None, None]


class ImageResidual(nn.Module):
    """The image's noise: each kernel over the sum of the colours, cut off at +-3."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", srm_kernels()[:, None].repeat(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 3, H, W)`."""
        return F.conv2d(x, self.kernel, padding=2).clamp(-3, 3)


class FeatureResidual(nn.Module):
    """The noise of a feature map: every kernel over every channel, then a learned mixture.

    Args:
        channels: Channels of the map.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", srm_kernels()[:, None].repeat(channels, 1, 1, 1), persistent=False)
        self.mix = nn.Sequential(
            nn.Conv2d(3 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return self.mix(F.conv2d(x, self.kernel, padding=2, groups=x.shape[1]).clamp(-3, 3))


class ResidualGuidedAttention(nn.Module):
    """Where the noise stream's channels are large on average and at most, the colour stream is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Two `(B, C, H, W)` to one."""
        pooled = torch.cat((residual.mean(1, keepdim=True), residual.amax(1, keepdim=True)), 1)
        return x * self.conv(pooled).sigmoid()


class Fusion(nn.Module):
    """Join the two streams by a 1x1 convolution, then weigh the channels by what they hold on average.

    Args:
        channels: Channels of each stream.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 16, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 16, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, colour: Tensor, noise: Tensor) -> Tensor:
        """Two `(B, C, H, W)` to one."""
        x = self.join(torch.cat((colour, noise), 1))
        return x + x * self.weigh(x)


def am_softmax(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy after the margin is taken from the right class's cosine (Wang et al., 2018).

    Args:
        logits: `(B, C)`, the cosines times `SCALE`.
        labels: `(B,)` int64.
        label_smoothing: Share of the target that is spread over all classes.

    Returns:
        A scalar.

    Example:
        >>> round(am_softmax(torch.zeros(1, 2), torch.tensor([0])).item(), 2)
        13.5
    """
    margin = SCALE * MARGIN * F.one_hot(labels, logits.shape[1])
    return F.cross_entropy(logits - margin, labels, label_smoothing=label_smoothing)


class SRM(nn.Module):
    """Two Xceptions, on the image and on its noise, that guide each other.

    Args:
        pretrained: Start both trunks from ImageNet weights.

    Example:
        >>> SRM().eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    uses_masks = False

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        colour, noise = xception(pretrained=pretrained), xception(pretrained=pretrained)
        stretches = (
            ("conv1", "act1"),
            ("conv2", "act2"),
            ("block1", "block3"),
            ("block4", "block7"),
            ("block8", "act4"),
        )
        self.colour = nn.ModuleList([stretch(colour, *ends) for ends in stretches])
        self.noise = nn.ModuleList([stretch(noise, *ends) for ends in stretches])
        self.residual = ImageResidual()
        self.residual1, self.residual2 = FeatureResidual(32), FeatureResidual(64)
        self.attention = ResidualGuidedAttention()
        self.cross3, self.cross7 = CrossAttention(728, 728 // 8), CrossAttention(728, 728 // 8)
        self.fusion = Fusion(2048)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.prototypes = nn.Parameter(torch.empty(2, 2048))
        nn.init.xavier_uniform_(self.prototypes)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` in [-1, 1] to logits `(B, 2)`: cosines to the two classes, times `SCALE`."""
        colour1, colour2, colour3, colour7, colour_exit = self.colour
        noise1, noise2, noise3, noise7, noise_exit = self.noise
        colour = colour1(x)
        noise = noise1(self.residual(x)) + self.residual1(colour)
        colour = colour2(colour)
        noise = noise2(noise) + self.residual2(colour)
        colour = self.attention(colour, noise)
        colour, noise = self.cross3(colour3(colour), noise3(noise))
        colour, noise = self.cross7(colour7(colour), noise7(noise))
        features = self.pool(self.fusion(colour_exit(colour), noise_exit(noise)))
        with full_precision(features):  # sixteen bits leave steps of an eighth at 30
            return SCALE * F.linear(F.normalize(features.float()), F.normalize(self.prototypes))

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """The additive-margin softmax; see `sficonv.models.losses.HasLosses`."""
        return {"am_softmax": am_softmax(self(x), labels, label_smoothing)}


@register_model
def srm(*, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
    """The two-stream detector of Luo et al."""
    return SRM(pretrained), ModelConfig("srm", image_size=299, mean=(0.5,) * 3, std=(0.5,) * 3)
