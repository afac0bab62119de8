"""`fold`: what a trained model needs to judge, and nothing that only training needs."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from timm.layers import BatchNormAct2d, DropPath
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, fx, nn
from torchvision.ops import StochasticDepth

from sficonv.conversion.accepted import check_model, check_size, copied
from sficonv.conversion.graph import PortableGraphModule
from sficonv.conversion.layers import DerivedSFIConv2d, ScatteredBatchNorm2d
from sficonv.conversion.trace import module_of, trace
from sficonv.nn.constrained import MCSConv
from sficonv.nn.execution import Parts, split_kernel
from sficonv.nn.norm import SFIBatchNorm2d
from sficonv.nn.sficonv import SFIConv2d, SpaceFreq

T = TypeVar("T", bound=SFIConv2d)

# Exactly these types: a subclass may read its weight in another way (standardised, for example).
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame, SFIConv2d)
_NORMS = (nn.BatchNorm2d, BatchNormAct2d, SFIBatchNorm2d, ScatteredBatchNorm2d)
_TRAINING_ONLY = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, DropPath, StochasticDepth)


@dataclass(frozen=True)
class FoldReport:
    """What `fold` did.

    Args:
        norms: Batch normalisations that went into the convolution before them.
        norms_kept: Names of those that could not, because no single convolution feeds only them.
        mcs: MCSConvs whose kernels became constants.
        dropped: Drop-out, drop-path and identity layers that were removed.
    """

    norms: int
    norms_kept: tuple[str, ...]
    mcs: int
    dropped: int


class FoldedModel(PortableGraphModule):
    """A model for inference: a graph without training layers, its `config`, and `folding`, the report."""

    folding: FoldReport
    config: Any = None


class _Branchwise(nn.Module):
    """The activation of a norm layer that was folded away, on a tensor or on both branches."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor | SpaceFreq) -> Tensor | SpaceFreq:
        if isinstance(x, Tensor):
            return self.inner(x)
        return SpaceFreq(self.inner(x.spa), self.inner(x.fre))


def fold(model: nn.Module, *, input_size: tuple[int, int, int] | None = None) -> FoldedModel:
    """Make a copy of a model for inference: the same outputs to float error, fewer operations.

    A batch normalisation (also one of both branches, also timm's with an activation, which is kept) goes
    into the convolution before it where that convolution feeds nothing else. MCSConv's projected kernels, and
    kernels that are standardised or reordered in every forward pass, become constants; the kernel of a layer
    that reads two branches is stored in the parts that its convolutions read. Drop-out, drop-path and
    identities are removed, and no parameter asks for a gradient. What cannot be folded stays as it is and is
    named in the report.

    MCSConv stays a depthwise convolution of its own. Merged with the layer's k x k rows it would be a dense
    (k + 4) x (k + 4) kernel: for k > 1 not the same at the borders, where the trace maps are padded with
    zeros, and for k = 1 many times the operations.

    Args:
        model: A model from `convert` or `create_model`, or any that `torch.fx` can trace; left as it is.
        input_size: `(C, H, W)` to trace with, where `model` is not traced yet; by default 3 channels of the
            size in its `config`, else 256 x 256.

    Returns:
        The copy, in eval mode, with `folding` (a `FoldReport`) and the `config` of `model`.

    Raises:
        TypeError: If `model` is no module.
        ValueError: If the model cannot be traced.

    Example:
        >>> import timm
        >>> folded = fold(timm.create_model("resnet18", num_classes=2))
        >>> folded.folding.norms, folded.folding.norms_kept
        (20, ())
    """
    check_model(model, "fold")
    check_size(input_size, "fold")
    config = getattr(model, "config", None)
    side = int(getattr(config, "image_size", 256))
    network = copied(model, "fold").eval()
    traced = network if isinstance(network, fx.GraphModule) else trace(network, input_size or (3, side, side))
    for name, layer in list(traced.named_modules()):
        if isinstance(layer, DerivedSFIConv2d):
            traced.set_submodule(name, _with_constant_kernel(layer))
    dropped = _drop_training_layers(traced)
    norms, kept = _fold_norms(traced)
    mcs = [layer for layer in traced.modules() if isinstance(layer, MCSConv)]
    for layer in mcs:
        layer.weight, layer.mode = nn.Parameter(layer.kernel().detach()), "fixed"
    for name, conv in list(traced.named_modules()):
        if isinstance(conv, SFIConv2d):
            traced.set_submodule(name, stored_in_parts(conv))
    traced.graph.eliminate_dead_code()
    traced.graph.lint()
    folded = FoldedModel(traced, traced.graph, f"Folded{type(model).__name__}")
    folded.folding = FoldReport(norms, kept, len(mcs), dropped)
    folded.config = copy.deepcopy(config)
    return folded.eval().requires_grad_(False)


class InferenceSFIConv2d(SFIConv2d):
    """An SFIConv at beta < 1 that stores its kernel in the parts that its convolutions read.

    `SFIConv2d` cuts its one kernel at every call, and the convolutions copy what is not contiguous.
    """

    def store(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take over a kernel `(C_out, C_in, k, k)` in the order `[spa | fre]`.

        Its parts get the format that the convolutions want. In Stage 3 they keep that of the kernel: it tells
        the layer what the network's is.
        """
        network = torch.contiguous_format if weight.is_contiguous() else torch.channels_last
        parts = split_kernel(weight, bias, self.out_rows, (self.spa_in, self.fre_in), self.geometry)
        del self.weight, self.bias
        self.form = type(parts)
        for name, part in parts._asdict().items():
            kept = None if part is None else part.clone()
            if kept is not None and kept.ndim == 4 and self.stage == 3:
                kept = kept.contiguous(memory_format=network)
            self.register_parameter(name, None if kept is None else nn.Parameter(kept))

    @property
    def stored(self) -> Tensor:
        return next(p for p in self.parameters() if p.ndim == 4 and p.numel())

    def parts(self) -> Parts:
        return self.form(*(getattr(self, name) for name in self.form._fields))


def _like(layer: SFIConv2d, made: type[T]) -> T:
    """A layer of another class, with the geometry, the branches and the MCSConv of `layer`."""
    new = made(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,  # type: ignore[arg-type]
        layer.dilation, layer.groups, layer.bias is not None,  # type: ignore[arg-type]
        alpha_in=layer.alpha_in, alpha_out=layer.alpha_out, beta=layer.beta, mcs_mode="none",
        downsample=layer.downsample, name=layer.name,
    )  # fmt: skip
    new.mcs = layer.mcs
    return new.eval()


@torch.no_grad()
def _with_constant_kernel(layer: DerivedSFIConv2d) -> SFIConv2d:
    """The same layer with the kernel that it derives; its channels are then in the order `[spa | fre]`."""
    made = _like(layer, SFIConv2d)
    weight, bias = layer.kernel()
    made.weight = nn.Parameter(weight.clone())
    made.bias = None if bias is None else nn.Parameter(bias.clone())
    return made


@torch.no_grad()
def stored_in_parts(layer: SFIConv2d) -> SFIConv2d:
    """The same layer with its kernel in two parts, where it reads two branches."""
    if type(layer) is not SFIConv2d or layer.beta == 1 or layer.stage not in (2, 3) or layer.groups > 1:
        return layer
    made = _like(layer, InferenceSFIConv2d)
    made.store(layer.weight, layer.bias)
    return made


def _drop_training_layers(traced: fx.GraphModule) -> int:
    nodes = [n for n in traced.graph.nodes if type(module_of(traced, n)) in _TRAINING_ONLY]
    for node in nodes:
        node.replace_all_uses_with(node.all_input_nodes[0])
        traced.graph.erase_node(node)
    return len(nodes)


def _fold_norms(traced: fx.GraphModule) -> tuple[int, tuple[str, ...]]:
    """Fold every norm that can be; how many those are, and the names of the others."""
    calls = Counter(str(n.target) for n in traced.graph.nodes if n.op == "call_module")
    done, kept = 0, []
    for node in list(traced.graph.nodes):
        norm = module_of(traced, node)
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        source = _only_source(node)
        conv = module_of(traced, source) if source else None
        called_once = source is not None and calls[str(node.target)] == calls[str(source.target)] == 1
        if not (called_once and _can_fold(conv, norm)):
            kept.append(str(node.target))
            continue
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        _fold_into(conv, norm)
        _replace_norm(traced, node, norm)
        done += 1
    return done, tuple(kept)


def _can_fold(conv: nn.Module | None, norm: nn.Module) -> bool:
    """Whether both compute from their parameters alone: no hooks, no batch statistics, no unknown type."""
    if type(conv) not in _CONVOLUTIONS or type(norm) not in _NORMS or norm.running_var is None:
        return False
    return not any(m._forward_hooks or m._forward_pre_hooks for m in (conv, norm))  # type: ignore[union-attr]


def _only_source(node: fx.Node) -> fx.Node | None:
    """The node whose value, a tensor or both branches, is read by this one alone; else None."""
    given = node.args[0]
    branches = given if isinstance(given, tuple) else (given,)
    if any(not isinstance(b, fx.Node) or set(b.users) != {node} for b in branches):
        return None
    if isinstance(given, fx.Node):
        return given
    parts = [b for b in branches if isinstance(b, fx.Node)]
    if any(b.target is not operator.getitem or b.args[1] != i for i, b in enumerate(parts)):
        return None
    source, *others = {b.args[0] for b in parts}
    alone = isinstance(source, fx.Node) and not others and set(source.users) == set(parts)
    return source if alone else None  # type: ignore[return-value]


@torch.no_grad()
def _fold_into(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Scale the rows of the kernel and shift the bias, in double precision."""
    order = norm.order if isinstance(norm, ScatteredBatchNorm2d) else slice(None)
    mean, var, weight, shift = (
        None if t is None else t[order].double()
        for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    assert mean is not None and var is not None
    scale = (var + norm.eps).rsqrt() * (1.0 if weight is None else weight)
    bias = ((0.0 if conv.bias is None else conv.bias.double()) - mean) * scale
    if shift is not None:
        bias = bias + shift
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).to(dtype))
    conv.bias = nn.Parameter(bias.to(dtype))


def _replace_norm(traced: fx.GraphModule, node: fx.Node, norm: nn.BatchNorm2d) -> None:
    """Leave the activation of a folded norm in its place, or nothing."""
    fused = norm.after if isinstance(norm, SFIBatchNorm2d) else [getattr(norm, "act", nn.Identity())]
    after = [m for m in fused if type(m) not in _TRAINING_ONLY]
    given = node.args[0]
    parts = all(user.target is operator.getitem for user in node.users)
    if after or not (isinstance(given, fx.Node) or parts):
        traced.set_submodule(str(node.target), _Branchwise(nn.Sequential(*after)))
        return
    if isinstance(given, fx.Node):
        node.replace_all_uses_with(given)
    else:
        assert isinstance(given, tuple)
        for user in list(node.users):
            user.replace_all_uses_with(given[user.args[1]])  # type: ignore[index,arg-type]
            traced.graph.erase_node(user)
    traced.graph.erase_node(node)
