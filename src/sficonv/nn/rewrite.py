"""The graph rewriting behind `convert`: which convolution becomes which stage, and what stands in between."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import fx, nn

from sficonv.nn.branches import at_least, fuse, match_frequency, no_channels, one_channel, split_plain
from sficonv.nn.constrained import MCSMode
from sficonv.nn.report import LayerReport
from sficonv.nn.sficonv import Downsample, Ratio, SFIBatchNorm2d, SFIConv2d, SpaceFreq, frequency_channels
from sficonv.nn.trace import module_of, shape

Shortcut = Literal["own", "stage1"]

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
_BINARY_FUNCTIONS = {
    operator.add,
    operator.iadd,
    operator.mul,
    operator.imul,
    operator.sub,
    torch.add,
    torch.mul,
}
_ELEMENTWISE_METHODS = {"relu", "relu_", "sigmoid", "tanh", "contiguous", "clone"}


_POOLED = "reads a pooled value"


@dataclass
class _Pair:
    """The two branches of a value, as graph nodes (one and the same node at beta = 1)."""

    spa: fx.Node
    fre: fx.Node
    fre_channels: int


class Rewriting:
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
        self.stage1_source: fx.Node | None = None
        self.stage1_end: fx.Node | None = None  # Stage 1 after its normalisation and activation
        self.convs = [n for n in self.graph.nodes if isinstance(module_of(traced, n), nn.Conv2d)]
        if len(self.convs) < 3:
            raise ValueError(
                f"convert: {type(traced).__name__} has {len(self.convs)} convolutions; "
                "a head, a Stage 1 and a Stage 3 need 3"
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
        return {n for n in scope if not any(self._reaches(n, other) for other in scope if other is not n)}

    @staticmethod
    def _reaches(start: fx.Node, goal: fx.Node) -> bool:
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
        return size is None or self._is_point(size)

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
        self._check_reached()
        self.graph.eliminate_dead_code()
        self.graph.lint()
        self.traced.recompile()

    def _check_reached(self) -> None:
        """Refuse a network whose branches end before Stage 3: most of it would silently stay vanilla."""
        generated = any(r.stage == "Stage 1" for r in self.layers)
        if generated and not any(r.stage == "Stage 3" for r in self.layers):
            first = next(
                (r.layer for r in self.layers if r.note and r.note != _POOLED), "the last convolution"
            )
            raise ValueError(
                f"convert: the branches end before Stage 3: an operation before {first} needs both of them "
                "together (a gate over pooled channels, attention, a concatenation below beta = 1, ...)"
            )

    def _has_pair(self, node: fx.Node) -> bool:
        return any(n in self.pairs for n in node.all_input_nodes)

    def _convolution(self, node: fx.Node) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        if node is self.convs[0]:
            return self._keep(node, "head")
        if self._is_pooled(node):
            return self._keep(node, "vanilla", _POOLED)
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
            if self.stage1_source is None:
                self.stage1_source, self.stage1_end = source, self._block_end(node)
        self._replace(node, pair, 0 if fusing else None, fused=fusing)
        return None

    def _block_end(self, node: fx.Node) -> fx.Node:
        """The last of the modules that follow a convolution one by one, before the next convolution."""
        while len(node.users) == 1:
            (user,) = node.users
            if user.op != "call_module" or user in self.convs:
                break
            node = user
        return node

    def _activated_stage1(self, source: fx.Node) -> _Pair | None:
        """Stage 1's pair behind its normalisation and activation, if it has `source`'s channels."""
        assert self.stage1_end is not None
        found, wanted = shape(self.stage1_end), shape(source)
        same = found is not None and wanted is not None and found[1] == wanted[1]
        return self.pairs.get(self.stage1_end) if same else None

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
            alpha_in=Fraction(fre_in, conv.in_channels), alpha_out=Fraction(fre_out, conv.out_channels),
            beta=beta,
            mcs_mode=self.mcs_mode, downsample=self.downsample, name=str(node.target),
        )  # fmt: skip
        layer.weight, layer.bias = conv.weight, conv.bias
        layer.to(conv.weight.device, conv.weight.dtype).train(conv.training)
        self.traced.set_submodule(str(node.target), layer)
        names = {None: "vanilla", 1: "Stage 1", 2: "Stage 2", 3: "Stage 3"}
        self._report(node, layer, names[layer.stage])
        if pair is not None:
            node.args = (pair.spa if self.beta == 1 else SpaceFreq(pair.spa, pair.fre), *node.args[1:])  # type: ignore[arg-type]
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
        self.layers.append(
            LayerReport(str(node.target), stage, conv.in_channels, 0, conv.out_channels, 0, note)
        )
        if stage != "head":
            self._mark_fused(node)

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
            self._mark_fused(node)
        elif self.beta == 1:
            self._carry_on(node)
        elif isinstance(module, nn.BatchNorm2d):
            self._normalise(node, module)
        elif isinstance(module, _CHANNELWISE) or self._is_elementwise(node):
            self._branchwise(
                node, resizing=isinstance(module, _RESIZING) or node.target in _RESIZING_FUNCTIONS
            )
        elif node.op == "call_function" and node.target in _BINARY_FUNCTIONS:
            self._binary(node)
        else:
            self._fuse_inputs(node)
            self._mark_fused(node)

    def _carry_on(self, node: fx.Node) -> None:
        """At beta = 1 the branches are one tensor: whatever keeps it a feature map keeps them too."""
        size = shape(node)
        if size is None or len(size) != 4 or self._is_point(size):
            self._mark_fused(node)
            return
        counts = [self.pairs[n].fre_channels for n in node.all_input_nodes if n in self.pairs]
        self.pairs[node] = _Pair(node, node, sum(counts) if self._is_cat(node) else max(counts))

    def _mark_fused(self, node: fx.Node) -> None:
        """Note that a value comes after the fusion; the vector of a gate, pooled to 1 x 1, does not count."""
        if not self._is_point(shape(node)):
            self.fused.add(node)

    @staticmethod
    def _is_point(size: torch.Size | None) -> bool:
        return size is not None and len(size) == 4 and tuple(size[-2:]) == (1, 1)

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
        node.args = (SpaceFreq(pair.spa, pair.fre), *node.args[1:])  # type: ignore[arg-type]
        self.pairs[node] = self._pair_of(node, pair.fre_channels)

    def _branchwise(self, node: fx.Node, *, resizing: bool) -> None:
        source = node.all_input_nodes[0]
        pair = self.pairs[source]
        if resizing:
            self.pairs[node] = self._resized(node, source, pair)
            return
        spa, fre = (self._copy(node, {source: branch}) for branch in (pair.spa, pair.fre))
        self.pairs[node] = _Pair(spa, fre, pair.fre_channels)

    def _resized(self, node: fx.Node, source: fx.Node, pair: _Pair) -> _Pair:
        """Pool both branches; `fre` may be smaller than the window, and either may have no channels."""
        size = shape(node)
        assert size is not None
        without_spa = pair.fre_channels == size[1]
        with self.graph.inserting_before(node):
            spa_in = self.graph.call_function(one_channel, (pair.spa,)) if without_spa else pair.spa
            fre_in = self.graph.call_function(at_least, (pair.fre, *self._window(node)))
        spa, fre = self._copy(node, {source: spa_in}), self._copy(node, {source: fre_in})
        with self.graph.inserting_before(node):
            spa = self.graph.call_function(no_channels, (spa,)) if without_spa else spa
            fre = self.graph.call_function(match_frequency, (fre, spa, float(self.beta)))
        return _Pair(spa, fre, pair.fre_channels)

    def _window(self, node: fx.Node) -> tuple[int, int]:
        module = module_of(self.traced, node)
        given: Any = (
            getattr(module, "kernel_size", 1) if module else node.kwargs.get("kernel_size", node.args[1])
        )
        return (given, given) if isinstance(given, int) else (given[0], given[1])

    def _binary(self, node: fx.Node) -> None:
        count = max(self.pairs[n].fre_channels for n in node.all_input_nodes if n in self.pairs)
        sizes = {size[1] for n in node.all_input_nodes if (size := shape(n)) is not None and len(size) == 4}
        if len(sizes) > 1:  # a map that is spread over the channels does not know of branches
            self._fuse_inputs(node)
            self._mark_fused(node)
            return
        branches = {n: self.pairs.get(n) or self._split(node, n, count) for n in node.all_input_nodes}
        if any(pair.fre_channels != count for pair in branches.values()):
            raise ValueError(
                f"convert: {node.name} joins values whose branches have different channel counts"
            )
        spa = self._copy(node, {n: pair.spa for n, pair in branches.items()})
        fre = self._copy(node, {n: pair.fre for n, pair in branches.items()})
        self.pairs[node] = _Pair(spa, fre, count)

    def _split(self, before: fx.Node, plain: fx.Node, fre_channels: int) -> _Pair:
        with self.graph.inserting_before(before):
            pair = self.graph.call_function(split_plain, (plain, fre_channels, float(self.beta)))
            spa = self.graph.call_function(operator.getitem, (pair, 0))
            fre = self.graph.call_function(operator.getitem, (pair, 1))
        return _Pair(spa, fre, fre_channels)

    def _copy(self, node: fx.Node, inputs: dict[fx.Node, fx.Node]) -> fx.Node:
        with self.graph.inserting_before(node):
            return self.graph.node_copy(node, lambda n: inputs.get(n, n))

    def _fuse_inputs(self, node: fx.Node) -> None:
        if self.beta == 1:
            return
        for source in node.all_input_nodes:
            if pair := self.pairs.get(source):
                with self.graph.inserting_before(node):
                    fused = self.graph.call_function(fuse, (pair.spa, pair.fre))
                node.replace_input_with(source, fused)
