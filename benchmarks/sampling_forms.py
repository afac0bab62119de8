"""Three ways to compute a 3 x 3 convolution only where resizing at beta = 3/4 keeps it; used by `speed.py`.

Nearest resizing at beta = 3/4 keeps three of every four rows and columns, so 9/16 of the outputs. All three
ways give them; the library uses the one that is fastest here.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from sficonv.nn.sampling import sampled_conv2d
from sficonv.paper.timing import Ratio, interleave

Form = Callable[[Tensor, Tensor], Tensor]


def whole(x: Tensor, weight: Tensor) -> Tensor:
    """Everything is computed, then selected: what the library does."""
    return sampled_conv2d(x, weight, None, _kept(x), padding=(1, 1))


def residues(x: Tensor, weight: Tensor) -> Tensor:
    """Nine convolutions of stride 4, one for each pair of residues, interleaved: 9/16 of the products."""
    x, size = F.pad(x, (1, 2, 1, 2)), _kept(x)
    rows = []
    for i in range(3):
        parts = [F.conv2d(x[:, :, i:, j:], weight, stride=4) for j in range(3)]
        parts = [p[:, :, : size[0] // 3, : size[1] // 3] for p in parts]
        rows.append(torch.stack(parts, -1).flatten(-2))
    return torch.stack(rows, -2).flatten(-3, -2)


def gather(x: Tensor, weight: Tensor) -> Tensor:
    """The 3 x 3 windows of the kept positions side by side, read with stride 3: 9/16 of the products."""
    size = _kept(x)
    x = F.pad(x, (1, 1, 1, 1))
    for axis in (-2, -1):
        first = torch.arange(size[axis]) * 4 // 3
        x = x.index_select(axis, (first[:, None] + torch.arange(3)).flatten())
    return F.conv2d(x, weight, stride=3)


FORMS: dict[str, Form] = {"whole, then select": whole, "9 residues": residues, "gather": gather}


def _kept(x: Tensor) -> tuple[int, int]:
    return x.shape[-2] * 3 // 4, x.shape[-1] * 3 // 4


def compare(batch: int, channels: int, side: int, channels_last: bool, rounds: int) -> dict[str, dict]:
    """Times of the forward pass, and of forward and backward, of every form."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(batch, channels, side, side).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=layout).requires_grad_()
    found = {}
    for what, backward in (("forward", False), ("forward and backward", True)):
        works = {}
        for name, form in FORMS.items():
            assert torch.allclose(form(x, weight), whole(x, weight), atol=1e-3), name

            def work(form: Form = form, backward: bool = backward) -> None:
                with torch.set_grad_enabled(backward):
                    y = form(x, weight)
                if backward:
                    torch.autograd.grad(y, (x, weight), torch.ones_like(y))

            works[name] = work
        times = interleave(works, rounds)
        base = times["whole, then select"]
        found[what] = {
            name: {"milliseconds": 1000 * median(t), "ratio": Ratio.of(t, base).median}
            for name, t in times.items()
        }
    return found
