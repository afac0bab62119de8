"""One graph for training and for judging: what a network does in one of the two only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from sficonv.conversion.untraceable import Untraceable, innermost

DROPOUT: dict[Any, type[nn.Module]] = {F.dropout: nn.Dropout, F.dropout2d: nn.Dropout2d}
CONSTANT = "_tensor_constant"
"""Start of the names that `torch.fx` gives to tensors which the code makes while it is traced."""


class ByMode(nn.Module):
    """Gives the first of two values in training, the second out of it."""

    def forward(self, in_training: Any, otherwise: Any) -> Any:
        return in_training if self.training else otherwise


def join_modes(graph: fx.Graph, other: fx.Graph, model: nn.Module) -> None:
    """Let the graph of training do what that of evaluation does, where the model is not in training.

    Constants and outputs that depend on the mode are chosen when it runs.

    Args:
        graph: As traced in training; changed.
        other: As traced out of training.
        model: What both were traced from; gains the modules that choose.

    Raises:
        Untraceable: If evaluation computes something that training does not.
    """
    twins: dict[fx.Node, fx.Node] = {}
    candidates = iter(graph.nodes)
    for node in other.nodes:
        if node.op == "output":
            break
        twin = next((c for c in candidates if _same(node, c, twins, model)), None)
        if twin is None:
            raise Untraceable(
                innermost(node),
                f"in evaluation it computes {node.name} ({node.target}), in training it does not",
            )
        twins[node] = twin
        _join_constants(graph, node, twin, twins, model)
    output, other_output = (next(n for n in g.nodes if n.op == "output") for g in (graph, other))
    in_evaluation = fx.node.map_arg(other_output.args[0], lambda n: twins[n])
    if in_evaluation != output.args[0]:
        model.add_module("output_by_mode", ByMode())
        with graph.inserting_before(output):
            chosen = graph.call_module("output_by_mode", (output.args[0], in_evaluation))
        output.args = (chosen,)


def _same(node: fx.Node, candidate: fx.Node, twins: dict[fx.Node, fx.Node], model: nn.Module) -> bool:
    """Whether two graphs have the same operation on the same values; constants may depend on the mode."""
    if node.op == candidate.op == "get_attr" and CONSTANT in str(node.target):
        values = [getattr(model, str(n.target)) for n in (node, candidate)]
        return CONSTANT in str(candidate.target) and torch.equal(*values)
    same_call = (node.op, node.target) == (candidate.op, candidate.target)
    return same_call and [twins[n] for n in node.all_input_nodes] == candidate.all_input_nodes


def _join_constants(
    graph: fx.Graph, node: fx.Node, twin: fx.Node, twins: dict[fx.Node, fx.Node], model: nn.Module
) -> None:
    """Choose the arguments of a call that depend on the mode, such as `training`, when it runs."""
    if len(node.args) != len(twin.args) or node.kwargs.keys() != twin.kwargs.keys():
        raise Untraceable(innermost(node), f"{node.name} is called in another way in evaluation")
    for place in [*range(len(node.args)), *node.kwargs]:
        here, there = (n.args[place] if isinstance(place, int) else n.kwargs[place] for n in (twin, node))
        there = fx.node.map_arg(there, twins.__getitem__)
        if here == there:
            continue
        if twin.target in DROPOUT:
            twin.meta["follows_mode"] = True
            continue
        name = f"by_mode_{sum(1 for n, _ in model.named_children() if n.startswith('by_mode_'))}"
        model.add_module(name, ByMode())
        with graph.inserting_before(twin):
            chosen = graph.call_module(name, (here, there))
        twin.update_arg(place, chosen) if isinstance(place, int) else twin.update_kwarg(place, chosen)


def free_dropout(traced: fx.GraphModule) -> None:
    """Functional dropout that follows the mode becomes a module, which does; it may be always on, too."""
    for number, node in enumerate(traced.graph.nodes):
        if node.meta.get("follows_mode"):
            p = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
            name = f"dropout_{number}"
            traced.add_submodule(name, DROPOUT[node.target](p))
            node.op, node.target, node.args, node.kwargs = "call_module", name, node.args[:1], {}
    traced.recompile()
