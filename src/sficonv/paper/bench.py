"""`bench`: what SFIConv costs beside the vanilla network, measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import nn

from sficonv.models import create_model, list_models
from sficonv.nn import complexity
from sficonv.paper.timing import (
    Mode,
    Ratio,
    Setting,
    interleave,
    machine,
    matmul_ceiling,
    training_memory,
    work_of,
)
from sficonv.progress import progress_bar

if TYPE_CHECKING:
    from rich.console import Group

VANILLA = "vanilla"
Make = Callable[[], nn.Module]
T = TypeVar("T", int, float)


@dataclass(frozen=True)
class BenchRow:
    """One network beside the vanilla one.

    Args:
        alpha, beta: Of the SFIC network.
        mode: `"inference"`, or `"training"`: forward, backward and Adam.
        batch: Images per call.
        milliseconds, vanilla_milliseconds: Median time of a call.
        ratio: SFIC over vanilla within each round.
        images_per_second, vanilla_images_per_second: By the median time.
        ceiling_fraction: Floating-point operations per second over those of a bf16 matrix product; on CUDA.
        memory_ratio: Most memory in use during a training step, SFIC over vanilla; for training only.
    """

    alpha: float
    beta: float
    mode: Mode
    batch: int
    milliseconds: float
    vanilla_milliseconds: float
    ratio: Ratio
    images_per_second: float
    vanilla_images_per_second: float
    ceiling_fraction: float | None = None
    memory_ratio: float | None = None


@dataclass(frozen=True)
class BenchResult:
    """What `bench` measured.

    Args:
        model: The vanilla network.
        downsample: How it and the SFIC networks downsample.
        image_size: Side of the images in pixels.
        setting: Device, precision, memory format, compiler.
        machine: Processor, threads, versions, date.
        rows: One for each beta, mode and batch.
    """

    model: str
    downsample: str
    image_size: int
    setting: Setting
    machine: dict[str, str | int]
    rows: tuple[BenchRow, ...]

    def summary(self) -> Group:
        """A table for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        title = f"sfic_{self.model} beside {self.model}, both downsampling by {self.downsample}"
        columns = ("alpha", "beta", "mode", "batch", "vanilla, ms", "SFIC, ms", "ratio [quartiles]")
        table = Table(*columns, title=title)
        on_cuda = any(r.ceiling_fraction is not None for r in self.rows)
        with_memory = any(r.memory_ratio is not None for r in self.rows)
        for name, shown in (("images/s", True), ("of bf16 ceiling", on_cuda), ("memory ratio", with_memory)):
            if shown:
                table.add_column(name)
        for r in self.rows:
            cells = [f"{r.alpha:g}", f"{r.beta:g}", r.mode, str(r.batch), f"{r.vanilla_milliseconds:.1f}"]
            cells += [f"{r.milliseconds:.1f}", str(r.ratio), f"{r.images_per_second:.1f}"]
            if on_cuda:
                cells.append("" if r.ceiling_fraction is None else f"{r.ceiling_fraction:.1%}")
            if with_memory:
                cells.append("" if r.memory_ratio is None else f"{r.memory_ratio:.3f}")
            table.add_row(*cells)
        where = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        how = f"{self.image_size} px, {self.setting.dtype}"
        how += ", channels-last" * self.setting.channels_last + ", compiled" * self.setting.compile
        return Group(table, Text(f"{how}; {where}"))


def bench(
    model: str = "resnet26",
    *,
    alpha: float = 0.5,
    beta: str | Sequence[float] = "1,0.75,0.5,0.25",
    batch: str | Sequence[int] = "1,16",
    image_size: int = 256,
    device: str = "cpu",
    dtype: Literal["fp32", "bf16"] = "fp32",
    channels_last: bool = False,
    compile: bool = False,
    inference: bool = True,
    train: bool = False,
    rounds: int = 10,
) -> BenchResult:
    """Measure the speed of SFIC networks beside the vanilla network with the same downsampling.

    All of them run in one process, one after the other in every round, and ratios are taken within a round:
    so a machine that is busy with something else disturbs both sides alike. Weights and images are random.

    Args:
        model: A vanilla network that has an `sfic_` form, see `sficonv models 'sfic_*'`.
        alpha: Share of the channels in the frequency branch.
        beta: Resolutions of the frequency branch relative to the spatial one, separated by commas.
        batch: Batch sizes, separated by commas.
        image_size: Side of the images in pixels.
        device: `cpu` or `cuda`.
        dtype: `fp32`, or `bf16` for automatic mixed precision.
        channels_last: Lay out images and weights channels-last, which suits CPUs and tensor cores.
        compile: Run both sides through `torch.compile`.
        inference: Measure inference.
        train: Measure training steps: forward, backward and Adam, and the memory they need.
        rounds: How many times to measure everything.

    Returns:
        A `BenchResult` with a row for every beta, mode and batch.

    Raises:
        ValueError: If an argument is out of range, or the device is not there.

    Example:
        >>> bench(beta=[0.5], batch=[1], image_size=64, rounds=3).rows[0].ratio.median < 2
        True
    """
    betas, batches = _numbers("beta", beta, float), _numbers("batch", batch, int)
    _check(model, batches, image_size, device, rounds)
    setting = Setting(device, dtype, channels_last, compile)
    makes: dict[str, Make] = {
        f"{b:g}": partial(create_model, f"sfic_{model}", alpha=alpha, beta=b) for b in betas
    }
    networks = {name: make() for name, make in makes.items()}
    downsample = str(networks[f"{betas[0]:g}"].config.options["downsample"])  # type: ignore[union-attr,index]
    makes[VANILLA] = partial(create_model, model, downsample=downsample)
    networks[VANILLA] = makes[VANILLA]()
    operations = {name: 2 * complexity(network, image_size).macs for name, network in networks.items()}
    ceiling = matmul_ceiling(device) if torch.device(device).type == "cuda" else None
    networks = {name: setting.place(network) for name, network in networks.items()}
    modes: list[Mode] = ["inference"] if inference else []
    modes += ["training"] if train else []
    rows = []
    with progress_bar("measuring", len(modes) * len(batches) * (rounds + 1)) as advance:
        for mode, size in product(modes, batches):
            images = setting.images(size, image_size)
            works = {name: work_of(network, images, mode, setting) for name, network in networks.items()}
            times = interleave(works, rounds, device, advance)
            memory = None
            if mode == "training":
                memory = {n: training_memory(make, size, image_size, setting) for n, make in makes.items()}
            for value in betas:
                name = f"{value:g}"
                row = _row(alpha, value, mode, size, times[name], times[VANILLA])
                if ceiling:
                    passes = 3 if mode == "training" else 1
                    done = operations[name] * passes * row.images_per_second
                    row = replace(row, ceiling_fraction=done / ceiling)
                if memory:
                    row = replace(row, memory_ratio=memory[name] / memory[VANILLA])
                rows.append(row)
    return BenchResult(model, downsample, image_size, setting, machine(device), tuple(rows))


def _row(
    alpha: float, beta: float, mode: Mode, size: int, times: list[float], vanilla: list[float]
) -> BenchRow:
    seconds, vanilla_seconds = median(times), median(vanilla)
    return BenchRow(
        alpha=alpha,
        beta=beta,
        mode=mode,
        batch=size,
        milliseconds=1000 * seconds,
        vanilla_milliseconds=1000 * vanilla_seconds,
        ratio=Ratio.of(times, vanilla),
        images_per_second=size / seconds,
        vanilla_images_per_second=size / vanilla_seconds,
    )


def _numbers(name: str, given: str | Sequence[float], kind: type[T]) -> list[T]:
    """Numbers from "1,0.5" or from a sequence."""
    parts = given.split(",") if isinstance(given, str) else given
    try:
        numbers = [kind(part) for part in parts]
    except (TypeError, ValueError) as error:
        raise ValueError(f"bench: {name} must be numbers separated by commas, got {given!r}") from error
    if not numbers:
        raise ValueError(f"bench: {name} is empty")
    return numbers


def _check(model: str, batches: list[int], image_size: int, device: str, rounds: int) -> None:
    if f"sfic_{model}" not in list_models():
        known = ", ".join(name.removeprefix("sfic_") for name in list_models("sfic_*"))
        raise ValueError(f"bench: {model!r} has no sfic_ form to compare with; these have: {known}")
    for name, value in (("batch", min(batches)), ("image_size", image_size), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"bench: {name} must be positive, got {value}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # what torch raises where it was built without CUDA
        raise ValueError(f"bench: device={device!r} is not there: {str(error).splitlines()[0]}") from error
