"""Writes into the graph what happens to a pair of branches at beta < 1."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from timm.layers import BlurPool2d
from timm.layers.padding import pad_same
from torch import fx, nn

from sficonv.conversion import branches
from sficonv.conversion.layers import layout_device, make_norm
from sficonv.conversion.layout import Layout
from sficonv.conversion.operations import Kind, window
from sficonv.conversion.trace import module_of, shape
from sficonv.nn.sampling import average_pool
from sficonv.nn.sficonv import Ratio, SpaceFreq


@dataclass(frozen=True)
class Pair:
    """The two branches of a value, as graph nodes; at beta = 1 both are the one node of the vanilla graph."""

    spa: fx.Node
    fre: fx.Node
    layout: Layout


class PairWriter:
    """Copies the operations of the vanilla graph for the branches, and joins and splits them.

    Args:
        traced: The graph module that is rewritten.
        beta: Resolution of the high-frequency branch.
    """

    def __init__(self, traced: fx.GraphModule, beta: Ratio) -> None:
        self.traced, self.graph, self.beta = traced, traced.graph, branches.for_graph(beta)
        self._fused: dict[Pair, fx.Node] = {}
        self._split: dict[tuple[fx.Node, Layout], Pair] = {}
        self._copies: dict[Kind, Callable[[fx.Node, Pair], Pair]] = {
            "each": self._each,
            "drop": self._drop,
            "norm": self._norm,
            "resize": self._resize,
        }

    # -- one operation -----------------------------------------------------------------------------

    def produced(self, node: fx.Node, layout: Layout) -> Pair:
        """The branches of a node whose value is a `SpaceFreq`."""
        with self.graph.inserting_after(node):
            spa = self.graph.call_function(operator.getitem, (node, 0))
        with self.graph.inserting_after(spa):
            fre = self.graph.call_function(operator.getitem, (node, 1))
        return Pair(spa, fre, layout)

    def copy(self, kind: Kind, node: fx.Node, pair: Pair) -> Pair:
        """An operation that treats the channels of one input one by one, on each branch."""
        return self._copies[kind](node, pair)

    def pool(self, node: fx.Node, pair: Pair) -> fx.Node:
        """Pool each branch to one value per channel, and join those in the vanilla order."""
        source = node.all_input_nodes[0]
        if pair.layout.fre_channels == pair.layout.channels:  # pooling refuses a branch without channels
            return self._copy(node, {source: pair.fre})
        pooled = (self._copy(node, {source: pair.spa}), self._copy(node, {source: pair.fre}))
        return self._in_vanilla_order(node, self._call(node, branches.join, *pooled), pair.layout)

    def size(self, node: fx.Node, pair: Pair) -> fx.Node:
        """Read the shape of the vanilla value, or the type and device that both branches have."""
        source = node.args[0]
        if node.target is getattr and node.args[1] == "shape":
            return self._call(node, branches.pair_shape, pair.spa, pair.fre)
        if node.target == "size":
            shape_node = self._call(node, branches.pair_shape, pair.spa, pair.fre)
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
            return shape_node if dim is None else self._call(node, operator.getitem, shape_node, dim)
        if node.target == "numel":
            return self._copy(node, {source: self.fuse(node, pair)})  # type: ignore[dict-item]
        return self._copy(node, {source: pair.spa})  # type: ignore[dict-item]

    def combine(self, node: fx.Node, operands: dict[fx.Node, Pair], layout: Layout) -> Pair:
        """An operation on several maps, on each branch of them."""
        spa = self._copy(node, {n: pair.spa for n, pair in operands.items()})
        fre = self._copy(node, {n: pair.fre for n, pair in operands.items()})
        return Pair(spa, fre, layout)

    def _each(self, node: fx.Node, pair: Pair) -> Pair:
        source = node.all_input_nodes[0]
        spa, fre = (self._copy(node, {source: branch}) for branch in (pair.spa, pair.fre))
        return Pair(spa, fre, pair.layout)

    def _drop(self, node: fx.Node, pair: Pair) -> Pair:
        module = module_of(self.traced, node)
        assert module is not None
        return self._on_pair(node, branches.BranchDrop(module).train(module.training), pair)

    def _norm(self, node: fx.Node, pair: Pair) -> Pair:
        norm = module_of(self.traced, node)
        assert isinstance(norm, nn.BatchNorm2d)
        return self._on_pair(node, make_norm(norm, pair.layout), pair)

    def _on_pair(self, node: fx.Node, module: nn.Module, pair: Pair) -> Pair:
        """Put a module that takes both branches in the place of the one that `node` calls."""
        self.traced.set_submodule(str(node.target), module)
        node.args = (SpaceFreq(pair.spa, pair.fre), *node.args[1:])  # type: ignore[arg-type]
        return self.produced(node, pair.layout)

    def _resize(self, node: fx.Node, pair: Pair) -> Pair:
        """Pool both branches; `fre` may be smaller than the window, and either may have no channels."""
        source = node.all_input_nodes[0]
        without_spa = pair.layout.fre_channels == pair.layout.channels
        module = module_of(self.traced, node)
        if isinstance(module, BlurPool2d) and module.channels is not None:  # its filter is for any channels
            module.channels = None
            module.register_buffer("filt", module.get_buffer("filt")[:1], persistent=False)
        spa_in = self._call(node, branches.one_channel, pair.spa) if without_spa else pair.spa
        fre_in = self._call(node, branches.at_least, pair.fre, *window(self.traced, node))
        spa, fre = self._copy(node, {source: spa_in}), self._copy(node, {source: fre_in})
        spa = self._call(node, branches.no_channels, spa) if without_spa else spa
        return Pair(spa, self._call(node, branches.match_frequency, fre, spa, self.beta), pair.layout)

    def _copy(self, node: fx.Node, inputs: dict[fx.Node, fx.Node]) -> fx.Node:
        with self.graph.inserting_before(node):
            return self.graph.node_copy(node, lambda n: inputs.get(n, n))

    def _call(self, before: fx.Node, function: Callable[..., Any], *args: Any) -> fx.Node:
        with self.graph.inserting_before(before):
            return self.graph.call_function(function, args)

    # -- between pairs and plain values -------------------------------------------------------------

    def fuse(self, before: fx.Node, pair: Pair) -> fx.Node:
        """One tensor at the spatial branch's resolution, channels in vanilla order."""
        if pair not in self._fused:
            fused = self._call(before, branches.fuse, pair.spa, pair.fre)
            self._fused[pair] = self._in_vanilla_order(before, fused, pair.layout)
        return self._fused[pair]

    def fused(self, pair: Pair) -> fx.Node | None:
        """The tensor that `fuse` made of a pair, where it was called."""
        return self._fused.get(pair)

    def split(self, before: fx.Node, plain: fx.Node, layout: Layout) -> Pair:
        """The branches of a plain value; a map of one channel goes to both of them."""
        key = (plain, layout)
        if key not in self._split:
            size = shape(plain)
            if size is not None and size[-3] == 1 != layout.channels:
                both = self._call(before, branches.spread, plain, self.beta)
            else:
                x = plain if layout.is_split else self._reorder(before, plain, layout.order)
                both = self._call(before, branches.split_plain, x, layout.fre_channels, self.beta)
            spa, fre = (self._call(before, operator.getitem, both, i) for i in (0, 1))
            self._split[key] = Pair(spa, fre, layout)
        return self._split[key]

    def relayout(self, before: fx.Node, pair: Pair, layout: Layout) -> Pair:
        """The same value with other channels in the branches."""
        if pair.layout == layout:
            return pair
        return self.split(before, self.fuse(before, pair), layout)

    def _in_vanilla_order(self, before: fx.Node, joined: fx.Node, layout: Layout) -> fx.Node:
        return joined if layout.is_split else self._reorder(before, joined, layout.inverse)

    def _reorder(self, before: fx.Node, x: fx.Node, index: Sequence[int]) -> fx.Node:
        name = f"reorder_{sum(1 for n, _ in self.traced.named_children() if n.startswith('reorder_'))}"
        self.traced.add_submodule(name, branches.Reorder(index).to(layout_device(self.traced)))
        with self.graph.inserting_before(before):
            return self.graph.call_module(name, (x,))

    # -- before a convolution -----------------------------------------------------------------------

    def padded(self, before: fx.Node, x: Pair | fx.Node, *args: Any) -> Pair | fx.Node:
        """TensorFlow's padding of a value, or of both its branches, for `(kernel, stride, dilation)`."""
        return self._on_branches(before, x, pad_same, *args)

    def averaged(self, before: fx.Node, x: Pair | fx.Node, stride: tuple[int, int]) -> Pair | fx.Node:
        """Average pooling of a value, or of both its branches."""
        return self._on_branches(before, x, average_pool, stride)

    def enlarged(self, before: fx.Node, pair: Pair, size: tuple[int, int]) -> Pair:
        """The high-frequency branch at least as large as the kernel that will read it."""
        return Pair(pair.spa, self._call(before, branches.at_least, pair.fre, *size), pair.layout)

    def _on_branches(
        self, before: fx.Node, x: Pair | fx.Node, function: Callable[..., Any], *args: Any
    ) -> Pair | fx.Node:
        if isinstance(x, fx.Node):
            return self._call(before, function, x, *args)
        spa, fre = (self._call(before, function, branch, *args) for branch in (x.spa, x.fre))
        return Pair(spa, fre, x.layout)
