"""What follows from a layer's weights, kept while nothing trains and the weights stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
_SAMPLES = 64


class _Seen(NamedTuple):
    """How a tensor looked when the value was computed from it."""

    tensor: Tensor
    alias: Tensor  # also keeps the memory, so that no later tensor can lie at the same address
    writes: int
    elements: Tensor  # some of them, as a view
    values: Tensor  # their values then


class FrozenValue(Generic[T]):
    """Remembers a value computed from tensors, and computes it anew after any of them has changed.

    A tensor has changed if it is another one, lies elsewhere, or was written to. PyTorch counts writes, but
    not those through `tensor.data`; a sample of 64 elements shows these, unless they leave all 64 alone.
    `forget` after such a write if it may touch only a few elements.

    Only for tensors on the CPU and outside of compilers: elsewhere, and where a gradient is asked for, the
    value is computed at every call. Copies and pickles remember nothing.

    Example:
        >>> weight, double = torch.ones(2), FrozenValue()
        >>> kept = double.of([weight], lambda: 2 * weight)
        >>> double.of([weight], lambda: 2 * weight) is kept
        True
        >>> double.of([weight.mul_(3)], lambda: 2 * weight)
        tensor([6., 6.])
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[_Seen, ...], T] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def forget(self) -> None:
        """Compute the value anew at the next call."""
        self._kept = None

    def of(self, tensors: list[Tensor], compute: Callable[[], T]) -> T:
        """The value of `compute()`, which depends on `tensors` alone."""
        if not _can_keep(tensors):
            return compute()
        kept = self._kept  # read once: another thread may replace it
        if kept is not None and len(kept[0]) == len(tensors) and all(map(_unchanged, kept[0], tensors)):
            return kept[1]
        # normal tensors without a history, whatever mode the caller is in: they outlive it
        with torch.inference_mode(False), torch.no_grad():
            seen = tuple(map(_look, tensors))
            value = compute()
        self._kept = (seen, value)
        return value


def _can_keep(tensors: list[Tensor]) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    with_gradient = torch.is_grad_enabled()
    return all(
        type(t) in (Tensor, torch.nn.Parameter)
        and t.device.type == "cpu"
        and not t.is_inference()  # PyTorch does not count their writes
        and not (with_gradient and t.requires_grad)
        for t in tensors
    )


def _look(t: Tensor) -> _Seen:
    count = min(t.numel(), _SAMPLES)  # spread over the memory of a dense tensor
    elements = t.detach().as_strided((count,), (t.numel() // max(count, 1),))
    return _Seen(t, t.detach(), t._version, elements, elements.clone())


def _unchanged(seen: _Seen, t: Tensor) -> bool:
    return (
        seen.tensor is t
        and seen.writes == t._version
        and seen.alias.is_set_to(t)
        and torch.equal(seen.elements, seen.values)
    )
