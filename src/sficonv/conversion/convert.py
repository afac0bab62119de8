"""`convert`: replace the vanilla convolutions of a backbone by SFIConv (paper, section III-A and Fig. 2)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import fx, nn

from sficonv.conversion.report import ConversionReport, LayerReport
from sficonv.conversion.rewrite import Rewriting, Shortcut
from sficonv.conversion.trace import trace
from sficonv.nn.constrained import MCSMode
from sficonv.nn.sficonv import Downsample, Ratio, SFIConv2d, check_ratio

Init = Literal["keep", "vanilla", "paper"]


class ConvertedModel(fx.GraphModule):
    """A converted backbone: same submodule names and state-dict keys, plus `report`."""

    report: ConversionReport
    config: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ConvertedModel:
        made = super().__deepcopy__(memo)
        made.report, made.config = self.report, copy.deepcopy(self.config)  # type: ignore[assignment]
        return made  # type: ignore[return-value]


def convert(
    model: nn.Module,
    alpha: Ratio = 0.5,
    beta: Ratio = 1.0,
    *,
    mcs_mode: MCSMode = "reparam",
    downsample: Downsample = "strided",
    shortcut: Shortcut = "own",
    fuse_at: str | None = None,
    init: Init = "keep",
    input_size: tuple[int, int, int] | None = None,
) -> ConvertedModel:
    """Replace the body convolutions of a backbone by SFIConv.

    The first convolution (head) and everything after the fusion (tail) stay vanilla. The second
    convolution becomes Stage 1, the last one Stage 3, those in between Stage 2. Layers that treat channels
    one by one act on each branch; before anything else the branches are fused by upsampling and
    concatenation, and the next convolution splits them again. Parameters keep their names and values, so
    pretrained weights survive: at beta = 1 with `mcs_mode="none"` the converted model computes what the
    original did.

    Args:
        model: Any traceable convolutional classifier; it is left as it is.
        alpha: Share of high-frequency channels, in [0, 1]; 0 replaces nothing but `downsample`.
        beta: Resolution of the high-frequency branch, in [0, 1]; at 0 it is one value per channel.
        mcs_mode: How MCSConv keeps its constraint (`"reparam"`, `"projected"`, `"fixed"`), or `"none"`.
        downsample: `"strided"` keeps strided convolutions; `"avgpool"` averages, then convolves (the
            authors' form).
        shortcut: What a second reader of Stage 1's input gets: `"own"` a Stage 1 of its own (a convolution)
            or the input itself, split by channels; `"stage1"` the activated output of the first Stage 1
            where the channel counts agree (the authors' ResNets).
        fuse_at: Module whose last convolutions become Stage 3 (the authors' ResNets: `"layer4.0"`);
            default: the last convolution of the model.
        init: `"keep"` the weights; `"paper"` draws each block by its own fan-out, as the authors' four
            separate convolutions do; `"vanilla"` draws each kernel as one.
        input_size: `(C, H, W)` used to work out shapes; the converted model takes other sizes too. Default:
            that of a timm model's own configuration, else `(3, 256, 256)`.

    Returns:
        The converted model, in the training mode of `model`, with a `report`.

    Raises:
        ValueError: Argument out of range, or a model that cannot be converted; the message names the
            argument, or the layer and the reason.

    Example:
        >>> import timm, torch
        >>> sfic = convert(timm.create_model("resnet18", num_classes=2), alpha=0.5, beta=0.5)
        >>> sfic(torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 2])
    """
    check_ratio("alpha", alpha, where="convert")
    check_ratio("beta", beta, where="convert")
    for name, value, allowed in (
        ("mcs_mode", mcs_mode, get_args(MCSMode)),
        ("downsample", downsample, get_args(Downsample)),
        ("shortcut", shortcut, get_args(Shortcut)),
        ("init", init, get_args(Init)),
    ):
        if value not in allowed:
            raise ValueError(f"convert: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    traced = trace(model, input_size or _own_input_size(model))
    rewriting = Rewriting(traced, alpha, beta, mcs_mode, downsample, shortcut, fuse_at)
    rewriting.run()
    if alpha > 0:
        _check_reached(type(model).__name__, rewriting.layers)
    if init != "keep":
        for layer in traced.modules():
            if isinstance(layer, SFIConv2d):
                layer.reset_blocks() if init == "paper" else layer.reset_vanilla()
    converted = ConvertedModel(traced, traced.graph, type(model).__name__)
    converted.train(model.training)
    options = {
        "mcs_mode": mcs_mode,
        "downsample": downsample,
        "shortcut": shortcut,
        "fuse_at": fuse_at,
        "init": init,
    }
    converted.report = ConversionReport(
        float(alpha), float(beta), tuple(rewriting.layers), tuple(rewriting.joined), options
    )
    converted.config = copy.deepcopy(getattr(model, "config", None))
    if alpha > 0 and fuse_at is None and converted.report.share < 0.5:
        share = converted.report.share
        warnings.warn(
            f"convert: only {share:.0%} of the multiply-accumulates of {type(model).__name__}'s convolutions "
            "run as SFIConv; print(model.report) says why",
            stacklevel=2,
        )
    return converted


def _own_input_size(model: nn.Module) -> tuple[int, int, int]:
    """The input size in a timm model's configuration, else the paper's 256 x 256."""
    given = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 256, 256))
    return (given[0], given[1], given[2])


def _check_reached(name: str, layers: Sequence[LayerReport]) -> None:
    """Refuse a network in which nothing became Stage 2: it would silently stay vanilla."""
    if any(r.stage == "Stage 2" for r in layers):
        return
    notes = "; ".join(f"{r.layer}: {r.note}" for r in layers if r.note) or "too few convolutions"
    raise ValueError(f"convert: no convolution of {name} can become Stage 2 ({notes})")
