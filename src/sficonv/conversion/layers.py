"""SFIConv in the place of special convolutions, and of layers whose input order is not `[spa | fre]`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from sficonv.conversion.layout import Layout
from sficonv.nn.norm import Parts, SFIBatchNorm2d
from sficonv.nn.sficonv import SFIConv2d

_PLAIN = (nn.Conv2d, Conv2dSame)
_STANDARDISED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)


@dataclass(frozen=True)
class Padding:
    """How a convolution pads: by its own numbers, or before it.

    Args:
        numbers: Zero padding `(height, width)` that the convolution itself applies.
        same: Whether it is padded to `ceil(size / stride)` first, as TensorFlow does.
    """

    numbers: tuple[int, int]
    same: bool = False


def why_kept(conv: nn.Conv2d) -> str:
    """Why a convolution cannot become an SFIConv with the same meaning; "" if it can."""
    if type(conv) not in (*_PLAIN, *_STANDARDISED):
        return f"{type(conv).__name__} computes in its own way"
    if conv._forward_hooks or conv._forward_pre_hooks:
        return "has hooks (weight normalisation, pruning, ...)"
    if conv.padding_mode != "zeros":
        return f"pads with padding_mode={conv.padding_mode!r}"
    if padding_of(conv) is None:
        return f"pads unevenly (padding={conv.padding!r} with kernel_size={conv.kernel_size})"
    return ""


def padding_of(conv: nn.Conv2d) -> Padding | None:
    """How `conv` pads; None where SFIConv cannot do the same."""
    if isinstance(conv, Conv2dSame) or getattr(conv, "same_pad", False):
        return Padding((0, 0), same=True)
    if conv.padding == "valid":
        return Padding((0, 0))
    if conv.padding == "same":
        extents = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return None if any(e % 2 for e in extents) else Padding((extents[0] // 2, extents[1] // 2))
    assert isinstance(conv.padding, tuple)
    return Padding((conv.padding[0], conv.padding[1]))


class DerivedSFIConv2d(SFIConv2d):
    """An SFIConv whose kernel is derived from its parameters, which stay those of the vanilla layer.

    The kernel is standardised where the vanilla layer did so, and its columns (of a grouped convolution:
    rows) are put into the order `[spa | fre]` where the input's channels come in another one.
    """

    gain: nn.Parameter | None
    rows: Tensor | None
    columns: Tensor | None

    def derive_from(self, conv: nn.Conv2d, layout: Layout | None) -> None:
        """Take over the standardisation of `conv`, and the order of its input's channels."""
        self.standardised = isinstance(conv, _STANDARDISED)
        self.eps, self.scale = getattr(conv, "eps", 0.0), getattr(conv, "scale", 1.0)
        self.gain = getattr(conv, "gain", None)
        rows = columns = None
        if layout is not None and not layout.is_split:
            if self.groups == 1:
                columns = torch.tensor(layout.order)
            else:
                outputs = Layout.from_groups(layout.of_groups(self.groups), self.out_channels)
                rows = torch.tensor(outputs.order)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.weight, self.bias
        if self.standardised:
            weight = self._standardise(weight)
        if self.columns is not None:
            weight = weight.index_select(1, self.columns)
        if self.rows is not None:
            weight = weight.index_select(0, self.rows)
            bias = None if bias is None else bias.index_select(0, self.rows)
        return weight, bias

    def _standardise(self, weight: Tensor) -> Tensor:
        """Each row to mean 0 and variance 1, then scaled by its gain where there is one."""
        gain = None if self.gain is None else (self.gain * self.scale).view(-1)
        flat = weight.reshape(1, self.out_channels, -1)
        return F.batch_norm(flat, None, None, gain, training=True, momentum=0.0, eps=self.eps).reshape_as(
            weight
        )


class ScatteredBatchNorm2d(SFIBatchNorm2d):
    """Batch normalisation of two branches whose channels are not in the order `[spa | fre]`."""

    order: Tensor

    def set_layout(self, layout: Layout) -> None:
        """Tell which channels of the parameters belong to which branch."""
        self.register_buffer("order", torch.tensor(layout.order), persistent=False)

    def _parts(self, t: Tensor | None) -> Parts:
        return super()._parts(None if t is None else t.index_select(0, self.order))

    def _keep_statistics(self, mean: Parts, var: Parts) -> None:
        if self.training and self.running_mean is not None and self.running_var is not None:
            self.running_mean.index_copy_(0, self.order, torch.cat(mean))  # type: ignore[arg-type]
            self.running_var.index_copy_(0, self.order, torch.cat(var))  # type: ignore[arg-type]


def make_norm(norm: nn.BatchNorm2d, layout: Layout) -> SFIBatchNorm2d:
    """The batch normalisation of both branches of a value."""
    if layout.is_split:
        return SFIBatchNorm2d.from_norm(norm, layout.fre_channels)
    made = ScatteredBatchNorm2d.from_norm(norm, layout.fre_channels)
    assert isinstance(made, ScatteredBatchNorm2d)
    made.set_layout(layout)
    return made.to(layout_device(norm))


def layout_device(module: nn.Module) -> torch.device:
    """Where a module lives."""
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def make_layer(
    conv: nn.Conv2d, layout_in: Layout | None, fre_out: int, *, in_order: bool, **options: Any
) -> SFIConv2d:
    """The SFIConv in the place of `conv`, sharing its parameters.

    Args:
        conv: One that `why_kept` has nothing against.
        layout_in: Layout of the input, None for a plain one.
        fre_out: High-frequency channels of the output.
        in_order: Whether the input arrives as one tensor in vanilla order (beta = 1).
        **options: `beta`, `mcs_mode`, `downsample`, `name` and, where given, `stride`, as for `SFIConv2d`.
    """
    padding = padding_of(conv)
    assert padding is not None
    scattered = layout_in is not None and not layout_in.is_split and not in_order
    derived = scattered or isinstance(conv, _STANDARDISED)
    stride = options.pop("stride", conv.stride)
    layer = (DerivedSFIConv2d if derived else SFIConv2d)(
        conv.in_channels, conv.out_channels, conv.kernel_size, stride, padding.numbers,  # type: ignore[arg-type]
        conv.dilation, conv.groups, conv.bias is not None,  # type: ignore[arg-type]
        alpha_in=Fraction(layout_in.fre_channels if layout_in else 0, conv.in_channels),
        alpha_out=Fraction(fre_out, conv.out_channels),
        **options,
    )  # fmt: skip
    layer.weight, layer.bias = conv.weight, conv.bias
    if layer.mcs is not None and not conv.weight.requires_grad:  # frozen
        layer.mcs.requires_grad_(False)
    if isinstance(layer, DerivedSFIConv2d):
        layer.derive_from(conv, layout_in if scattered else None)
    return layer.to(conv.weight.device, conv.weight.dtype).train(conv.training)
