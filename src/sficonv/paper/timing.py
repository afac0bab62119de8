"""Time several networks side by side in one process, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Work = Callable[[], object]
Mode = Literal["inference", "training"]
_SHORTEST = 0.02  # seconds: below it a single timing would measure the clock and the launch


@dataclass(frozen=True)
class Setting:
    """How networks are run.

    Args:
        device: `"cpu"`, `"cuda"` or any other of PyTorch's.
        dtype: `"fp32"`, or `"bf16"` for automatic mixed precision.
        channels_last: Whether images and weights lie in memory channel by channel within each pixel.
        compile: Whether networks go through `torch.compile`.
    """

    device: str = "cpu"
    dtype: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False

    def precision(self) -> AbstractContextManager[object]:
        """The autocast context of a forward pass."""
        kind = torch.device(self.device).type
        return nullcontext() if self.dtype == "fp32" else torch.autocast(kind, torch.bfloat16)

    def place(self, module: nn.Module) -> nn.Module:
        """Move a network to the device, in the memory format."""
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module

    def images(self, batch: int, size: int) -> Tensor:
        """Random images `(batch, 3, size, size)`, the same at every call."""
        made = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(self.device)
        return made.contiguous(memory_format=torch.channels_last) if self.channels_last else made


@dataclass(frozen=True)
class Ratio:
    """A ratio of two times: median over the rounds, and the quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, times: list[float], base: list[float]) -> Ratio:
        """From times of the same rounds.

        Example:
            >>> Ratio.of([1.0, 3.0, 2.0], [2.0, 2.0, 2.0]).median
            1.0
        """
        each = [t / b for t, b in zip(times, base, strict=True)]
        if len(each) == 1:
            return cls(each[0], each[0], each[0])
        low, median, high = statistics.quantiles(each, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def work_of(model: nn.Module, images: Tensor, mode: Mode, setting: Setting) -> Work:
    """One inference, or one training step (forward, backward, Adam), of a network on its device.

    Args:
        model: Takes `(B, 3, H, W)`, returns logits `(B, classes)`; put into the mode's state.
        images: Its input `(B, 3, H, W)`.
        mode: `"inference"` or `"training"`.
        setting: Precision, and whether to compile.

    Returns:
        A function without arguments.
    """
    model = model.train(mode == "training")
    run: Callable[[Tensor], Tensor] = torch.compile(model) if setting.compile else model

    def infer() -> Tensor:
        with torch.inference_mode(), setting.precision():
            return run(images)

    return infer if mode == "inference" else training_step(model, run, images, setting)


def training_step(
    model: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor, setting: Setting
) -> Work:
    """Forward, backward and Adam.

    Args:
        model: The network that is trained, in training mode.
        run: What is called for its logits: the network itself, or what a compiler made of it.
        images: Its input `(B, 3, H, W)`.
        setting: For the precision.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    labels = torch.arange(len(images), device=images.device) % 2

    def step() -> None:
        optimizer.zero_grad()
        with setting.precision():
            loss = F.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()

    return step


def finish(device: str) -> None:
    """Wait until the device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def interleave(
    works: Mapping[str, Work], rounds: int, device: str = "cpu", after_round: Work = lambda: None
) -> dict[str, list[float]]:
    """Do every work once in every round, in turning order, and take the times.

    Args:
        works: Functions by name.
        rounds: How often.
        device: Where they run; it is waited for.
        after_round: Called after the warm-up and after each round, for a progress bar.

    Returns:
        Seconds per call, one for each round, by name. Very short works are called several times a round.

    Example:
        >>> sorted(interleave({"a": lambda: None, "b": lambda: None}, rounds=2))
        ['a', 'b']
    """

    def timed(work: Work, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        finish(device)
        return (time.perf_counter() - start) / calls

    calls = {}
    for name, work in works.items():
        timed(work, 1)  # compiles, allocates, makes the optimiser's state
        calls[name] = math.ceil(_SHORTEST / max(timed(work, 1), _SHORTEST / 1000))
    after_round()
    times: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for index in range(rounds):
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            times[name].append(timed(works[name], calls[name]))
        after_round()
    return times


def training_memory(make: Callable[[], nn.Module], batch: int, size: int, setting: Setting) -> int:
    """The most bytes that live at once during a training step: weights, gradients, Adam's state, activations.

    On the CPU the storages of all tensors are followed (`MemTracker` of PyTorch); scratch memory inside an
    operator is not seen. On CUDA the allocator is asked.

    Args:
        make: Builds the network.
        batch: Images per step.
        size: Their side in pixels.
        setting: Where and how; `compile` plays no part.

    Returns:
        Bytes at the peak of the second step.
    """
    if torch.device(setting.device).type == "cuda":
        before = torch.cuda.memory_allocated(setting.device)
        model = setting.place(make())
        work = work_of(model, setting.images(batch, size), "training", _eager(setting))
        work()
        torch.cuda.reset_peak_memory_stats(setting.device)
        work()
        return torch.cuda.max_memory_allocated(setting.device) - before
    from torch.distributed._tools.mem_tracker import MemTracker

    model = setting.place(make())
    images = setting.images(batch, size)
    work = work_of(model, images, "training", _eager(setting))
    work()
    tracker = MemTracker()
    tracker.track_external(model, images)
    with tracker:
        work()
    peak = tracker.get_tracker_snapshot("peak")
    return sum(int(found["Total"]) for found in peak.values())


def _eager(setting: Setting) -> Setting:
    return Setting(setting.device, setting.dtype, setting.channels_last)


def matmul_ceiling(device: str, side: int = 8192) -> float:
    """The fastest bf16 matrix product that this device gives, in floating-point operations per second."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    times = interleave({"product": lambda: a @ a}, rounds=20, device=device)["product"]
    return 2 * side**3 / min(times)


def machine(device: str = "cpu") -> dict[str, str | int]:
    """What the figures depend on: processor, threads, versions, date."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((x.split(":")[1].strip() for x in lines if "model name" in x), platform.processor())
    found: dict[str, str | int] = {
        "cpu": cpu or platform.machine(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found
