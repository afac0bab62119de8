"""The graph that `convert` rewrites: symbolic tracing, and the shape of every value in it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

import torch
from timm.layers import get_notrace_functions, get_notrace_modules
from timm.models.nfnet import NormFreeBlock
from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torchvision.ops import StochasticDepth

from sficonv.conversion.graph import keep_unused
from sficonv.conversion.in_place import follow_in_place
from sficonv.conversion.modes import CONSTANT, free_dropout, join_modes
from sficonv.conversion.untraceable import Untraceable

# timm's layers that are one operation: `convert` knows what they do, or must keep them whole.
_TIMM_LAYERS = {
    f"timm.layers.{name}"
    for name in (
        "activations", "adaptive_avgmax_pool", "blur_pool", "cond_conv2d", "drop", "evo_norm",
        "filter_response_norm", "norm", "norm_act", "pool2d_same",
    )
}  # fmt: skip


class _Tracer(fx.Tracer):
    """Keeps whole every single layer, what has control flow of its own (timm's list), and drop-path.

    Args:
        kept: Names of further modules to keep whole.
    """

    def __init__(self, kept: set[str]) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        layers = (nn.Conv2d, nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
        # on timm's list only because of in-place operations whose result nobody reads: see follow_in_place
        theirs = tuple(m for m in get_notrace_modules() if m is not NormFreeBlock)
        self.leaves = (*theirs, *layers, StochasticDepth)
        self.kept = kept
        self.stopped_in = ""  # the innermost module in which tracing stopped

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        one_layer = isinstance(m, self.leaves) or type(m).__module__ in _TIMM_LAYERS
        whole = one_layer or module_qualified_name in self.kept
        return whole or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.stopped_in = self.stopped_in or self.path_of_module(m)
            raise


def trace(model: nn.Module, input_size: tuple[int, int, int]) -> fx.GraphModule:
    """Trace a model and note the shape of every value.

    Args:
        model: Any module that maps one `(B, 3, H, W)` tensor to logits; a copy, whose parts the graph takes
            over. Where it has more outputs in training than out of it, so has the traced one.
        input_size: `(C, H, W)` of the example that shapes are computed for (nothing is run for real).

    Returns:
        A graph module with the same submodule names and state-dict keys; `node.meta["tensor_meta"].shape`
        holds the shape of each tensor for a batch of 2, and `meta["conv_macs"]` the multiply-accumulates
        of each convolution module for one image. `node.meta["features"]` is true where a timm model's
        `forward_features` returned.

    Raises:
        ValueError: If the model's own control flow depends on its input; a submodule with such control flow
            is kept whole.
    """
    graph = _trace_whole(model)
    for name in [name for name, value in vars(model).items() if name.startswith(CONSTANT)]:
        value = model.__dict__.pop(name)
        model.register_buffer(name, value, persistent=False)  # moves with the model, and is not saved
    traced = fx.GraphModule(model, graph, type(model).__name__)
    keep_unused(traced, model)
    free_dropout(traced)
    traced.train(model.training)
    _propagate_shapes(traced, input_size)
    return traced


def _trace_whole(model: nn.Module) -> fx.Graph:
    """The graph of both modes; a submodule that cannot be traced is kept whole."""
    kept: set[str] = set()
    while True:
        try:
            graph = _trace_mode(model, kept, training=True)
            join_modes(graph, _trace_mode(model, kept, training=False), model)
            follow_in_place(graph, model)
            return graph
        except Untraceable as error:
            if error.module in kept | {""}:
                raise ValueError(
                    f"{type(model).__name__} cannot be traced: {error}. Control flow that depends on the "
                    "input must sit in a submodule of its own, which then stays as it is"
                ) from error
            kept.add(error.module)


def _trace_mode(model: nn.Module, kept: set[str], *, training: bool) -> fx.Graph:
    """The graph that `model` runs in training, or in evaluation."""
    modes = {module: module.training for module in model.modules()}
    tracer = _Tracer(kept)
    try:
        with _marking_features(model):
            graph = tracer.trace(model.train(training))
    except Exception as error:  # whatever the model's own code raises when it is given no numbers
        raise Untraceable(tracer.stopped_in, str(error)) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    return graph


@contextmanager
def _marking_features(model: nn.Module) -> Iterator[None]:
    """Mark the node that a timm model's `forward_features` returns."""
    original = getattr(model, "forward_features", None)
    if original is None:
        yield
        return

    def marking(*args: Any, **kwargs: Any) -> Any:
        value = original(*args, **kwargs)
        if isinstance(value, fx.Proxy):
            value.node.meta["features"] = True
        return value

    model.forward_features = marking  # type: ignore[assignment]
    try:
        yield
    finally:
        del model.forward_features


def _propagate_shapes(traced: fx.GraphModule, input_size: tuple[int, int, int]) -> None:
    training = traced.training
    traced.eval()
    macs: dict[str, int] = {}
    convs = {name: m for name, m in traced.named_modules() if isinstance(m, nn.Conv2d)}
    theirs = [(m, m._forward_hooks, m._forward_pre_hooks) for m in traced.modules()]
    for module, *_ in theirs:  # hooks of the user wait for real values
        module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
    hooks = [conv.register_forward_hook(_counting(macs, name)) for name, conv in convs.items()]
    try:
        with torch.no_grad(), redirect_stderr(StringIO()):  # torch prints a traceback as well
            _run_once(traced, input_size, macs)
    except Exception as error:  # torch raises many kinds here, all of them meaning the same to the user
        raise ValueError(
            f"{type(traced).__name__} does not run on an input of size {input_size}: {_reason(error)}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, *kept in theirs:
            module._forward_hooks, module._forward_pre_hooks = kept
        traced.train(training)
    traced.meta["conv_macs"] = macs


def _run_once(traced: fx.GraphModule, input_size: tuple[int, int, int], macs: dict[str, int]) -> None:
    """Work out shapes without computing anything, unless a module asks for values."""
    like = next(traced.parameters(), torch.empty(0))
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            ShapeProp(traced, fake_mode=mode).propagate(like.new_empty(2, *input_size))
    except Exception as error:
        if not isinstance(_root_cause(error), DataDependentOutputException):
            raise
        macs.clear()  # of the layers before that module
        ShapeProp(traced).propagate(like.new_zeros(2, *input_size))


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    """The first line of what went wrong, and in which layer."""
    cause = _root_cause(error)
    place = re.search(r"target=([\w.]+)", str(error))
    where = f" (at {place[1]})" if place else ""
    return (str(cause).splitlines() or [type(cause).__name__])[0] + where


def _counting(macs: dict[str, int], name: str) -> Callable[..., None]:
    def count(conv: nn.Module, args: Any, output: torch.Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        macs[name] = macs.get(name, 0) + output[0].numel() * conv.weight[0].numel()

    return count


def shape(node: fx.Node) -> torch.Size | None:
    """Shape of a tensor value, None for anything else."""
    meta: Any = node.meta.get("tensor_meta")
    return meta.shape if isinstance(getattr(meta, "shape", None), torch.Size) else None


def carries_map(node: fx.Node) -> bool:
    """Whether a value is a feature map in some form (or several): a tensor of 3 dimensions or more."""
    meta: Any = node.meta.get("tensor_meta")
    parts = [meta] if isinstance(meta, TensorMetadata) else meta if isinstance(meta, list | tuple) else []
    return any(isinstance(part, TensorMetadata) and len(part.shape) >= 3 for part in parts)


def module_of(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a `call_module` node calls."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None
