"""What `convert` makes of a network that is given by its name."""

from __future__ import annotations

from difflib import get_close_matches

import timm
from torch import nn

from sficonv.conversion.convert import convert
from sficonv.conversion.report import ConversionReport
from sficonv.models.registry import create_model, list_models
from sficonv.nn.sficonv import Downsample


def conversion_of(
    model: str,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    downsample: Downsample | None = None,
    fuse_at: str | None = None,
) -> ConversionReport:
    """Show which layer of a network becomes which stage of SFIConv, and what stays vanilla and why.

    Args:
        model: A name that `sficonv models` or timm's `list_models()` lists; weights are random.
        alpha: Share of the channels in the frequency branch; 0.5 by default, for an `sfic_*` model its own.
        beta: Resolution of the frequency branch relative to the spatial one; 1 by default, for an `sfic_*`
            model its own.
        downsample: `strided` keeps strided convolutions, `avgpool` averages, then convolves; `strided` by
            default, for an `sfic_*` model its own.
        fuse_at: Module whose last convolutions become Stage 3; the network's last ones by default. An
            `sfic_*` model has its own.

    Returns:
        The report of the conversion.

    Raises:
        ValueError: Unknown name, an argument out of range, or a network that cannot be converted.

    Example:
        >>> conversion_of("resnet26", beta=0.5).layers[0].stage
        'head'
    """
    if model in list_models("sfic_*"):
        if fuse_at is not None:
            raise ValueError(
                f"{model} has its own Stage 3: leave fuse_at out, or convert the vanilla network"
            )
        made = create_model(model, alpha=alpha, beta=beta, downsample=downsample)
        report = getattr(made, "report", None)
        assert isinstance(report, ConversionReport)
        return report
    return convert(
        _build(model),
        0.5 if alpha is None else alpha,
        1.0 if beta is None else beta,
        downsample=downsample or "strided",
        fuse_at=fuse_at,
    ).report


def _build(name: str) -> nn.Module:
    if name in list_models():
        return create_model(name)
    if not timm.is_model(name):
        near = get_close_matches(name, [*list_models(), *timm.list_models()], n=5)
        like = f"; near it are {', '.join(near)}" if near else ""
        raise ValueError(f"neither sficonv nor timm has a model {name!r}{like}")
    return timm.create_model(name, num_classes=2)
