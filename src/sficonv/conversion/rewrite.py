"""The graph rewriting behind `convert`: which convolution becomes which stage, and what lies in between."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import fx, nn

from sficonv.conversion.layers import make_layer, padding_of
from sficonv.conversion.layout import Layout
from sficonv.conversion.operations import Kind, kind_of
from sficonv.conversion.plan import Plan, is_point
from sficonv.conversion.report import LayerReport
from sficonv.conversion.trace import carries_map, module_of, shape
from sficonv.conversion.writer import Pair, PairWriter
from sficonv.nn.constrained import MCSMode
from sficonv.nn.sficonv import Downsample, Ratio, SFIConv2d, SpaceFreq, frequency_channels

Shortcut = Literal["own", "stage1"]

_STAGES = {None: "vanilla", 1: "Stage 1", 2: "Stage 2", 3: "Stage 3"}


class Rewriting:
    """One walk over the graph, knowing of each value whether it is plain or a pair of branches.

    A plain value may come before the branches (the next convolution generates them), between them (an
    operation needed all channels together: the next convolution splits it again), or behind Stage 3 (`tail`).
    """

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
        self.plan = Plan(traced, fuse_at)
        self.write = PairWriter(traced, self.beta)
        self.pairs: dict[fx.Node, Pair] = {}
        self.between: set[fx.Node] = set()
        self.tail: set[fx.Node] = set()
        self.layers: list[LayerReport] = []
        self.joined: list[str] = []
        self.stage1_source: fx.Node | None = None
        self.stage1_end: fx.Node | None = None  # Stage 1 after its normalisation and activation

    def run(self) -> None:
        """Rewrite the graph in place."""
        for node in list(self.graph.nodes):
            if node in self.plan.convs:
                self._convolution(node)
            elif any(n in self.pairs for n in node.all_input_nodes):
                self._operation(node)
            else:
                self._mark(node)
        for name, macs in self.plan.hidden().items():
            layer = self.traced.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            note = "inside a module that cannot be traced"
            self.layers.append(
                LayerReport(name, "vanilla", layer.in_channels, 0, layer.out_channels, 0, macs, note)
            )
        self.graph.eliminate_dead_code()
        self.graph.lint()
        self.traced.recompile()

    def name_of(self, node: fx.Node | None) -> str:
        """Name of the node that has the value of `node` now; "" where none has it whole."""
        if node in self.pairs and self.beta != 1:
            node = self.write.fused(self.pairs[node])
        return node.name if node in set(self.graph.nodes) else ""  # type: ignore[union-attr]

    # -- convolutions -------------------------------------------------------------------------------

    def _convolution(self, node: fx.Node) -> None:
        source = node.all_input_nodes[0]
        if node in self.plan.head:
            return self._keep(node, "head")
        if note := self.plan.why_kept(node):
            return self._keep(node, "vanilla", note)
        if source in self.tail:
            return self._keep(node, "vanilla", "after the fusion")
        if self.alpha == 0:
            return self._replace(node, None, 0)
        pair = self.pairs.get(source)
        if pair is None and self.shortcut == "stage1" and source is self.stage1_source:
            pair = self._activated_stage1(source)
        if pair is None and source in self.between:
            return self._enter_again(node, source)
        if pair is None:
            return self._generate(node, source)
        return self._interact(node, pair)

    def _generate(self, node: fx.Node, source: fx.Node) -> None:
        conv = self.plan.convs[node]
        fre_out = Layout.of_alpha(conv.out_channels, self.alpha, conv.groups).fre_channels
        if node in self.plan.fusing:
            return self._keep(node, "vanilla", "Stage 3 without branches to fuse")
        if not fre_out:
            return self._keep(node, "vanilla", "alpha leaves it no high-frequency channel")
        if self.stage1_source is None:
            self.stage1_source, self.stage1_end = source, self._block_end(node)
        return self._replace(node, None, fre_out)

    def _enter_again(self, node: fx.Node, source: fx.Node) -> None:
        """Split a value that an operation needed whole; its last channels are high-frequency again."""
        conv = self.plan.convs[node]
        layout = Layout.of_alpha(conv.in_channels, self.alpha, conv.groups)
        fre_out = Layout.of_alpha(conv.out_channels, self.alpha, conv.groups).fre_channels
        if not (layout.fre_channels and fre_out):
            return self._keep(node, "vanilla", "too few channels to split")
        pair = Pair(source, source, layout)
        if self.beta != 1:
            pair = self.write.split(node, source, layout)
        return self._interact(node, pair)

    def _interact(self, node: fx.Node, pair: Pair) -> None:
        conv = self.plan.convs[node]
        if conv.groups == 1:
            fre_out = 0 if node in self.plan.fusing else frequency_channels(conv.out_channels, self.alpha)
            return self._replace(node, pair, fre_out)
        groups = pair.layout.of_groups(conv.groups)  # a grouped convolution keeps to its branch
        if not any(groups):
            return self._keep(node, "vanilla", "alpha leaves no group high-frequency")
        layout = Layout.from_groups(groups, conv.in_channels)
        one = self.beta == 1
        pair = Pair(pair.spa, pair.fre, layout) if one else self.write.relayout(node, pair, layout)
        return self._replace(node, pair, sum(groups) * (conv.out_channels // conv.groups))

    def _block_end(self, node: fx.Node) -> fx.Node:
        """The last of the modules that follow a convolution one by one, before the next convolution."""
        while len(node.users) == 1:
            (user,) = node.users
            if user.op != "call_module" or user in self.plan.convs:
                break
            node = user
        return node

    def _activated_stage1(self, source: fx.Node) -> Pair | None:
        """Stage 1's pair behind its normalisation and activation, if it has `source`'s channels."""
        assert self.stage1_end is not None
        found, wanted = shape(self.stage1_end), shape(source)
        same = found is not None and wanted is not None and found[1] == wanted[1]
        return self.pairs.get(self.stage1_end) if same else None

    def _replace(self, node: fx.Node, pair: Pair | None, fre_out: int) -> None:
        """Put an SFIConv2d in the place of a convolution; its alpha is what its input really carries."""
        conv = self.plan.convs[node]
        x: Pair | fx.Node = node.all_input_nodes[0]
        if pair is not None:
            x = pair if self.beta != 1 else pair.spa
        x, stride = self._prepared(node, conv, x)
        layer = make_layer(
            conv,
            pair.layout if pair else None,
            fre_out,
            in_order=self.beta == 1,
            beta=self.beta if pair or fre_out else 1,
            mcs_mode=self.mcs_mode,
            downsample=self.downsample,
            name=str(node.target),
            **stride,
        )
        self.traced.set_submodule(str(node.target), layer)
        node.args = (x if isinstance(x, fx.Node) else SpaceFreq(x.spa, x.fre),)  # type: ignore[arg-type]
        self._report(node, layer)
        if not fre_out:
            if pair is not None:
                (self.tail if node in self.plan.fusing else self.between).add(node)
            return
        layout = Layout.split(conv.out_channels, fre_out)
        if pair and conv.groups > 1:
            layout = Layout.from_groups(pair.layout.of_groups(conv.groups), conv.out_channels)
        self.pairs[node] = Pair(node, node, layout) if self.beta == 1 else self.write.produced(node, layout)

    def _prepared(
        self, node: fx.Node, conv: nn.Conv2d, x: Pair | fx.Node
    ) -> tuple[Pair | fx.Node, dict[str, Any]]:
        """What the layer reads: padded where SFIConv does not pad itself, and never too small for it."""
        padding = padding_of(conv)
        stride: dict[str, Any] = {}
        assert padding is not None
        if padding.same:
            if self.downsample == "avgpool" and conv.stride != (1, 1):
                x, stride = self.write.averaged(node, x, conv.stride), {"stride": (1, 1)}  # type: ignore[arg-type]
            x = self.write.padded(node, x, conv.kernel_size, stride.get("stride", conv.stride), conv.dilation)
        elif isinstance(x, Pair):
            needed = [
                d * (k - 1) + 1 - 2 * p
                for d, k, p in zip(conv.dilation, conv.kernel_size, padding.numbers, strict=True)
            ]
            if max(needed) > 1:
                x = self.write.enlarged(node, x, (needed[0], needed[1]))
        return x, stride

    def _keep(self, node: fx.Node, stage: str, note: str = "") -> None:
        self._fuse_inputs(node)
        conv = self.plan.convs[node]
        self.layers.append(
            LayerReport(
                str(node.target), stage, conv.in_channels, 0, conv.out_channels, 0, self.plan.macs(node), note
            )
        )
        self._mark(node)

    def _report(self, node: fx.Node, layer: SFIConv2d) -> None:
        channels = (layer.spa_in, layer.fre_in, layer.spa_out, layer.fre_out)
        self.layers.append(
            LayerReport(str(node.target), _STAGES[layer.stage], *channels, self.plan.macs(node))
        )

    # -- what stands between convolutions -------------------------------------------------------------

    def _operation(self, node: fx.Node) -> None:
        if any(n in self.tail for n in node.all_input_nodes):  # a shortcut meets the fused main path
            self._fuse_inputs(node)
            self._mark(node)
            return
        kind: Kind = kind_of(self.traced, node)
        if kind in ("norm", "drop") and self.plan.calls[str(node.target)] > 1:
            kind = "other"  # these are replaced, and the other calls may come with other branches
        if kind == "size":
            self._read_size(node)
        elif kind == "pool":
            self._pool(node)
        elif kind == "cat":
            self._concatenate(node)
        elif kind == "combine":
            self._combine(node)
        elif kind == "other" or len(node.all_input_nodes) > 1:
            self._join(node)
        else:
            pair = self.pairs[node.all_input_nodes[0]]
            self.pairs[node] = (
                Pair(node, node, pair.layout) if self.beta == 1 else self.write.copy(kind, node, pair)
            )

    def _join(self, node: fx.Node) -> None:
        """Fuse the branches for an operation that may need all channels together."""
        if node.op != "output" and carries_map(node):
            module = module_of(self.traced, node)
            if module is not None:
                self.joined.append(f"{node.target} ({type(module).__name__})")
            else:
                self.joined.append(f"{node.name} ({getattr(node.target, '__name__', node.target)})")
        self._fuse_inputs(node)
        self._mark(node)

    def _read_size(self, node: fx.Node) -> None:
        source = node.all_input_nodes[0]
        if len(node.all_input_nodes) > 1:
            self._join(node)
        elif self.beta != 1:
            self._substitute(node, self.write.size(node, self.pairs[source]))

    def _pool(self, node: fx.Node) -> None:
        if self.beta != 1:
            self._substitute(node, self.write.pool(node, self.pairs[node.all_input_nodes[0]]))

    @staticmethod
    def _substitute(node: fx.Node, written: fx.Node) -> None:
        written.meta = dict(node.meta)
        node.replace_all_uses_with(written)

    def _concatenate(self, node: fx.Node) -> None:
        parts = node.args[0] if node.args else node.kwargs["tensors"]
        assert isinstance(parts, list | tuple)
        if any(not isinstance(n, fx.Node) or len(shape(n) or ()) != 4 for n in parts):
            self._join(node)
            return
        layouts = {n: self._layout_of(n) for n in parts}
        operands = {n: self._as_pair(node, n, layout) for n, layout in layouts.items()}
        self._combined(node, operands, Layout.concatenated(layouts[n] for n in parts))

    def _layout_of(self, node: fx.Node) -> Layout:
        if node in self.pairs:
            return self.pairs[node].layout
        size = shape(node)
        assert size is not None
        return Layout.of_alpha(size[1], self.alpha)

    def _combine(self, node: fx.Node) -> None:
        """An operation on several maps: they take the layout of the first one that has branches."""
        tensors = [n for n in node.all_input_nodes if math.prod(shape(n) or ()) != 1]
        layout = next(self.pairs[n].layout for n in tensors if n in self.pairs)
        if any(not self._fits(n, layout) for n in tensors):  # what is spread in another way knows no branches
            self._join(node)
            return
        operands = {n: self._as_pair(node, n, layout) for n in tensors}
        self._combined(node, operands, layout)

    def _fits(self, node: fx.Node, layout: Layout) -> bool:
        size = shape(node)
        if size is None or len(size) not in (3, 4) or not node.meta["tensor_meta"].dtype.is_floating_point:
            return False
        return size[-3] == layout.channels or (size[-3] == 1 and node not in self.pairs)

    def _as_pair(self, before: fx.Node, node: fx.Node, layout: Layout) -> Pair:
        if self.beta == 1:
            return Pair(node, node, layout)
        if node in self.pairs:
            return self.write.relayout(before, self.pairs[node], layout)
        return self.write.split(before, node, layout)

    def _combined(self, node: fx.Node, operands: dict[fx.Node, Pair], layout: Layout) -> None:
        self.pairs[node] = (
            Pair(node, node, layout) if self.beta == 1 else self.write.combine(node, operands, layout)
        )

    # -- plain values -----------------------------------------------------------------------------------

    def _mark(self, node: fx.Node) -> None:
        """Note where a plain value stands; the vector of a gate, pooled to 1 x 1, stands nowhere."""
        if node.op in ("placeholder", "get_attr", "output") or not carries_map(node) or is_point(shape(node)):
            return
        inputs = node.all_input_nodes
        if any(n in self.tail for n in inputs):
            self.tail.add(node)
        elif any(n in self.pairs or n in self.between for n in inputs):
            self.between.add(node)

    def _fuse_inputs(self, node: fx.Node) -> None:
        if self.beta == 1:
            return
        for source in node.all_input_nodes:
            if pair := self.pairs.get(source):
                fused = self.write.fuse(node, pair)
                self.between.add(fused)
                node.replace_input_with(source, fused)
