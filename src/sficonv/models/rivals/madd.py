"""MADD (Zhao et al., "Multi-attentional deepfake detection", CVPR 2021).

Several attention maps each find a region of the face; what a shallow, texture-enhanced map holds there is
pooled region by region and judged together with a global feature.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.running_mean import RunningMean

WITHIN = (0.05, 0.1)
"""Distance from its centre at which a region's feature is left alone, of a real and of a fake face."""
APART = 0.2
"""Distance between centres from which on they are far enough apart."""


class TextureEnhancement(nn.Module):
    """A shallow map parted into its local average and the rest, which goes through a dense block: textures.

    Args:
        channels: Channels of the map.
        growth: Channels that each of the three convolutions adds.
        window: Side of the average, in positions.
    """

    def __init__(self, channels: int, growth: int = 32, window: int = 5) -> None:
        super().__init__()
        self.window = window
        self.convs = nn.ModuleList(
            [
                nn.Sequential(
                    BatchNormAct2d(channels + i * growth),
                    nn.Conv2d(channels + i * growth, growth, 3, padding=1, bias=False),
                )
                for i in range(3)
            ]
        )
        self.channels = channels + 3 * growth

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, H, W)` to textures `(B, self.channels, H, W)` and the average `(B, C, H, W)`."""
        average = F.avg_pool2d(x, self.window, 1, self.window // 2, count_include_pad=False)
        textures = x - average
        for conv in self.convs:
            textures = torch.cat((textures, conv(textures)), 1)
        return textures, average


def attention_pooling(features: Tensor, attention: Tensor) -> Tensor:
    """Bilinear attention pooling: the mean of the features weighted by each attention map, as unit vectors.

    Args:
        features: `(B, C, H, W)`.
        attention: `(B, M, h, w)`, resized to H x W where it differs.

    Returns:
        `(B, M, C)`.

    Example:
        >>> attention_pooling(torch.rand(2, 8, 6, 6), torch.rand(2, 4, 3, 3)).shape
        torch.Size([2, 4, 8])
    """
    if attention.shape[-2:] != features.shape[-2:]:
        size = features.shape[-2:]
        attention = F.interpolate(attention, size=size, mode="bilinear", align_corners=False)
    pooled = attention.flatten(2) @ features.flatten(2).transpose(1, 2)
    return F.normalize(pooled / (features.shape[-2] * features.shape[-1]), dim=2, eps=1e-6)


class RegionalIndependence(nn.Module):
    """Keeps each attention map on one region: its features near a centre, the centres apart from each other.

    Args:
        maps: Number of attention maps.
        channels: Features of a region.
    """

    def __init__(self, maps: int, channels: int) -> None:
        super().__init__()
        self.centres = RunningMean(maps, channels)

    def forward(self, regions: Tensor, labels: Tensor) -> Tensor:
        """Unit vectors `(B, M, C)` of the regions, and labels `(B,)`, to a scalar."""
        within = torch.tensor(WITHIN, device=labels.device)[labels][:, None]
        pull = (regions - self.centres(regions)).norm(dim=2).sub(within).relu().sum(1).mean()
        # Through the batch's own mean the maps feel the push; the centres are constants.
        own = regions.mean(0)
        first, second = torch.triu_indices(len(own), len(own), 1, device=own.device)
        push = (APART - (own[first] - own[second]).square().sum(1).clamp(min=1e-12).sqrt()).relu().sum()
        return pull + push


def blur_where_attended(x: Tensor, attention: Tensor) -> Tensor:
    """Attention-guided augmentation: blur each image where one of its maps, drawn at random, looks.

    Args:
        x: `(B, 3, H, W)`.
        attention: `(B, M, h, w)`, not negative.

    Returns:
        `(B, 3, H, W)`: the image where the map is 0, its blurred form where the map has its maximum.
    """
    chosen = torch.randint(attention.shape[1], (len(x),), device=x.device)
    one = attention[torch.arange(len(x), device=x.device), chosen][:, None]
    one = one / one.amax((2, 3), keepdim=True).clamp(min=1e-6)
    one = F.interpolate(one, size=x.shape[-2:], mode="bilinear", align_corners=False)
    small = F.interpolate(x, scale_factor=0.25, mode="bilinear", antialias=True, align_corners=False)
    blurred = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return x * (1 - one) + blurred * one


class MADD(nn.Module):
    """EfficientNet-B4 whose second stage is enhanced and whose fifth is attended to.

    Args:
        trunk: An EfficientNet of timm.
        maps: Number of attention maps.
        pretrained: Start the trunk from ImageNet weights.

    Example:
        >>> MADD("efficientnet_b0").eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    uses_masks = False

    def __init__(self, trunk: str = "tf_efficientnet_b4", maps: int = 4, pretrained: bool = False) -> None:
        super().__init__()
        if "efficientnet" not in trunk or not timm.is_model(trunk) or maps < 1:
            raise ValueError(f"madd: needs an EfficientNet of timm and maps, got {trunk!r} and {maps}")
        whole: Any = timm.create_model(trunk, pretrained=pretrained)
        shallow, middle = (whole.feature_info[i]["num_chs"] for i in (1, 3))  # of the second and fifth stage
        self.shallow = nn.Sequential(whole.conv_stem, whole.bn1, whole.blocks[:2])
        self.middle = whole.blocks[2:5]
        self.deep = nn.Sequential(whole.blocks[5:], whole.conv_head, whole.bn2)
        self.texture = TextureEnhancement(shallow)
        self.attention = nn.Sequential(
            nn.Conv2d(middle, maps, 1, bias=False), nn.BatchNorm2d(maps), nn.ReLU()
        )
        self.regions = RegionalIndependence(maps, shallow)
        self.dropout = nn.Dropout(0.5)
        self.classify = nn.Linear(maps * self.texture.channels + whole.num_features, 2)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`."""
        return self.judge(x)[0]

    def judge(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, 3, H, W)` to logits `(B, 2)`, attention maps `(B, M, h, w)` and regions `(B, M, C)`.

        A region is what the average of the shallow map holds where one attention map looks.
        """
        shallow = self.shallow(x)
        middle = self.middle(shallow)
        deep = self.deep(middle)
        attention = self.attention(middle)
        textures, average = self.texture(shallow)
        textures, regions = (attention_pooling(m, attention) for m in (textures, average))
        overall = attention_pooling(deep, attention.sum(1, keepdim=True))
        features = torch.cat((textures.flatten(1), overall.flatten(1)), 1)
        return self.classify(self.dropout(features)), attention, regions

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """See `sficonv.models.losses.HasLosses`: two cross entropies, independence of regions."""
        logits, attention, regions = self.judge(x)
        blurred = self(blur_where_attended(x, attention.detach()))
        return {
            "cross_entropy": F.cross_entropy(logits, labels, label_smoothing=label_smoothing),
            "augmented": F.cross_entropy(blurred, labels, label_smoothing=label_smoothing),
            "independence": self.regions(regions, labels),
        }


@register_model
def madd(
    *, pretrained: bool = False, trunk: str = "tf_efficientnet_b4", maps: int = 4
) -> tuple[nn.Module, ModelConfig]:
    """MADD with `maps` attention maps.

    As we know the paper, whose text was not at hand: textures from the second stage and attention from the
    fifth, at 380 px; independence is asked of what the maps find in the average of the shallow map, with
    margins of 0.05 (real) and 0.1 (fake) within and 0.2 between, and counts as much as the cross entropy. The
    authors' code departs from it: a 3x3 convolution before the maps, hidden layers before the classifier,
    other margins. Chosen here: the local average slides over 5 x 5 positions, because blocks would leave
    edges of their own; the push between regions is felt through the batch's own means, because the running
    ones hardly move; the augmentation is a blur (to a quarter and back) whose cross entropy counts as much as
    that of the image.
    """
    return MADD(trunk, maps, pretrained), ModelConfig("madd", image_size=380)
