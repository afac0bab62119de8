"""Vanilla backbones from timm, and their SFIConv forms by `convert`."""

from __future__ import annotations

import timm
from torch import nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model


def _timm(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    return timm.create_model(name, num_classes=num_classes, pretrained=pretrained)


@register_model
def resnet26(*, num_classes: int = 2, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
    return _timm("resnet26", num_classes, pretrained), ModelConfig("resnet26")


@register_model
def efficientnet_lite0(*, num_classes: int = 2, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
    return _timm("efficientnet_lite0", num_classes, pretrained), ModelConfig("efficientnet_lite0")
