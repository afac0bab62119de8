"""Graph modules that can be pickled, copied and sent to other processes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import fx, nn
from torch.fx.node import map_aggregate

# what `fx.GraphModule` makes from the graph, or keeps to trace it anew, and what torch.compile made
_MADE_AGAIN = ("_graph", "_code", "_lineno_map", "_prologue_start", "_tracer_cls", "_tracer_extras",
               "_compiled_call_impl")  # fmt: skip


class PortableGraphModule(fx.GraphModule):
    """A graph module that survives `pickle`, `torch.save`, `copy.deepcopy` and being sent to another process.

    `fx.GraphModule` pickles its source code and traces that anew, which fails where a function of the graph
    looks at sizes. Here the graph itself is stored, as a list of its nodes.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, class_name: str = "GraphModule") -> None:
        super().__init__(root, graph, class_name)
        for name, module in list(self.named_modules()):
            if type(module) is nn.Module:
                folder = Folder()
                folder.__dict__.update(module.__dict__)
                self.set_submodule(name, folder)

    def __reduce__(self) -> tuple[Any, ...]:
        own_class = next(c for c in type(self).__mro__ if c.__module__ != fx.graph_module.__name__)
        state = {key: value for key, value in self.__dict__.items() if key not in _MADE_AGAIN}
        nodes = [
            (n.op, _portable(n.target), _named(n.args), _named(n.kwargs), n.name) for n in self.graph.nodes
        ]
        return _restored, (own_class, type(self).__name__, state, nodes)

    def __deepcopy__(self, memo: dict[int, Any]) -> fx.GraphModule:
        _, (own_class, name, state, nodes) = self.__reduce__()
        return _restored(own_class, name, copy.deepcopy(state, memo), nodes)


def run_until(module: fx.GraphModule, node: str, *args: Any) -> Any:
    """The value of a node of a graph.

    Args:
        module: The graph module.
        node: The node's name.
        *args: Inputs of the module.
    """
    return _Until(module, node).run_to(*args)


def keep_unused(made: nn.Module, original: nn.Module) -> None:
    """Give a graph module what its graph does not call, so that it has all entries of the state dict.

    Args:
        made: Changed in place.
        original: What it was made from.
    """
    names = {module: name for name, module in original.named_modules()}
    there = dict(made.named_modules(remove_duplicate=False))
    for name, module in original.named_modules(remove_duplicate=False):
        if name not in there:  # a second name of a module that is called by its first one, or never called
            new = there.get(names[module], module)
            made.set_submodule(name, new)
            there.update(new.named_modules(prefix=name, remove_duplicate=False))
            continue
        for key, parameter in module._parameters.items():
            if not hasattr(there[name], key):
                there[name].register_parameter(key, parameter)
        for key, buffer in module._buffers.items():
            if not hasattr(there[name], key):
                persistent = key not in module._non_persistent_buffers_set
                there[name].register_buffer(key, buffer, persistent=persistent)


class _Reached(Exception):
    """Carries the value of the node that was asked for."""


class _Until(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, node: str) -> None:
        super().__init__(module)
        self.last = node

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name == self.last:
            raise _Reached(value)
        return value

    def run_to(self, *args: Any) -> Any:
        self.extra_traceback = False
        try:
            self.run(*args)
        except _Reached as reached:
            return reached.args[0]
        raise ValueError(f"the graph has no node {self.last!r}")


class Folder(nn.Module):
    """A module of the original network that only holds layers: the graph calls these, not the folder."""

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> Any:
        self._warn()
        return super().register_forward_hook(*args, **kwargs)

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> Any:
        self._warn()
        return super().register_forward_pre_hook(*args, **kwargs)

    def register_full_backward_hook(self, *args: Any, **kwargs: Any) -> Any:
        self._warn()
        return super().register_full_backward_hook(*args, **kwargs)

    def _warn(self) -> None:
        layers = [name for name, module in self.named_modules() if not [*module.children()]]
        warnings.warn(
            "this hook will never run: a converted network calls its layers, not the modules that hold them. "
            f"Put the hook on a layer inside, such as {layers[-1]!r}",
            stacklevel=3,
        )


class _Name(str):
    """The name of a node, in the place of the node."""


@dataclass(frozen=True)
class _Function:
    """A function that pickle cannot find by itself, such as `F.max_pool2d`, which another one made."""

    module: str
    name: str

    @property
    def function(self) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(import_module(self.module), self.name)
        return found


def _portable(target: Any) -> Any:
    if "<locals>" in getattr(target, "__qualname__", ""):
        return _Function(target.__module__, target.__name__)
    return target


def _named(arguments: Any) -> Any:
    return map_aggregate(arguments, lambda a: _Name(a.name) if isinstance(a, fx.Node) else a)


def _restored(
    own_class: type[PortableGraphModule], name: str, state: dict[str, Any], nodes: list[tuple[Any, ...]]
) -> fx.GraphModule:
    """What was stored by `PortableGraphModule.__reduce__`."""
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}
    for op, target, args, kwargs, node_name in nodes:
        args, kwargs = (
            map_aggregate(part, lambda a: made[a] if isinstance(a, _Name) else a) for part in (args, kwargs)
        )
        target = target.function if isinstance(target, _Function) else target
        made[node_name] = graph.create_node(op, target, args, kwargs, node_name)
    module = own_class.__new__(own_class)
    nn.Module.__init__(module)
    module.__dict__.update(state)
    type(module).__name__ = name
    module.graph = graph
    module._tracer_cls, module._tracer_extras = None, {}
    return module
