"""LDFnet (Guo et al., "LDFnet: Lightweight dynamic fusion network for face forgery detection by integrating
local artifacts and global texture information", IEEE TCSVT 2023).

Two light branches, one of local traces of manipulation and one of the texture of the whole face, mixed by
weights that each face gets for itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.separable import separable
from sficonv.models.rivals.srm import FeatureResidual
from sficonv.models.rivals.style import Style

WIDTHS = (32, 64, 128, 256)
"""Channels of the stages, each at half of the resolution of the one before."""


class LocalArtifacts(nn.Module):
    """What high-pass kernels leave of the image and of a map, read by three light stages.

    A residual holds only what a pixel's neighbours do not foretell: the traces that a forgery leaves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image, self.map = FeatureResidual(3), FeatureResidual(WIDTHS[0])
        self.stem = separable(3, WIDTHS[0], 2)
        pairs = zip(WIDTHS, WIDTHS[1:], strict=False)
        self.stages = nn.Sequential(
            *(stage for a, b in pairs for stage in (separable(a, b, 2), separable(b, b)))
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 256)`."""
        x = self.stem(self.image(x))
        return self.pool(self.stages(x + self.map(x)))


class GlobalTexture(nn.Module):
    """Light stages over the image, and the correlations of each stage's channels, wherever they lie."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([separable(a, b, 2) for a, b in zip((3, *WIDTHS), WIDTHS, strict=False)])
        self.styles = nn.ModuleList([Style(width, 16, 64) for width in WIDTHS])

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 256)`."""
        found = []
        for stage, style in zip(self.stages, self.styles, strict=True):
            x = stage(x)
            found.append(style(x))
        return torch.cat(found, 1)


class DynamicFusion(nn.Module):
    """Mix two vectors, feature by feature, by weights that are made from both and add up to 1.

    Args:
        features: Length of each.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        hidden = features // 4
        self.weigh = nn.Sequential(
            nn.Linear(2 * features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * features),
            nn.Unflatten(1, (2, features)),
        )

    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        """`(B, 2, features)`; those of `a` and of `b` add up to 1."""
        return self.weigh(torch.cat((a, b), 1)).softmax(1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two `(B, features)` to one."""
        return (self.weights(a, b) * torch.stack((a, b), 1)).sum(1)


class LDFNet(nn.Module):
    """Both branches, their dynamic fusion, and a linear layer.

    Example:
        >>> LDFNet().eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    def __init__(self) -> None:
        super().__init__()
        self.local, self.texture = LocalArtifacts(), GlobalTexture()
        self.fusion = DynamicFusion(WIDTHS[-1])
        self.classify = nn.Linear(WIDTHS[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`."""
        local = self.local(x)
        return self.classify(self.fusion(local, self.texture(x).to(local.dtype)))


@register_model
def ldfnet() -> tuple[nn.Module, ModelConfig]:
    """LDFnet, a reading of its title: there is no public code, and neither text nor abstract was available.

    What is taken from it is what its title names: light layers, local artefacts, global texture, and a
    fusion whose weights depend on the face. Chosen here: residuals of three high-pass kernels for the
    artefacts, because they leave nothing of the face's content; Gram matrices of four stages for the
    texture, because they do not depend on the place; depthwise separable convolutions; a softmax between the
    branches for each feature.
    """
    return LDFNet(), ModelConfig("ldfnet")
