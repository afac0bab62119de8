"""Operations that change a tensor in place: in the graph, everything behind one has to read its result."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator
from typing import Any

from torch import fx, nn

from sficonv.conversion.untraceable import Untraceable, innermost

_OPERATORS = {
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.ifloordiv,
    operator.imod, operator.iand, operator.ior, operator.ixor,
}  # fmt: skip
_VIEWS = {
    "view", "view_as", "reshape", "flatten", "unflatten", "chunk", "split", "tensor_split", "unbind",
    "transpose", "permute", "swapaxes", "movedim", "t", "squeeze", "unsqueeze", "narrow", "select",
    "diagonal", "unfold", "expand", "expand_as", "detach", "contiguous", "getitem",
}  # fmt: skip
_VIEW_MODULES = (nn.Flatten, nn.Unflatten, nn.Identity)
_NUMBERS = {"size", "dim", "numel", "stride"}


def follow_in_place(graph: fx.Graph, model: nn.Module) -> None:
    """Let everything behind an in-place operation read its result, which is the tensor it changed.

    Args:
        graph: As traced; changed.
        model: What it was traced from.

    Raises:
        Untraceable: If a view of a tensor is changed and the tensor is read again: the graph of a converted
            network has no memory that two of its values share.
    """
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        changed = _changed(node, model)
        if changed is None:
            continue
        shared = [*_bases(changed, model), *(u for u in changed.users if u is not node and _views(u, model))]
        if any(order[user] > order[node] for value in shared for user in value.users):
            raise Untraceable(
                innermost(node), f"{node.name} changes in place what is read under another name"
            )
        for user in [u for u in changed.users if order[u] > order[node]]:
            user.replace_input_with(changed, node)


def _changed(node: fx.Node, model: nn.Module) -> fx.Node | None:
    """The tensor that an operation changes; None if it makes a new one."""
    written = node.kwargs.get("out")
    if not isinstance(written, fx.Node):
        written = node.args[0] if node.args and _in_place(node, model) else None
    return written if isinstance(written, fx.Node) and not _is_number(written) else None


def _in_place(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        return getattr(model.get_submodule(str(node.target)), "inplace", False) is True
    if node.op == "call_function" and (node.target in _OPERATORS or _asked_for(node)):
        return True
    name = _name(node)
    return node.op in ("call_method", "call_function") and name.endswith("_") and not name.endswith("__")


def _asked_for(node: fx.Node) -> bool:
    """Whether a function is called with `inplace=True`."""
    assert callable(node.target)
    try:
        given = inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments
    except (TypeError, ValueError):  # functions of C have no signature, and no such argument either
        return False
    return given.get("inplace") is True


def _bases(node: fx.Node, model: nn.Module) -> Iterator[fx.Node]:
    """The values that `node` is a view of."""
    while _views(node, model) and isinstance(base := node.args[0], fx.Node):
        yield base
        node = base


def _views(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), _VIEW_MODULES)
    if node.target is getattr:
        return node.args[1] in ("data", "T", "mT")
    return node.op in ("call_method", "call_function") and _name(node) in _VIEWS


def _is_number(node: fx.Node) -> bool:
    """Whether a value is a size or made of sizes: `h += 1` makes a new number."""
    if node.target in _NUMBERS or (node.target is getattr and node.args[1] in ("shape", "ndim")):
        return True
    arithmetic = getattr(node.target, "__module__", "") in ("_operator", "builtins", "math")
    return arithmetic and bool(node.all_input_nodes) and all(map(_is_number, node.all_input_nodes))


def _name(node: fx.Node) -> str:
    target: Any = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", "")
