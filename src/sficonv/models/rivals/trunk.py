"""Trunks of detectors: timm's Xception in pieces, and registered models without their classifier."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import timm
from torch import nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import create_model


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


def registered_features(
    name: str, *, pretrained: bool = False, **options: Any
) -> tuple[nn.Module, int, ModelConfig]:
    """A registered model without its classifier, as the trunk of another one.

    Args:
        name: A model of `create_model` that ends in one linear layer: the backbones, vanilla and `sfic_*`.
        pretrained: Start from ImageNet weights.
        **options: The model's own.

    Returns:
        A module that maps `(B, 3, H, W)` to features `(B, D)`, D, and the config of its input.

    Raises:
        ValueError: If there is no such model, or it does not end in a linear layer that makes its logits.

    Example:
        >>> features, channels, _ = registered_features("sfic_resnet26", alpha=0.25)
        >>> channels
        2048
    """
    model = create_model(name, pretrained=pretrained, **options)
    last, layer = list(model.named_modules())[-1]
    if not isinstance(layer, nn.Linear) or layer.out_features != 2:
        raise ValueError(f"{name} cannot be a trunk: it does not end in a linear layer that makes its logits")
    model.set_submodule(last, nn.Identity())
    return model, layer.in_features, model.config  # type: ignore[return-value]
