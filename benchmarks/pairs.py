"""How many pairs a second the device makes, alone and in training, beside the loader of single crops.

    python benchmarks/pairs.py PREPARED [--crops 512] [--device cuda] [--precision bf16-mixed] [--write]

Rows of the split `train` of a prepared folder. Measured, each for some seconds and several times in turn:

- the pipeline alone, with the crops in memory and with crops that are decoded as they are drawn;
- the loader of single crops of the recipe `paper`, with as many processes as `--workers`;
- training steps of SFIC-EfficientNet-Lite0 on pairs: making them, forward, backward and optimiser.

Two images make a pair; all figures are images per second. Raw rows go to `benchmarks/measured/pairs.csv`;
`--write` puts the table into docs/training.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from document import keep_rows, write_between
from loader import subset
from sficonv.models import create_model, to_input
from sficonv.paper.timing import machine
from sficonv.training.data import load_training_data, train_loader
from sficonv.training.pair_data import pair_data
from sficonv.training.recipes import Recipe

ROOT = Path(__file__).resolve().parents[1]
MARKERS = ("<!-- pairs: written by benchmarks/pairs.py -->", "<!-- end of pairs -->")
MODEL = "sfic_efficientnet_lite0"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--crops", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64, help="images")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table into docs/training.md")
    args = parser.parse_args()
    about = {
        **machine(args.device),
        "threads": torch.get_num_threads(),
        "batch": args.batch,
        "size": args.size,
    }
    ways = measured_ways(args)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    rows = []
    for number in range(args.rounds):
        for name, step in ways.items():
            speed = images_per_second(step, args)
            speeds[name].append(speed)
            row = {"what": name, "round": number, "images_per_second": round(speed, 2), **about}
            rows.append({**row, "load": round(os.getloadavg()[0], 1)})
            print(f"round {number + 1}: {name}: {speed:.1f} images/s", flush=True)
    text = table(speeds, about, args)
    print(text)
    if args.write:
        keep_rows("pairs", rows)
        write_between(ROOT / "docs/training.md", MARKERS, [text])


def measured_ways(args: argparse.Namespace) -> dict[str, Callable[[], int]]:
    """What is measured: each does one batch and says how many images it had."""
    import tempfile

    folder = subset(args.prepared, args.crops, Path(tempfile.mkdtemp()) / "files")
    data = load_training_data([folder])
    device = torch.device(args.device)
    recipe = Recipe.named("finetune", batch_size=args.batch, image_size=args.size)
    held = pair_data(data, recipe, device=device).maker
    streamed = pair_data(data, recipe, device=device, memory=0.0).maker
    singles = Recipe.named("paper", batch_size=args.batch, image_size=args.size)
    loader = train_loader(data, singles, steps_per_epoch=100_000, workers=args.workers)
    batches = iter(loader)
    steps = iter(range(10**9))

    def single() -> int:
        return len(next(batches)[1])

    def made(maker: object) -> Callable[[], int]:
        return lambda: len(maker.batch(next(steps)).labels)  # type: ignore[attr-defined]

    return {
        "pairs alone, crops in memory": made(held),
        "pairs alone, crops decoded as they are drawn": made(streamed),
        f"loader of single crops, {args.workers} process(es)": single,
        f"training of `{MODEL}` on pairs": training(held, args, steps),
    }


def training(maker: object, args: argparse.Namespace, steps: object) -> Callable[[], int]:
    model = (
        create_model(MODEL, image_size=args.size).to(args.device, memory_format=torch.channels_last).train()
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    mixed = args.precision == "bf16-mixed"

    def step() -> int:
        made = maker.batch(next(steps))  # type: ignore[attr-defined,call-overload]
        x = to_input(made.images.to(torch.uint8), model.config)  # type: ignore[arg-type]
        with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=mixed):
            loss = F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), made.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return len(made.labels)

    return step


def images_per_second(step: Callable[[], int], args: argparse.Namespace) -> float:
    """Of so many seconds, after one batch that does not count."""
    step()
    wait(args.device)
    start, seen = time.perf_counter(), 0
    while time.perf_counter() - start < args.seconds:
        seen += step()
        wait(args.device)
    return seen / (time.perf_counter() - start)


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def table(speeds: dict[str, list[float]], about: dict[str, object], args: argparse.Namespace) -> str:
    rows = [f"| {args.device}, {args.precision} | images/s |", "|---|---:|"]
    rows += [f"| {name} | {statistics.median(values):.1f} |" for name, values in speeds.items()]
    rows += [
        "",
        f"{about.get('gpu') or about['cpu']}, {about['threads']} thread(s), torch {about['torch']}, "
        f"{about['date']}; batches of {args.batch} images of {args.size} px from {args.crops} crops, medians "
        f"of {args.rounds} rounds. Load of the machine {os.getloadavg()[0]:.1f}: where that exceeds the "
        "cores, compare the rows only with each other.",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
