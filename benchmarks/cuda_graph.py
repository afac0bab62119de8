"""Kernels recorded once as a CUDA graph, which spares their launches."""

from __future__ import annotations

from collections.abc import Callable

import torch


def warm_up(work: Callable[[], object]) -> None:
    """Do the work once as it has to be done, three times or so, before it is recorded: on another stream."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)


def recorded(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """A graph of the work's kernels, which are not run by this; `replay` runs them on the same memory."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph
