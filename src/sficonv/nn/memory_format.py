"""The memory format that branches travel in.

On the CPU that is channels-last, whatever the format of the network around them: convolutions of small maps
are up to twice as fast in it (docs/performance.md). Elsewhere the format is the network's.
"""

from __future__ import annotations

import torch
from torch import Tensor


def on_plain_cpu(x: Tensor) -> bool:
    """Whether `x` lies on the CPU, and is not on its way into a compiler, which arranges memory by itself."""
    return x.is_cpu and not (torch.compiler.is_compiling() or torch.jit.is_tracing())


def for_branches(x: Tensor) -> Tensor:
    """`x` in the format that branches travel in; free where it has it already.

    Example:
        >>> for_branches(torch.randn(1, 8, 4, 4)).stride()
        (128, 1, 32, 8)
    """
    return x.contiguous(memory_format=torch.channels_last) if on_plain_cpu(x) else x


def for_network(x: Tensor, weight: Tensor) -> Tensor:
    """`x` in the format of the network around the branches, which a weight `(C_out, C_in, k, k)` of it shows.

    Example:
        >>> for_network(for_branches(torch.randn(1, 8, 4, 4)), torch.randn(8, 8, 1, 1)).stride()
        (128, 16, 4, 1)
    """
    return x.contiguous() if on_plain_cpu(x) and weight.stride(-1) == 1 else x


def format_of_blocks(weight: Tensor) -> torch.memory_format:
    """The format in which parts of a weight `(C_out, C_in, k, k)` meet the branches."""
    as_network = torch.contiguous_format if weight.is_contiguous() else torch.channels_last
    return torch.channels_last if on_plain_cpu(weight) else as_network
