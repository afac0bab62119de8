"""The graph that `convert` rewrites: symbolic tracing, and the shape of every value in it."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, DropPath, get_notrace_functions, get_notrace_modules
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.shape_prop import ShapeProp
from torchvision.ops import StochasticDepth


class _Tracer(fx.Tracer):
    """Keeps whole what has control flow of its own (timm's list) or acts differently in training."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self.leaves = (*get_notrace_modules(), BatchNormAct2d, DropPath, StochasticDepth)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, input_size: tuple[int, int, int]) -> fx.GraphModule:
    """Trace a copy of `model` and note the shape of every value.

    Args:
        model: Any module that maps one `(B, 3, H, W)` tensor to logits. It is left as it is.
        input_size: `(C, H, W)` of the example that shapes are computed for (nothing is run for real).

    Returns:
        A graph module with the same submodule names and state-dict keys; `node.meta["tensor_meta"].shape`
        holds the shape of each tensor for a batch of 2.

    Raises:
        ValueError: If the model's control flow depends on its input, with the place where tracing stopped.
    """
    model = copy.deepcopy(model)
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except (
        fx.proxy.TraceError,
        TypeError,
        RuntimeError,
        ValueError,
        AttributeError,
        AssertionError,
    ) as error:
        raise ValueError(
            f"{type(model).__name__} cannot be traced: {error}. Control flow that depends on the input must "
            "sit in a module of its own that timm.layers.register_notrace_module marks"
        ) from error
    traced = fx.GraphModule(model, graph, type(model).__name__)
    _free_dropout(traced)
    traced.train(model.training)
    _propagate_shapes(traced, input_size)
    return traced


_DROPOUT: dict[Any, type[nn.Module]] = {F.dropout: nn.Dropout, F.dropout2d: nn.Dropout2d}


def _free_dropout(traced: fx.GraphModule) -> None:
    """Functional dropout is traced with `training` as a constant: make it a module that follows the mode."""
    for number, node in enumerate(traced.graph.nodes):
        if node.op == "call_function" and node.target in _DROPOUT:
            p = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
            name = f"dropout_{number}"
            traced.add_submodule(name, _DROPOUT[node.target](p))
            node.op, node.target, node.args, node.kwargs = "call_module", name, node.args[:1], {}
    traced.recompile()


def _propagate_shapes(traced: fx.GraphModule, input_size: tuple[int, int, int]) -> None:
    training = traced.training
    traced.eval()
    like = next(traced.parameters(), torch.empty(0))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with torch.no_grad(), mode:
            ShapeProp(traced, fake_mode=mode).propagate(like.new_empty(2, *input_size))
    except Exception as error:  # torch raises many kinds here, all of them meaning the same to the user
        raise ValueError(
            f"{type(traced).__name__} does not run on an input of size {input_size}: {error}"
        ) from error
    finally:
        traced.train(training)


def shape(node: fx.Node) -> torch.Size | None:
    """Shape of a tensor value, None for anything else."""
    meta: Any = node.meta.get("tensor_meta")
    return meta.shape if isinstance(getattr(meta, "shape", None), torch.Size) else None


def module_of(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a `call_module` node calls."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None
