"""Which convolutions are head, body and tail: what `convert` decides before it rewrites anything."""

from __future__ import annotations

from collections import Counter

import torch
from torch import fx, nn

from sficonv.conversion.layers import why_kept
from sficonv.conversion.trace import module_of, shape

POOLED = "reads a pooled value"


def is_point(size: torch.Size | None) -> bool:
    """Whether a map has one value per channel, such as the vector of a gate."""
    return size is not None and len(size) == 4 and tuple(size[-2:]) == (1, 1)


class Plan:
    """The convolutions of a traced network and their roles.

    Args:
        traced: The network, with shapes.
        fuse_at: Module whose last convolutions become Stage 3; None for the network's last ones.

    Raises:
        ValueError: Too few convolutions, or `fuse_at` names none.
    """

    def __init__(self, traced: fx.GraphModule, fuse_at: str | None) -> None:
        self.traced = traced
        self.convs = {n: c for n in traced.graph.nodes if isinstance(c := module_of(traced, n), nn.Conv2d)}
        if len(self.convs) < 3:
            raise ValueError(
                f"convert: {type(traced).__name__} has {len(self.convs)} convolutions; "
                "a head, a Stage 1 and a Stage 3 need 3"
            )
        self.calls = Counter(str(n.target) for n in traced.graph.nodes if n.op == "call_module")
        self.head = self._first()
        self.fusing = self._fusing(fuse_at)

    def why_kept(self, node: fx.Node) -> str:
        """Why a convolution stays vanilla wherever it stands; "" if it need not."""
        if node in self.head:
            return ""
        if self.is_pooled(node):
            return POOLED
        if self.calls[str(node.target)] > 1:
            return "is called several times"
        return why_kept(self.convs[node])

    def is_pooled(self, node: fx.Node) -> bool:
        """Whether a convolution reads one value per channel."""
        size = shape(node.all_input_nodes[0])
        return size is None or is_point(size)

    def macs(self, node: fx.Node) -> int:
        """Multiply-accumulates of the vanilla convolution for one image."""
        return self.traced.meta["conv_macs"][str(node.target)] // self.calls[str(node.target)]

    def hidden(self) -> dict[str, int]:
        """The convolutions inside modules that were not traced, and their multiply-accumulates."""
        return {n: m for n, m in self.traced.meta["conv_macs"].items() if not self.calls[n]}

    def _first(self) -> set[fx.Node]:
        """The convolutions that no other one stands before."""
        behind: set[fx.Node] = set()
        for node in self.traced.graph.nodes:
            if any(n in behind or n in self.convs for n in node.all_input_nodes):
                behind.add(node)
        return {n for n in self.convs if n not in behind}

    def _fusing(self, fuse_at: str | None) -> set[fx.Node]:
        """The convolutions that become Stage 3: the last ones of the scope."""
        scope = {n for n in self.convs if not self.is_pooled(n) and n not in self.head}
        if fuse_at is not None:
            names = {n: str(n.target) for n in self.convs}
            scope = {n for n in scope if names[n] == fuse_at or names[n].startswith(fuse_at + ".")}
            if not scope:
                raise ValueError(f"convert: fuse_at={fuse_at!r} names no module with convolutions")
        before: set[fx.Node] = set()
        for node in reversed(self.traced.graph.nodes):
            if any(n in before or n in scope for n in node.users):
                before.add(node)
        return {n for n in scope if n not in before}
