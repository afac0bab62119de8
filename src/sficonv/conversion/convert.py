"""`convert`: replace the vanilla convolutions of a backbone by SFIConv (paper, section III-A and Fig. 2)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor, nn

from sficonv.conversion.accepted import check_model, check_size, copied
from sficonv.conversion.graph import PortableGraphModule, keep_unused, run_until
from sficonv.conversion.report import ConversionReport, LayerReport
from sficonv.conversion.rewrite import Rewriting, Shortcut
from sficonv.conversion.trace import trace
from sficonv.nn.constrained import MCSMode, no_weight_decay
from sficonv.nn.sficonv import Downsample, Ratio, SFIConv2d, check_ratio

Init = Literal["keep", "vanilla", "paper"]
_TIMM = ("pretrained_cfg", "default_cfg", "num_classes", "num_features", "head_hidden_size")
_NEEDED = ("report", "timm", "meta", "training")
CHOICES = {"mcs_mode": MCSMode, "downsample": Downsample, "shortcut": Shortcut, "init": Init}


class ConvertedModel(PortableGraphModule):
    """A converted backbone: same submodule names and state-dict keys, plus `report`.

    A timm model's `get_classifier`, `reset_classifier` and `forward_features` still work, and it keeps
    `pretrained_cfg`, `num_classes` and `num_features`. What needs the original's own code does not, and says
    so: `set_grad_checkpointing`, and hooks on modules that only hold layers.
    """

    report: ConversionReport
    config: Any = None
    timm: dict[str, Any]
    """What a timm model says of itself."""
    classifier_name: str = ""
    """Name of the original's classifier, where it told."""
    features_node: str = ""
    """Node of the graph that gives what the original's `forward_features` gave, where it had one."""

    def get_classifier(self) -> nn.Module:
        """The layer that makes logits, as timm's models name it."""
        if not self.classifier_name:
            raise AttributeError(f"{type(self).__name__}: its original names no classifier")
        return self.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new layer for another number of classes in the place of the classifier.

        Args:
            num_classes: Number of logits; 0 gives the pooled features instead.
            global_pool: How the original pools; another pooling cannot be had.

        Raises:
            ValueError: If the classifier is not a linear layer, or an argument makes no sense.
            AttributeError: If the original named none.
        """
        if type(num_classes) is not int or num_classes < 0:
            raise ValueError(f"reset_classifier: num_classes must be a whole number, got {num_classes!r}")
        if global_pool not in (None, getattr(getattr(self, "global_pool", None), "pool_type", None)):
            raise ValueError(
                f"reset_classifier: global_pool={global_pool!r} cannot be had, the pooling is part of the "
                "graph; create the original with it and convert that (forward_features gives the maps)"
            )
        old = self.get_classifier()
        in_features = self.timm.get("head_hidden_size") or self.timm.get("num_features")
        if isinstance(old, nn.Linear):
            in_features = old.in_features
        elif not (isinstance(old, nn.Identity) and in_features):
            raise ValueError(
                f"{type(self).__name__}: its classifier {self.classifier_name!r} is a {type(old).__name__}, "
                "not a linear layer; create the original with num_classes and convert that"
            )
        new: nn.Module = nn.Identity()
        if num_classes:
            new = nn.Linear(in_features, num_classes, getattr(old, "bias", True) is not None)
            new = new.to(next(self.parameters()))
        self.set_submodule(self.classifier_name, new)
        self.timm["num_classes"] = num_classes
        if is_dataclass(self.config):
            self.config = replace(self.config, num_classes=num_classes)  # type: ignore[type-var]

    def __getattr__(self, name: str) -> Any:
        timm = self.__dict__.get("timm", {})
        return timm[name] if name in timm else super().__getattr__(name)

    def forward_features(self, x: Tensor) -> Any:
        """The maps before pooling, as the original's `forward_features` gives them.

        Args:
            x: `(B, 3, H, W)`.
        """
        if not self.features_node:
            raise AttributeError(
                f"{type(self).__name__} has no forward_features: its original had none, or its branches are "
                "pooled apart"
            )
        return run_until(self, self.features_node, x)

    def no_weight_decay(self) -> set[str]:
        """Parameters that weight decay must leave alone, by name; timm's optimiser factory asks for them."""
        return no_weight_decay(self)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Not possible: checkpointing runs blocks of the original's own code again.

        Raises:
            ValueError: If `enable`.
        """
        if enable:
            raise ValueError(
                f"{type(self).__name__}: a converted network is one graph, whose blocks cannot be "
                "checkpointed. Train with a smaller batch, in bf16, or with beta < 1, which needs less memory"
            )


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
        The converted model, its modules in training or not as those of `model`, with a `report`.

    Raises:
        TypeError: If `model` is no module.
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
    options = {
        "mcs_mode": mcs_mode,
        "downsample": downsample,
        "shortcut": shortcut,
        "fuse_at": fuse_at,
        "init": init,
    }
    for name, allowed in CHOICES.items():
        if options[name] not in get_args(allowed):
            choices = ", ".join(map(repr, get_args(allowed)))
            raise ValueError(f"convert: {name} must be one of {choices}, got {options[name]!r}")
    if not isinstance(fuse_at, str | None):
        raise ValueError(f"convert: fuse_at must be the name of a module, got {fuse_at!r}")
    check_size(input_size, "convert")
    check_model(model, "convert")
    _check_vanilla(model)
    network = copied(model, "convert")
    _drop_hooks(network)
    traced = trace(network, input_size or _own_input_size(model))
    features = next((n for n in traced.graph.nodes if n.meta.get("features")), None)
    rewriting = Rewriting(traced, alpha, beta, mcs_mode, downsample, shortcut, fuse_at)
    rewriting.run()
    if alpha > 0:
        _check_reached(type(model).__name__, rewriting.layers)
    if init != "keep":
        _draw_weights(traced, init)
    converted = ConvertedModel(traced, traced.graph, type(model).__name__)
    keep_unused(converted, traced)
    made = dict(converted.named_modules())
    for name, module in model.named_modules():  # parents first: frozen norms may be in another mode
        if name in made:
            made[name].train(module.training)
    converted.report = ConversionReport(
        float(alpha), float(beta), tuple(rewriting.layers), tuple(rewriting.joined), options
    )
    converted.classifier_name = _classifier_of(model)
    converted.features_node = rewriting.name_of(features)
    converted.timm = {name: copy.deepcopy(getattr(model, name)) for name in _TIMM if hasattr(model, name)}
    converted.config = copy.deepcopy(getattr(model, "config", None))
    if alpha > 0 and fuse_at is None and converted.report.share < 0.5:
        warnings.warn(
            f"convert: only {converted.report.share:.0%} of the multiply-accumulates of "
            f"{type(model).__name__}'s convolutions run as SFIConv; print(model.report) says why",
            stacklevel=2,
        )
    return converted


def _check_vanilla(model: nn.Module) -> None:
    """Refuse what is converted already, and names that a converted model needs for itself."""
    way_out = "convert the original, from create_model or timm.create_model"
    if isinstance(model, ConvertedModel):
        raise ValueError(
            f"convert: {type(model).__name__} is converted already (alpha={model.report.alpha:g}, "
            f"beta={model.report.beta:g}); {way_out}"
        )
    if layer := next((name for name, module in model.named_modules() if isinstance(module, SFIConv2d)), ""):
        raise ValueError(f"convert: {type(model).__name__} holds SFIConv already ({layer}); {way_out}")
    for name in (*dict(model.named_children()), *model._parameters, *model._buffers):
        if hasattr(ConvertedModel, name) or name in _NEEDED:
            raise ValueError(f"convert: {type(model).__name__}.{name} needs another name, this one is taken")


def _drop_hooks(network: nn.Module) -> None:
    """Take the hooks off modules that the graph will not call, with a warning."""
    hooked = [n for n, m in network.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    for name in [n for n in hooked if any(True for _ in network.get_submodule(n).children())]:
        module = network.get_submodule(name)
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        if name:
            warnings.warn(
                f"convert: the hook on {name!r} is left out: a converted network calls its layers, not the "
                "modules that hold them. Put it on a layer of the converted model",
                stacklevel=3,
            )


def _draw_weights(network: nn.Module, init: Init) -> None:
    """Draw the kernels of all layers of SFIConv anew."""
    for layer in network.modules():
        if isinstance(layer, SFIConv2d):
            layer.reset_blocks() if init == "paper" else layer.reset_vanilla()


def _classifier_of(model: nn.Module) -> str:
    """Name of the classifier of a timm model; "" where there is none."""
    try:
        found = model.get_classifier()  # type: ignore[operator]
    except (AttributeError, TypeError):
        return ""
    return next((name for name, module in model.named_modules() if module is found), "")


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
