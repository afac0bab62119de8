"""What the operations between convolutions do with channels: the tables that `convert` goes by."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, BlurPool2d, DropPath, SelectAdaptivePool2d, activations
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool, FastAdaptiveMaxPool
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import fx, nn
from torchvision.ops import StochasticDepth

from sficonv.conversion.trace import module_of, shape

Kind = Literal["each", "drop", "norm", "resize", "pool", "combine", "cat", "size", "other"]
"""What an operation does with the channels of a feature map:

- `"each"`: one value at a time; `"drop"`: the same for all channels of a sample, at random;
- `"norm"`: batch normalisation; `"resize"`: one channel at a time, to another size (pooling, padding);
- `"pool"`: one channel at a time, to one value; `"combine"`: several maps, value by value;
- `"cat"`: concatenation of channels; `"size"`: reads only the shape or type;
- `"other"`: anything that may need all channels together.
"""

_TIMM_ACTIVATIONS = tuple(
    t for t in vars(activations).values() if isinstance(t, type) and issubclass(t, nn.Module)
)
_EACH: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Identity,
    nn.PReLU, nn.Dropout, nn.Dropout2d, *_TIMM_ACTIVATIONS,
)  # fmt: skip
# exactly these types: a subclass may compute in a way of its own
_DROP = (DropPath, StochasticDepth)
_NORM = (nn.BatchNorm2d, BatchNormAct2d)
_RESIZE = (
    nn.MaxPool2d, nn.AvgPool2d, nn.ZeroPad2d, nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d,
    AvgPool2dSame, BlurPool2d, MaxPool2dSame,
)  # fmt: skip
_POOL = (
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    SelectAdaptivePool2d,
    FastAdaptiveAvgPool,
    FastAdaptiveMaxPool,
)

_EACH_FUNCTIONS = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid,
    F.hardtanh, F.softplus, F.dropout, F.dropout2d, F.sigmoid, F.tanh, torch.relu, torch.relu_, torch.sigmoid,
    torch.tanh, torch.clamp, torch.neg, torch.exp, torch.sqrt, torch.square, operator.neg,
}  # fmt: skip
_EACH_METHODS = {
    "relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "clamp", "clamp_", "contiguous", "clone",
    "float", "square", "sqrt", "exp", "neg",
}  # fmt: skip
_RESIZE_FUNCTIONS = {F.max_pool2d, F.avg_pool2d, torch.max_pool2d, torch._C._nn.avg_pool2d, F.interpolate}
_POOL_FUNCTIONS = {F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.mean, torch.amax}
_POOL_METHODS = {"mean", "amax"}
_COMBINE_FUNCTIONS = {
    operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul, operator.truediv,
    operator.itruediv, operator.pow, torch.add, torch.sub, torch.mul, torch.div, torch.maximum, torch.minimum,
    torch.lerp,
}  # fmt: skip
_COMBINE_METHODS = {"add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "expand_as"}
_CAT_FUNCTIONS: set[Any] = {torch.cat, torch.concat, torch.concatenate}
_SIZE_ATTRIBUTES = {"shape", "dtype", "device", "ndim"}
_SIZE_METHODS = {"size", "dim", "numel"}


def kind_of(traced: fx.GraphModule, node: fx.Node) -> Kind:
    """What `node` does with the channels of its input; everything unknown is `"other"`."""
    found = _KIND_OF[node.op](traced, node) if node.op in _KIND_OF else "other"
    if found == "pool" and not _gives_points(node):
        return "other"
    return found


def _of_module(traced: fx.GraphModule, node: fx.Node) -> Kind:
    module = module_of(traced, node)
    assert module is not None
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return "other"
    if module._forward_hooks or module._forward_pre_hooks:  # they expect the whole value
        return "other"
    if type(module) in _NORM:
        return "norm"
    table: tuple[tuple[Kind, tuple[type[nn.Module], ...]], ...] = (
        ("each", _EACH), ("drop", _DROP), ("resize", _RESIZE), ("pool", _POOL),
    )  # fmt: skip
    kind: Kind = next((kind for kind, types in table if type(module) in types), "other")
    return "other" if getattr(module, "return_indices", False) else kind


def _of_function(traced: fx.GraphModule, node: fx.Node) -> Kind:
    target = node.target
    if target is operator.getitem:
        return "each" if _takes_all(node) else "other"
    if target is getattr:
        return "size" if node.args[1] in _SIZE_ATTRIBUTES else "other"
    if node.kwargs.get("return_indices"):
        return "other"
    if target is F.pad:
        return "resize" if _pads_only_space(node) else "other"
    if target in _CAT_FUNCTIONS:
        return "cat" if argument(node, 1, "dim", 0) in (1, -3) else "other"
    table: tuple[tuple[Kind, set[Any]], ...] = (
        ("each", _EACH_FUNCTIONS), ("resize", _RESIZE_FUNCTIONS), ("pool", _POOL_FUNCTIONS),
        ("combine", _COMBINE_FUNCTIONS),
    )  # fmt: skip
    return next((kind for kind, functions in table if target in functions), "other")


def _of_method(traced: fx.GraphModule, node: fx.Node) -> Kind:
    table: tuple[tuple[Kind, set[str]], ...] = (
        ("each", _EACH_METHODS), ("size", _SIZE_METHODS), ("pool", _POOL_METHODS),
        ("combine", _COMBINE_METHODS),
    )  # fmt: skip
    return next((kind for kind, methods in table if node.target in methods), "other")


_KIND_OF: dict[str, Callable[[fx.GraphModule, fx.Node], Kind]] = {
    "call_module": _of_module,
    "call_function": _of_function,
    "call_method": _of_method,
}


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, given by position or by name."""
    return node.kwargs.get(name, node.args[position] if len(node.args) > position else default)


def _gives_points(node: fx.Node) -> bool:
    """Whether each channel becomes one value: `(B, C, H, W)` to `(B, C, 1, 1)` or `(B, C)`."""
    before, after = shape(node.all_input_nodes[0]), shape(node)
    if before is None or after is None or len(before) != 4:
        return False
    return tuple(after) in (tuple(before[:2]), (*before[:2], 1, 1)) and _reduces_space(node)


def _reduces_space(node: fx.Node) -> bool:
    if node.target in {"mean", "amax", torch.mean, torch.amax}:
        dims = argument(node, 1, "dim")
        return isinstance(dims, list | tuple) and {d % 4 for d in dims if isinstance(d, int)} == {2, 3}
    return True


def _takes_all(node: fx.Node) -> bool:
    """Whether slices leave a map as it is (GhostNet cuts its channels to a number that they often have)."""
    slices = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    size = shape(node)
    whole = size is not None and size == shape(node.all_input_nodes[0])
    return whole and all(isinstance(part, slice) and part.start is part.step is None for part in slices)


def _pads_only_space(node: fx.Node) -> bool:
    pads, mode = argument(node, 1, "pad"), argument(node, 2, "mode", "constant")
    return mode == "constant" and isinstance(pads, list | tuple) and len(pads) <= 4


def window(traced: fx.GraphModule, node: fx.Node) -> tuple[int, int]:
    """The smallest input that a resizing operation accepts."""
    module = module_of(traced, node)
    if isinstance(module, BlurPool2d):  # a reflection needs one value more than it repeats
        return (module.filt_size, module.filt_size)
    if isinstance(module, AvgPool2dSame | MaxPool2dSame | nn.ZeroPad2d | nn.Upsample):
        return 1, 1
    if node.target in (F.pad, F.interpolate):
        return 1, 1
    if module is not None:
        kernel, padding = _two(module.kernel_size), _two(module.padding)
    else:
        kernel, padding = _two(argument(node, 1, "kernel_size")), _two(argument(node, 3, "padding", 0))
    return max(1, kernel[0] - 2 * padding[0]), max(1, kernel[1] - 2 * padding[1])


def _two(given: Any) -> tuple[int, int]:
    return (given, given) if isinstance(given, int) else (given[0], given[-1])
