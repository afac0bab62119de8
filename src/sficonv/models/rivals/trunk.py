"""Trunks of detectors: Xception in pieces, and whole networks without their classifier."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import timm
from torch import nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import create_model, list_models


def xception(
    channels: int = 3,
    *,
    pretrained: bool = False,
    dropout: float = 0.0,
    stem_stride: int = 2,
    stem_padding: int = 0,
) -> nn.Module:
    """Xception with two logits.

    Args:
        channels: Channels of the input. timm spreads pretrained colour kernels over all of them, scaled by
            `3 / channels`.
        pretrained: Start from ImageNet weights.
        dropout: Probability before the classifier.
        stem_stride: Stride of the first convolution.
        stem_padding: Padding of the first two convolutions, which have none in the original.

    Returns:
        The network. Its children stand in the order in which they run: `conv1` to `act2` (the stem), `block1`
        to `block12`, `conv3` to `act4`, then pooling and classifier.
    """
    trunk = timm.create_model(
        "legacy_xception", pretrained=pretrained, num_classes=2, in_chans=channels, drop_rate=dropout
    )
    conv1, conv2 = trunk.conv1, trunk.conv2
    assert isinstance(conv1, nn.Conv2d)
    assert isinstance(conv2, nn.Conv2d)
    conv1.stride = (stem_stride, stem_stride)
    conv1.padding = conv2.padding = (stem_padding, stem_padding)
    return trunk


def stretch(trunk: nn.Module, first: str, last: str) -> nn.Sequential:
    """The children of a trunk from `first` to `last`, under their own names.

    Args:
        trunk: A network whose children run one after the other.
        first, last: Names of children; both are included.

    Returns:
        A sequence that shares its modules with `trunk`.

    Example:
        >>> [name for name, _ in stretch(xception(), "conv1", "conv2").named_children()]
        ['conv1', 'bn1', 'act1', 'conv2']
    """
    children = list(trunk.named_children())
    names = [name for name, _ in children]
    return nn.Sequential(OrderedDict(children[names.index(first) : names.index(last) + 1]))


def pooled_features(
    name: str, *, pretrained: bool = False, **options: Any
) -> tuple[nn.Module, int, ModelConfig]:
    """A whole network without its classifier, as the trunk of another one.

    Args:
        name: A model of `create_model` that ends in one linear layer (the backbones, vanilla and `sfic_*`),
            or else any convolutional network of timm.
        pretrained: Start from ImageNet weights.
        **options: The model's own.

    Returns:
        A module that maps `(B, 3, H, W)` to features `(B, D)`, D, and the config of its input.

    Raises:
        ValueError: If there is no such network, or it does not end in a linear layer that makes its logits.

    Example:
        >>> features, channels, _ = pooled_features("sfic_resnet26", alpha=0.25)
        >>> channels
        2048
    """
    if name not in list_models() and timm.is_model(name) and not any(options.values()):
        model, channels = feature_maps(name, pretrained=pretrained)
        return nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels, ModelConfig(name)
    model = create_model(name, pretrained=pretrained, **options)
    last, layer = list(model.named_modules())[-1]
    if not isinstance(layer, nn.Linear) or layer.out_features != 2:
        raise ValueError(f"{name} cannot be a trunk: it does not end in a linear layer that makes its logits")
    model.set_submodule(last, nn.Identity())
    return model, layer.in_features, model.config  # type: ignore[return-value]


def feature_maps(name: str, *, pretrained: bool = False) -> tuple[nn.Module, int]:
    """A network of timm up to its last map.

    Args:
        name: Any convolutional network of timm.
        pretrained: Start from ImageNet weights.

    Returns:
        A module that maps `(B, 3, H, W)` to `(B, C, H / 32, W / 32)` or so, and C.

    Raises:
        ValueError: If timm has no such network.

    Example:
        >>> maps, channels = feature_maps("resnet18")
        >>> channels
        512
    """
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r} to be a trunk")
    model = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
    return model, int(model.num_features)  # type: ignore[arg-type]
