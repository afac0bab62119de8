"""`convert`: replace the vanilla convolutions of a backbone by SFIConv (paper, section III-A and Fig. 2)."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, fx, nn

from sficonv.nn.constrained import MCSMode
from sficonv.nn.sampling import resize
from sficonv.nn.sficonv import (
    Downsample, Ratio, SFIBatchNorm2d, SFIConv2d, SpaceFreq, check_ratio, frequency_channels, frequency_size,
)  # fmt: skip
from sficonv.nn.trace import module_of, shape, trace

Shortcut = Literal["own", "stage1"]
Init = Literal["keep", "vanilla", "paper"]

_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Identity,
)  # fmt: skip
_RESIZING = (nn.MaxPool2d, nn.AvgPool2d, nn.ZeroPad2d)
_CHANNELWISE = (*_ACTIVATIONS, *_RESIZING, nn.Dropout, nn.Dropout2d, DropPath)
_ELEMENTWISE_FUNCTIONS = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.hardtanh,
    F.dropout, F.dropout2d, torch.relu, torch.sigmoid, torch.tanh,
}  # fmt: skip
_RESIZING_FUNCTIONS = {F.max_pool2d, F.avg_pool2d, torch.max_pool2d}
_BINARY_FUNCTIONS = {operator.add, operator.iadd, operator.mul, operator.imul, operator.sub, torch.add, torch.mul}
_ELEMENTWISE_METHODS = {"relu", "relu_", "sigmoid", "tanh", "contiguous", "clone"}


@dataclass(frozen=True)
class LayerReport:
    """What became of one convolution: its name, its stage, the channels of its branches, and why."""

    layer: str
    stage: str
    spa_in: int
    fre_in: int
    spa_out: int
    fre_out: int
    note: str = ""


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` did, layer by layer; carried by the converted model as `model.report`."""

    alpha: float
    beta: float
    layers: tuple[LayerReport, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"SFIConv with alpha={self.alpha:g}, beta={self.beta:g}"]
        for r in self.layers:
            channels = f"{r.spa_in}+{r.fre_in} -> {r.spa_out}+{r.fre_out}"
            lines.append(f"{r.layer:40} {r.stage:10} {channels:22} {r.note}".rstrip())
        return "\n".join(lines)


class ConvertedModel(fx.GraphModule):
    """A converted backbone: same submodule names and state-dict keys, plus `report`."""

    report: ConversionReport
    config: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ConvertedModel:
        made = super().__deepcopy__(memo)
        made.report, made.config = self.report, copy.deepcopy(self.config)
        return made


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
    input_size: tuple[int, int, int] = (3, 256, 256),
) -> ConvertedModel:
    """Replace the body convolutions of a backbone by SFIConv.

    The first convolution (head) and everything after the fusion (tail) stay vanilla. The second
    convolution becomes Stage 1, the last one Stage 3, those in between Stage 2. Layers that treat channels
    one by one act on each branch; before anything else the branches are fused by upsampling and
    concatenation. Parameters keep their names and values, so pretrained weights survive: at beta = 1 with
    `mcs_mode="none"` the converted model computes what the original did.

    Args:
        model: Any traceable convolutional classifier; it is left as it is.
        alpha: Share of high-frequency channels, in [0, 1]; 0 replaces nothing but `downsample`.
        beta: Resolution of the high-frequency branch, in (0, 1].
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
        input_size: `(C, H, W)` used to work out shapes; the converted model takes other sizes too.

    Returns:
        The converted model, in the training mode of `model`, with a `report`.

    Raises:
        ValueError: Argument out of range, or a model that cannot be converted; the message names the
            argument, or the layer and the reason.

    Example:
        >>> import timm
        >>> sfic = convert(timm.create_model("resnet18", num_classes=2), alpha=0.5, beta=0.5)
        >>> sfic(torch.randn(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """
    check_ratio("alpha", alpha, where="convert")
    check_ratio("beta", beta, where="convert", zero=False)
    for name, value, allowed in (
        ("mcs_mode", mcs_mode, get_args(MCSMode)),
        ("downsample", downsample, get_args(Downsample)),
        ("shortcut", shortcut, get_args(Shortcut)),
        ("init", init, get_args(Init)),
    ):
        if value not in allowed:
            raise ValueError(f"convert: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    traced = trace(model, input_size)
    rewriting = _Rewriting(traced, alpha, beta, mcs_mode, downsample, shortcut, fuse_at)
    rewriting.run()
    if init != "keep":
        for layer in traced.modules():
            if isinstance(layer, SFIConv2d):
                layer.reset_blocks() if init == "paper" else _reset_vanilla(layer)
    converted = ConvertedModel(traced, traced.graph, type(model).__name__)
    converted.train(model.training)
    options = {"mcs_mode": mcs_mode, "downsample": downsample, "shortcut": shortcut, "fuse_at": fuse_at, "init": init}
    converted.report = ConversionReport(float(alpha), float(beta), tuple(rewriting.layers), options)
    converted.config = copy.deepcopy(getattr(model, "config", None))
    return converted


def _reset_vanilla(layer: SFIConv2d) -> None:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def match_frequency(fre: Tensor, spa: Tensor, beta: float) -> Tensor:
    """Bring `fre` to the size that belongs to `spa` where pooling of odd sides gave another one."""
    return resize(fre, (frequency_size(spa.shape[-2], beta), frequency_size(spa.shape[-1], beta)))


def fuse(spa: Tensor, fre: Tensor) -> Tensor:
    """Join two branches to one tensor `[spa | fre]` at the spatial branch's resolution."""
    return torch.cat((spa, resize(fre, (spa.shape[-2], spa.shape[-1]))), 1)


def split_plain(x: Tensor, fre_channels: int, beta: float) -> SpaceFreq:
    """Split a tensor `[spa | fre]` by channels and bring the high-frequency part to its resolution."""
    spa, fre = x[:, : x.shape[1] - fre_channels], x[:, x.shape[1] - fre_channels :]
    return SpaceFreq(spa, match_frequency(fre, x, beta))


@dataclass
class _Pair:
    """The two branches of a value, as graph nodes (one and the same node at beta = 1)."""

    spa: fx.Node
    fre: fx.Node
    fre_channels: int


class _Rewriting:
    """One walk over the graph, knowing of each value whether it is plain or a pair of branches."""

    def __init__(
        self,
        traced: fx.GraphModule,
        alpha: Ratio,
        beta: Ratio,
        mcs_mode: MCSMode,
        downsample: Downsample,
        shortcut: Shortcut,
        fuse_at: str | None,
    ) -> None:
        self.traced, self.graph = traced, traced.graph
        self.alpha, self.beta, self.mcs_mode, self.downsample = alpha, beta, mcs_mode, downsample
        self.shortcut = shortcut
        self.pairs: dict[fx.Node, _Pair] = {}
        self.fused: set[fx.Node] = set()  # plain values that come after a fusion
        self.layers: list[LayerReport] = []
        self.stage1: fx.Node | None = None
        self.stage1_source: fx.Node | None = None
        self.convs = [n for n in self.graph.nodes if isinstance(module_of(traced, n), nn.Conv2d)]
        if len(self.convs) < 3:
            raise ValueError(
                f"convert: {type(traced).__name__} has {len(self.convs)} convolutions; a head, a Stage 1 and a Stage 3 need 3"
            )
        self.fusing = self._fusing(fuse_at)

    # -- planning ---------------------------------------------------------------------------------

    def _fusing(self, fuse_at: str | None) -> set[fx.Node]:
        """The convolutions that become Stage 3: those of the scope with no other one of it behind them."""
        if fuse_at is None:
            return {[n for n in self.convs if not self._is_pooled(n)][-1]}
        scope = [n for n in self.convs if str(n.target) == fuse_at or str(n.target).startswith(fuse_at + ".")]
        if not scope:
            raise ValueError(f"convert: fuse_at={fuse_at!r} names no module with convolutions")
        return {n for n in scope if not any(self._reaches(n, other, set(scope)) for other in scope if other is not n)}

    @staticmethod
    def _reaches(start: fx.Node, goal: fx.Node, scope: set[fx.Node]) -> bool:
        seen, waiting = set(), [start]
        while waiting:
            node = waiting.pop()
            if node is goal:
                return True
            if node not in seen:
                seen.add(node)
                waiting.extend(node.users)
        return False

    def _is_pooled(self, node: fx.Node) -> bool:
        size = shape(node.args[0])  # type: ignore[arg-type]
        return size is None or tuple(size[-2:]) == (1, 1)

    # -- rewriting --------------------------------------------------------------------------------

    def run(self) -> None:
        for node in list(self.graph.nodes):
            if node.op in ("placeholder", "get_attr"):
                continue
            if node in self.convs:
                self._convolution(node)
            elif any(n in self.fused for n in node.all_input_nodes) and not self._has_pair(node):
                self.fused.add(node)
            elif self._has_pair(node):
                self._between(node)
        self.graph.eliminate_dead_code()
        self.graph.lint()
        self.traced.recompile()

    def _has_pair(self, node: fx.Node) -> bool:
        return any(n in self.pairs for n in node.all_input_nodes)

    def _convolution(self, node: fx.Node) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if node is self.convs[0]:
            return self._keep(node, "head")
        if self._is_pooled(node):
            return self._keep(node, "vanilla", "reads a pooled value")
        pair = self.pairs.get(source)
        if pair is None and source in self.fused:
            return self._keep(node, "vanilla", "after the fusion")
        if self.alpha == 0:
            return self._replace(node, None, 0, fused=False)
        if pair is None and self.shortcut == "stage1" and source is self.stage1_source:
            pair = self._activated_stage1(source)
        fusing = node in self.fusing
        if pair is None:
            if fusing:
                return self._keep(node, "vanilla", "Stage 3 without branches to fuse")
            if self.stage1 is None:
                self.stage1, self.stage1_source = node, source
        self._replace(node, pair, 0 if fusing else None, fused=fusing)
        return None

    def _activated_stage1(self, source: fx.Node) -> _Pair | None:
        """Stage 1's pair behind its normalisation and activation, if it has `source`'s channels."""
        assert self.stage1 is not None
        node = self.stage1
        while len(node.users) == 1:
            (user,) = node.users
            if user in self.convs or user not in self.pairs or not isinstance(module_of(self.traced, user), nn.Module):
                break
            node = user
        found, wanted = shape(node), shape(source)
        return self.pairs[node] if found is not None and wanted is not None and found[1] == wanted[1] else None

    def _replace(self, node: fx.Node, pair: _Pair | None, fre_out: int | None, *, fused: bool) -> None:
        """Put an SFIConv2d in the place of a convolution; its alpha is what its input really carries."""
        conv = module_of(self.traced, node)
        assert isinstance(conv, nn.Conv2d)
        fre_in = pair.fre_channels if pair else 0
        if fre_out is None:
            fre_out = frequency_channels(conv.out_channels, self.alpha)
            if conv.groups > 1 and pair:  # a grouped convolution keeps to its branch
                fre_out = fre_in * conv.out_channels // conv.in_channels
        beta = self.beta if (fre_in or fre_out) else 1.0
        layer = SFIConv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,  # type: ignore[arg-type]
            conv.dilation, conv.groups, conv.bias is not None,  # type: ignore[arg-type]
            alpha_in=Fraction(fre_in, conv.in_channels), alpha_out=Fraction(fre_out, conv.out_channels), beta=beta,
            mcs_mode=self.mcs_mode, downsample=self.downsample, name=str(node.target),
        )  # fmt: skip
        layer.weight, layer.bias = conv.weight, conv.bias
        layer.to(conv.weight.device, conv.weight.dtype).train(conv.training)
        self.traced.set_submodule(str(node.target), layer)
        names = {None: "vanilla", 1: "Stage 1", 2: "Stage 2", 3: "Stage 3"}
        self._report(node, layer, names[layer.stage])
        if pair is not None:
            node.args = (pair.spa if self.beta == 1 else SpaceFreq(pair.spa, pair.fre), *node.args[1:])  # type: ignore[assignment]
        if layer.fre_out:
            self.pairs[node] = self._pair_of(node, layer.fre_out)
        elif fused:
            self.fused.add(node)

    def _pair_of(self, node: fx.Node, fre_channels: int) -> _Pair:
        if self.beta == 1:
            return _Pair(node, node, fre_channels)
        with self.graph.inserting_after(node):
            spa = self.graph.call_function(operator.getitem, (node, 0))
        with self.graph.inserting_after(spa):
            fre = self.graph.call_function(operator.getitem, (node, 1))
        return _Pair(spa, fre, fre_channels)

    def _keep(self, node: fx.Node, stage: str, note: str = "") -> None:
        self._fuse_inputs(node)
        conv = module_of(self.traced, node)
        assert isinstance(conv, nn.Conv2d)
        self.layers.append(LayerReport(str(node.target), stage, conv.in_channels, 0, conv.out_channels, 0, note))
        if stage != "head":
            self.fused.add(node)

    def _report(self, node: fx.Node, layer: SFIConv2d, stage: str) -> None:
        self.layers.append(
            LayerReport(str(node.target), stage, layer.spa_in, layer.fre_in, layer.spa_out, layer.fre_out)
        )

    # -- what stands between convolutions -----------------------------------------------------------

    def _between(self, node: fx.Node) -> None:
        inputs = node.all_input_nodes
        module = module_of(self.traced, node)
        if any(n in self.fused for n in inputs):  # a shortcut meets the fused main path
            self._fuse_inputs(node)
            self.fused.add(node)
        elif self.beta == 1:
            size = shape(node)
            if size is not None and len(size) == 4 and tuple(size[-2:]) != (1, 1):
                fre = sum(self.pairs[n].fre_channels for n in inputs if n in self.pairs) if self._is_cat(node) else None
                same = max(self.pairs[n].fre_channels for n in inputs if n in self.pairs)
                self.pairs[node] = _Pair(node, node, fre if fre is not None else same)
            else:
                self.fused.add(node)
        elif isinstance(module, nn.BatchNorm2d):
            self._normalise(node, module)
        elif isinstance(module, _CHANNELWISE) or self._is_elementwise(node):
            self._branchwise(node, resizing=isinstance(module, _RESIZING) or node.target in _RESIZING_FUNCTIONS)
        elif node.op == "call_function" and node.target in _BINARY_FUNCTIONS:
            self._binary(node)
        else:
            self._fuse_inputs(node)
            self.fused.add(node)

    @staticmethod
    def _is_cat(node: fx.Node) -> bool:
        return node.target in (torch.cat, torch.concat)

    @staticmethod
    def _is_elementwise(node: fx.Node) -> bool:
        if node.op == "call_method":
            return node.target in _ELEMENTWISE_METHODS
        return node.target in _ELEMENTWISE_FUNCTIONS or node.target in _RESIZING_FUNCTIONS

    def _normalise(self, node: fx.Node, norm: nn.BatchNorm2d) -> None:
        pair = self.pairs[node.all_input_nodes[0]]
        self.traced.set_submodule(str(node.target), SFIBatchNorm2d.from_norm(norm, pair.fre_channels))
        node.args = (SpaceFreq(pair.spa, pair.fre), *node.args[1:])  # type: ignore[assignment]
        self.pairs[node] = self._pair_of(node, pair.fre_channels)

    def _branchwise(self, node: fx.Node, *, resizing: bool) -> None:
        pair = self.pairs[node.all_input_nodes[0]]
        spa, fre = (self._copy(node, lambda n, to=branch: to if n in self.pairs else n) for branch in (pair.spa, pair.fre))
        if resizing:
            with self.graph.inserting_before(node):
                fre = self.graph.call_function(match_frequency, (fre, spa, float(self.beta)))
        self.pairs[node] = _Pair(spa, fre, pair.fre_channels)

    def _binary(self, node: fx.Node) -> None:
        count = max(self.pairs[n].fre_channels for n in node.all_input_nodes if n in self.pairs)
        branches = {n: self.pairs.get(n) or self._split(node, n, count) for n in node.all_input_nodes}
        if any(pair.fre_channels != count for pair in branches.values()):
            raise ValueError(f"convert: {node.name} joins values whose branches have different channel counts")
        spa = self._copy(node, lambda n: branches[n].spa)
        fre = self._copy(node, lambda n: branches[n].fre)
        self.pairs[node] = _Pair(spa, fre, count)

    def _split(self, before: fx.Node, plain: fx.Node, fre_channels: int) -> _Pair:
        with self.graph.inserting_before(before):
            pair = self.graph.call_function(split_plain, (plain, fre_channels, float(self.beta)))
            spa = self.graph.call_function(operator.getitem, (pair, 0))
            fre = self.graph.call_function(operator.getitem, (pair, 1))
        return _Pair(spa, fre, fre_channels)

    def _copy(self, node: fx.Node, replace: Callable[[fx.Node], fx.Node]) -> fx.Node:
        with self.graph.inserting_before(node):
            return self.graph.node_copy(node, replace)

    def _fuse_inputs(self, node: fx.Node) -> None:
        if self.beta == 1:
            return
        for source in node.all_input_nodes:
            if pair := self.pairs.get(source):
                with self.graph.inserting_before(node):
                    fused = self.graph.call_function(fuse, (pair.spa, pair.fre))
                node.replace_input_with(source, fused)
