"""Parameters and multiply-accumulates: by the paper's counting rule, and what is really computed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sficonv.nn.sampling import conv_size
from sficonv.nn.sficonv import SFIConv2d, SpaceFreq

_RELUS = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.LeakyReLU, nn.ELU)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, *_RELUS, *_POOLS)


@dataclass(frozen=True)
class Complexity:
    """What a model costs for one image.

    Args:
        params: Number of parameters.
        macs: Multiply-accumulates of the convolutions and matrix products that really run.
        paper_macs: The same model by the rule behind the paper's FLOPs columns (see `complexity`).
        image_size: Side of the input, in pixels.
    """

    params: int
    macs: int
    paper_macs: int
    image_size: int


def complexity(model: nn.Module, image_size: int = 256) -> Complexity:
    """Count parameters and multiply-accumulates for one image.

    The paper's rule: the products of convolution and linear modules in the literal form of eq. (2) to (8),
    where resizing follows the convolution, plus 1 per output of a biased convolution, 2 per output of a batch
    normalisation, and 1 per input of a ReLU or pooling module. Functional calls are not counted, and so
    neither is MCSConv. It gives the FLOPs of the paper's Tables II and III to the printed digits but for
    SFIC-MobileNet (763M, printed 768M). Parameters are off by one in the last digit for ResNet101 (42.50M,
    printed 42.51M), VGG16 (14.72M, printed 14.73M) and SFIC-VGG19 (20.03M, printed 20.04M). Of the comparison
    detectors, Multi-task, AMTENnet and F3-Net differ; `sficonv complexity` shows by how much, and why.

    Nothing is run for real: the count is made on tensors without storage.

    Args:
        model: Any model that takes `(B, 3, H, W)`; it is left as it is.
        image_size: Side of the square input, in pixels; the paper uses 256.

    Returns:
        A `Complexity`.

    Raises:
        ValueError: If `image_size` is not positive.

    Example:
        >>> from sficonv.models import create_model
        >>> complexity(create_model("resnet26")).params
        13950274
    """
    if type(image_size) is not int or image_size < 1:
        raise ValueError(f"image_size must be positive and a whole number, got {image_size!r}")
    counted = copy.deepcopy(model).to("meta").eval()
    paper = _PaperRule()
    for module in counted.modules():
        if isinstance(module, _COUNTED):
            module.register_forward_hook(paper)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        counted(torch.empty(1, 3, image_size, image_size, device="meta"))
    params = sum(p.numel() for p in model.parameters())
    return Complexity(params, counter.get_total_flops() // 2, paper.macs, image_size)


class _PaperRule:
    """A forward hook that adds up one kind of module after the other."""

    def __init__(self) -> None:
        self.macs = 0

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor | SpaceFreq) -> None:
        x = args[0] if args else None
        if isinstance(module, SFIConv2d):
            self.macs += _sficonv_macs(module, x, output)
        elif isinstance(module, nn.Conv2d):
            kernel = prod(module.kernel_size) * module.in_channels // module.groups
            self.macs += _elements(output) * (kernel + (module.bias is not None))
        elif isinstance(module, nn.ConvTranspose2d):
            kernel = prod(module.kernel_size) * module.out_channels // module.groups
            self.macs += _elements(x) * kernel + (_elements(output) if module.bias is not None else 0)
        elif isinstance(module, nn.Linear):
            self.macs += _elements(output) * (module.in_features + (module.bias is not None))
        elif isinstance(module, nn.BatchNorm2d):
            self.macs += 2 * _elements(output)
        elif isinstance(module, _RELUS + _POOLS):
            self.macs += _elements(x)


def _elements(x: Tensor | SpaceFreq | None) -> int:
    if x is None:
        return 0
    return x.numel() if isinstance(x, Tensor) else x.spa.numel() + x.fre.numel()


def _sficonv_macs(layer: SFIConv2d, x: Tensor | SpaceFreq | None, output: Tensor | SpaceFreq) -> int:
    """The layer in the paper's literal form: convolve each branch at its own resolution, then resize."""
    assert x is not None
    spa_in, fre_in = (x, None) if isinstance(x, Tensor) else (x.spa, x.fre)
    pooled = layer.downsample == "avgpool" and layer.stride != (1, 1)

    def positions(t: Tensor) -> int:
        h, w = t.shape[-2:]
        if pooled:
            h, w = -(-h // layer.stride[0]), -(-w // layer.stride[1])
        kernel, padding, dilation = layer.kernel_size, layer.padding, layer.dilation
        return prod(conv_size((h, w), kernel, layer.conv_stride, padding, dilation))  # type: ignore[arg-type]

    kernel, batch = prod(layer.kernel_size), spa_in.shape[0]
    per_group = layer.in_channels // layer.groups
    if fre_in is None:  # one resolution: every row at every position
        macs = kernel * per_group * layer.out_channels * positions(spa_in)
    elif layer.groups > 1:
        macs = kernel * per_group * (layer.spa_out * positions(spa_in) + layer.fre_out * positions(fre_in))
    else:
        macs = (
            kernel
            * layer.out_channels
            * (layer.spa_in * positions(spa_in) + layer.fre_in * positions(fre_in))
        )
    bias = _elements(output) if layer.bias is not None else 0
    return batch * macs + bias + (_elements(x) if pooled else 0)
