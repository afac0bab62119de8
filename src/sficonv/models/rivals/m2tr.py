"""M2TR (Wang et al., "M2TR: Multi-modal multi-scale transformers for deepfake detection", ICMR 2022)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, get_args

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.frequency import full_precision, irdft2, rdft2
from sficonv.models.rivals.trunk import stretch, xception

Trunk = Literal["xception", "efficientnet_b4"]
Loss = Literal["focal", "cross_entropy"]
SIZES: dict[Trunk, int] = {"xception": 256, "efficientnet_b4": 320}
SPLITS = (1, 2, 4, 8)
"""Each head of the attention cuts the map into this many patches a side."""
FOCUS = 2.0
"""Focusing exponent gamma of the focal loss."""
MOST_LAYERS = 64
"""A model card from a stranger may ask for any number."""


class MultiScaleAttention(nn.Module):
    """Self-attention between patches; each of the four heads has its own patch size, from all to an eighth.

    Args:
        channels: Channels of the map, divisible by 4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape; H and W are divisible by 8."""
        heads = zip(*(part(x).chunk(4, 1) for part in (self.query, self.key, self.value)), strict=True)
        mixed = []
        for splits, (query, key, value) in zip(SPLITS, heads, strict=True):
            q, k, v = (to_patches(t, splits) for t in (query, key, value))
            weight = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
            mixed.append(from_patches(weight @ v, splits, x.shape[-2:]))
        return self.project(torch.cat(mixed, 1))


def to_patches(x: Tensor, splits: int) -> Tensor:
    """Cut `(B, C, H, W)` into `splits x splits` patches, each one row: `(B, splits^2, C H W / splits^2)`."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, splits, h // splits, splits, w // splits)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, splits * splits, -1)


def from_patches(rows: Tensor, splits: int, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Undo `to_patches` for a map of `size` (H, W)."""
    h, w = size
    x = rows.reshape(rows.shape[0], splits, splits, -1, h // splits, w // splits)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(rows.shape[0], -1, h, w)


def feed_forward(channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with normalisation and activation, the first one dilated."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.2),
    )


class FrequencyFilter(nn.Module):
    """Multiply every frequency of every channel by a learned complex number.

    Args:
        channels: Channels of the map.
        side: Its height and width; the weights fit this one size.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(channels, side, side // 2 + 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, side, side)` to the same shape."""
        with full_precision(x):
            (real, imaginary), (a, b) = rdft2(x.float()), self.weight.float().unbind(-1)
            return irdft2(a * real - b * imaginary, a * imaginary + b * real, width=x.shape[-1]).to(x.dtype)


class CrossModalityFusion(nn.Module):
    """Each position of the spatial map reads the whole frequency map, and the result is added to it.

    Written out, the weights of a 64 x 64 map take 67 MB per image and layer (80 x 80: 164 MB), and training
    keeps them. `scaled_dot_product_attention` never stores them where the device has a fused kernel.

    Args:
        channels: Channels of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)
        )

    def forward(self, spatial: Tensor, frequency: Tensor) -> Tensor:
        """Two `(B, C, H, W)` to one."""
        pairs = ((self.query, spatial), (self.key, frequency), (self.value, frequency))
        query, key, value = (part(t).flatten(2).transpose(1, 2)[:, None] for part, t in pairs)
        read = F.scaled_dot_product_attention(query, key, value)[:, 0]
        return spatial + self.project(read.transpose(1, 2).reshape(spatial.shape))


class Layer(nn.Module):
    """Multi-scale transformer and frequency filter side by side, then fused.

    Args:
        channels: Channels of the map.
        side: Its height and width.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.attention = MultiScaleAttention(channels)
        self.attention_ffn = feed_forward(channels)
        self.filter = FrequencyFilter(channels, side)
        self.filter_ffn = feed_forward(channels)
        self.fusion = CrossModalityFusion(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, side, side)` to the same shape."""
        spatial = x + self.attention(x)
        spatial = spatial + self.attention_ffn(spatial)
        frequency = x + self.filter_ffn(self.filter(x))
        return self.fusion(spatial, frequency)


Parts = tuple[nn.Sequential, int, nn.Sequential, int]
"""A trunk up to its stride-4 map, that map's channels, the rest of the trunk, and its channels."""


def padded_xception(pretrained: bool) -> Parts:
    """Xception with padding in the stem: its stride-4 map is then 64 x 64 at 256 px, and not 63 x 63."""
    trunk = xception(pretrained=pretrained, stem_padding=1)
    return stretch(trunk, "conv1", "block1"), 128, stretch(trunk, "block2", "act4"), 2048


def efficientnet_b4(pretrained: bool) -> Parts:
    """EfficientNet-B4, cut behind its second stage."""
    trunk = timm.create_model("tf_efficientnet_b4", pretrained=pretrained)
    stages = trunk.get_submodule("blocks")
    assert isinstance(stages, nn.Sequential)
    shallow = nn.Sequential(OrderedDict(stem=stretch(trunk, "conv_stem", "bn1"), blocks=stages[:2]))
    deep = nn.Sequential(OrderedDict(blocks=stages[2:], exit=stretch(trunk, "conv_head", "bn2")))
    return shallow, 32, deep, 1792


class M2TR(nn.Module):
    """Four transformer layers on the stride-4 map of a convolutional trunk, which then continues as usual.

    Args:
        image_size: Side of the input in pixels, a multiple of 32.
        trunk: `"xception"` (the form that the SFIConv paper compares with, padded so that its stride-4 map
            divides into patches) or `"efficientnet_b4"` (the original's).
        depth: Number of transformer layers, at most `MOST_LAYERS`.
        loss: `"focal"` as in the original, or `"cross_entropy"`.
        pretrained: Start the trunk from ImageNet weights.

    Raises:
        ValueError: For an option or an image size it does not know.

    Example:
        >>> M2TR(64, depth=1).eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    uses_masks = False

    def __init__(
        self,
        image_size: int = 256,
        trunk: Trunk = "xception",
        depth: int = 4,
        loss: Loss = "focal",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        for name, value, allowed in (("trunk", trunk, get_args(Trunk)), ("loss", loss, get_args(Loss))):
            if value not in allowed:
                raise ValueError(f"m2tr: {name} must be one of {allowed}, got {value!r}")
        if image_size < 32 or image_size % 32:
            raise ValueError(f"m2tr: image_size must be a multiple of 32 px, got {image_size}")
        if not 1 <= depth <= MOST_LAYERS:
            raise ValueError(f"m2tr: depth must be 1 to {MOST_LAYERS}, got {depth}")
        self.loss = loss
        build = padded_xception if trunk == "xception" else efficientnet_b4
        self.shallow, channels, self.deep, features = build(pretrained)
        self.layers = nn.Sequential(*(Layer(channels, image_size // 4) for _ in range(depth)))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(features, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, image_size, image_size)` to logits `(B, 2)`."""
        return self.head(self.deep(self.layers(self.shallow(x))))

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """The loss the model was built with; see `sficonv.models.losses.HasLosses`."""
        logits = self(x)
        if self.loss == "cross_entropy":
            return {"cross_entropy": F.cross_entropy(logits, labels, label_smoothing=label_smoothing)}
        target = labels.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
        # For two classes the softmax focal loss is the sigmoid one of the difference of the logits.
        margin = logits[:, 1] - logits[:, 0]
        return {"focal": sigmoid_focal_loss(margin, target, alpha=-1, gamma=FOCUS, reduction="mean")}


@register_model
def m2tr(
    *,
    image_size: int | None = None,
    pretrained: bool = False,
    trunk: Trunk = "xception",
    depth: int = 4,
    loss: Loss = "focal",
) -> tuple[nn.Module, ModelConfig]:
    """M2TR; `image_size` defaults to 256 px for an Xception and 320 px for an EfficientNet-B4."""
    size = SIZES.get(trunk, 256) if image_size is None else image_size
    model = M2TR(size, trunk, depth, loss, pretrained)
    if trunk == "xception":
        return model, ModelConfig("m2tr", image_size=size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return model, ModelConfig("m2tr", image_size=size)
