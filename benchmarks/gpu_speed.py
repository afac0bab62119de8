"""SFIC-ResNet26 beside vanilla ResNet26 on a GPU, in one or a few minutes of its time.

    PYTHONPATH=src:benchmarks python benchmarks/gpu_speed.py --out gpu_speed.jsonl --seconds 70

ResNet26 with average pooling, SFIC-ResNet26 at three points, and its literal form with four convolutions, in
bf16 autocast and channels-last. Three ways to run them: eager; the same operations as a CUDA graph; and
`torch.compile` (with CUDA graphs in inference, without where those fail). Three modes: inference (folded, as
`Detector` runs on a CPU, vanilla too), evaluation (as trained), training. The networks of a cell take turns
in every round; ratios are taken within a round, then the median.

One JSON object a line, written at once: the card and its bf16 ceiling, then every network of every cell, the
quick cells first. What fails leaves a line with its error and stops nothing else; what finds no time left
leaves a line that says so. `--device cpu --tiny` only shows that everything runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuda_graph import recorded, warm_up
from four_convolutions import four_convolutions
from sficonv.conversion.fold import fold
from sficonv.models import create_model
from sficonv.nn import SFIBatchNorm2d, SFIConv2d, SpaceFreq, complexity, frequency_size
from sficonv.paper.timing import Setting, training_step

VANILLA, FOUR = "vanilla", "four convolutions, beta 1"
POINTS = {"SFIC beta .5": (0.5, 0.5), "SFIC beta .25": (0.75, 0.25), "SFIC beta 1": (0.5, 1.0)}  # alpha, beta
NETWORKS = (VANILLA, *POINTS, FOUR)
CELLS = (
    ("eager", "inference", 128), ("eager", "inference", 1),
    ("graph", "inference", 128), ("graph", "inference", 1),
    ("eager", "evaluation", 128), ("eager", "evaluation", 1), ("eager", "training", 128),
    ("compiled", "inference", 128), ("compiled", "inference", 1), ("compiled", "training", 128),
)  # fmt: skip
Work = Callable[[], object]


@dataclass(frozen=True)
class Run:
    """Where and for how long is measured.

    Args:
        device: `"cuda"` or `"cpu"`.
        side: Of the images, in pixels.
        seconds: Until when new rounds are begun, from the start.
        rounds: At most so many a cell.
        batch: At most so many images.
        out: Where lines are written.
    """

    device: str
    side: int
    seconds: float
    rounds: int
    batch: int
    out: Path
    start: float

    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.start)

    def write(self, **row: Any) -> None:
        row["at_seconds"] = round(time.perf_counter() - self.start, 2)
        line = json.dumps(row)
        with self.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
        print(line, flush=True)

    def finish(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16)

    def place(self, x: Any) -> Any:
        return x.to(self.device, memory_format=torch.channels_last)

    def time(self, work: Work, calls: int = 1) -> float:
        """Seconds for a call."""
        self.finish()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        self.finish()
        return (time.perf_counter() - start) / calls

    def peak_memory(self, work: Work) -> int | None:
        """The most bytes that a call adds to what lives before it; without weights and Adam's state."""
        if self.device != "cuda":
            return None
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.finish()
        return torch.cuda.max_memory_allocated() - before


@dataclass(frozen=True)
class Network:
    """A network as it is trained, folded for inference, and its multiply-accumulates."""

    trained: nn.Module
    folded: nn.Module
    macs: int

    @classmethod
    def build(cls, run: Run, name: str) -> Network:
        torch.manual_seed(0)
        if name == VANILLA:
            network = create_model("resnet26", downsample="avgpool")
        else:
            alpha, beta = POINTS["SFIC beta 1" if name == FOUR else name]
            network = create_model("sfic_resnet26", alpha=alpha, beta=beta)
            network = four_convolutions(network, alpha, beta) if name == FOUR else network
        macs = complexity(network, run.side).macs
        return cls(run.place(network), run.place(fold(network)), macs)

    def of(self, mode: str) -> nn.Module:
        return self.folded if mode == "inference" else self.trained.train(mode == "training")


def work_of(run: Run, network: nn.Module, images: Tensor, mode: str, way: str, graphs: bool) -> Work:
    """One inference, or one training step with Adam."""
    called: Callable[[Tensor], Tensor] = network
    if way == "compiled":
        called = torch.compile(network, mode="reduce-overhead" if graphs else None)
    if mode == "training":
        return training_step(network, called, images, Setting(device=run.device, dtype="bf16"))

    def infer() -> Tensor:
        with torch.inference_mode(), run.precision():
            return called(images)

    return replayed(run, infer) if way == "graph" else infer


def replayed(run: Run, work: Work) -> Work:
    """The operations of a work as one CUDA graph."""
    if run.device != "cuda":
        raise ValueError("CUDA graphs need a GPU")
    for _ in range(3):
        warm_up(work)
    return recorded(work).replay


def started(
    run: Run, name: str, network: nn.Module, images: Tensor, mode: str, way: str
) -> tuple[Work, dict]:
    """A work that has run, and what that took; without CUDA graphs where they fail."""
    with_graphs = way == "compiled" and mode == "inference" and run.device == "cuda"
    for graphs in (True, False) if with_graphs else (False,):
        try:
            work = work_of(run, network, images, mode, way, graphs)
            first = run.time(work)
            run.time(work, 3)
            return work, {"cuda_graphs": graphs or way == "graph", "first_call_seconds": round(first, 2)}
        except Exception as error:
            failed = error
            run.write(
                kind="failed", network=name, mode=mode, way=way, cuda_graphs=graphs, error=reason(error)
            )
    raise failed


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def measure(
    run: Run, networks: dict[str, Network], way: str, mode: str, batch: int, ceiling: float, stop_at: float
) -> None:
    """One cell: all networks, in turns; what begins when less than `stop_at` seconds are left is left out."""
    batch = min(batch, run.batch)
    images = run.place(torch.randn(batch, 3, run.side, run.side))
    cell: dict[str, Any] = {"way": way, "mode": mode, "batch": batch}
    works: dict[str, Work] = {}
    facts: dict[str, dict[str, Any]] = {}
    longest = 0.0
    for name, network in networks.items():
        if way == "compiled" and name == FOUR:
            continue
        if run.left() < stop_at + longest:
            run.write(kind="no time left", network=name, **cell)
            continue
        before = run.left()
        try:
            works[name], facts[name] = started(run, name, network.of(mode), images, mode, way)
            facts[name] |= {"macs": network.macs, "added_bytes": run.peak_memory(works[name])}
        except Exception as error:
            works.pop(name, None)
            run.write(kind="failed", network=name, **cell, error=reason(error))
        longest = max(longest, before - run.left())
    if not works:
        return
    calls = {name: max(1, min(20, int(0.03 / max(run.time(work), 1e-4)))) for name, work in works.items()}
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(run.rounds):
        if run.left() < stop_at and number >= 3:
            break
        names = list(works)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            times[name].append(run.time(works[name], calls[name]))
    passes = 3 if mode == "training" else 1
    for name, seconds in times.items():
        middle = median(seconds)
        row = {
            "kind": "network", "network": name, **cell, "side": run.side, "ms": round(1000 * middle, 4),
            "images_per_second": round(batch / middle, 1), "rounds": len(seconds),
            "share_of_ceiling": round(2 * passes * facts[name]["macs"] * batch / middle / ceiling, 4),
            **facts[name],
        }  # fmt: skip
        if VANILLA in times:
            each = [a / b for a, b in zip(seconds, times[VANILLA], strict=True)]
            low, mid, high = quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
            row["to_vanilla"], row["quartiles"] = round(mid, 4), [round(low, 4), round(high, 4)]
            row["macs_to_vanilla"] = round(facts[name]["macs"] / facts[VANILLA]["macs"], 4)
        run.write(**row)


class Layer(nn.Module):
    """A convolution with its normalisation and activation."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, *x: Tensor) -> list[Tensor]:
        y = self.norm(self.conv(x[0] if len(x) == 1 else SpaceFreq(*x)))
        return [F.relu(branch) for branch in ([y] if isinstance(y, Tensor) else y)]


def measure_layer(run: Run, channels: int, side: int, kernel: int, alpha: float, beta: float) -> None:
    """Stage 2 in evaluation beside a vanilla layer, to see where a network's time goes."""
    batch = min(128, run.batch)
    conv = SFIConv2d(
        channels,
        channels,
        kernel,
        padding=kernel // 2,
        bias=False,
        alpha_in=alpha,
        alpha_out=alpha,
        beta=beta,
    )
    low = frequency_size(side, beta)
    layers = {
        "vanilla": (
            Layer(
                nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(channels),
            ),
            [torch.randn(batch, channels, side, side)],
        ),
        "stage 2": (
            Layer(conv, SFIBatchNorm2d(channels, conv.fre_out)),
            [torch.randn(batch, conv.spa_in, side, side), torch.randn(batch, conv.fre_in, low, low)],
        ),
    }
    row: dict[str, Any] = {}
    for name, (layer, x) in layers.items():
        layer, given = run.place(layer.eval()), [run.place(t) for t in x]

        def work(layer: Any = layer, given: list[Tensor] = given) -> None:
            with torch.inference_mode(), run.precision():
                layer(*given)

        run.time(work, 3)
        row[f"{name} ms"] = round(1000 * min(run.time(work, 10) for _ in range(3)), 4)
    row["to_vanilla"] = round(row["stage 2 ms"] / row["vanilla ms"], 4)
    run.write(
        kind="layer",
        channels=channels,
        side=side,
        kernel=kernel,
        alpha=alpha,
        beta=beta,
        batch=batch,
        **row,
    )


def bf16_ceiling(run: Run) -> float:
    """The fastest bf16 matrix product, in operations per second."""
    side = 8192 if run.device == "cuda" else 256
    a = torch.randn(side, side, device=run.device, dtype=torch.bfloat16)
    run.time(lambda: a @ a, 3)
    return 2 * side**3 / min(run.time(lambda: a @ a) for _ in range(10))


def tidy(run: Run) -> None:
    gc.collect()
    torch._dynamo.reset()
    if run.device == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=70, help="of the whole run")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tiny", action="store_true", help="2 images of 64 px")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(
        args.device, 64 if args.tiny else 256, args.seconds, args.rounds, 2 if args.tiny else 128, args.out,
        time.perf_counter(),
    )  # fmt: skip
    torch.backends.cudnn.benchmark = True
    ceiling = bf16_ceiling(run)
    card = torch.cuda.get_device_name() if run.device == "cuda" else platform.processor()
    run.write(
        kind="machine", card=card, torch=torch.__version__, ceiling_tflops=round(ceiling / 1e12, 1),
        date=time.strftime("%Y-%m-%d"), dtype="bf16 autocast", memory_format="channels-last",
    )  # fmt: skip
    networks: dict[str, Network] = {}
    for name in NETWORKS:
        try:
            networks[name] = Network.build(run, name)
        except Exception as error:
            run.write(kind="failed", network=name, error=reason(error))
    run.write(kind="built", networks=list(networks))
    for number, (way, mode, batch) in enumerate(CELLS):
        if way == "compiled" and not any(w == "compiled" for w, *_ in CELLS[:number]):
            measure_layers(run, args.tiny)
        # what is left is shared among the cells to come; compilation takes most of it
        weights = [6 if w == "compiled" else 1 for w, *_ in CELLS[number:]]
        try:
            measure(run, networks, way, mode, batch, ceiling, run.left() * (1 - weights[0] / sum(weights)))
        except Exception as error:
            run.write(kind="failed", mode=mode, batch=batch, way=way, error=reason(error))
        tidy(run)
    run.write(kind="finished")


def measure_layers(run: Run, tiny: bool) -> None:
    """Single layers, eager."""
    for kernel, (alpha, beta) in product((1, 3), ((0.5, 0.5), (0.75, 0.25))):
        try:
            measure_layer(run, 64, 8 if tiny else 64, kernel, alpha, beta)
        except Exception as error:
            run.write(kind="failed", layer=kernel, beta=beta, error=reason(error))


if __name__ == "__main__":
    main()
