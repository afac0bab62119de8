"""Why a network, or a module in it, cannot become a graph."""

from __future__ import annotations

from torch import fx


class Untraceable(Exception):
    """Tracing stopped in a module, "" being the whole model.

    Args:
        module: Its name.
        reason: What stopped it.
    """

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(reason)
        self.module = module


def innermost(node: fx.Node) -> str:
    """Name of the innermost module in whose code a node was made; "" for the whole model."""
    stack = node.meta.get("nn_module_stack", {}).values()
    return next((name for name, _ in reversed(list(stack)) if name), "")
