"""Whether the input pipeline keeps a device busy: the loader alone beside the training step alone.

    python benchmarks/loader.py PREPARED/ffpp [--crops 768] [--workers 0,1,2] [--write]

Training rows of a prepared folder are read as `sficonv train` reads them (decoded, augmented, batches of 32
at 224 px), from single files and from tar shards, by the recipe `paper`. Nothing is done with the batches.
Recipes that forge faces are measured by `benchmarks/pairs.py`. The training step is measured alone, on one
batch that is always the same. `--write` writes the table in docs/training.md.

The clock of the loader starts at its first batch, so its processes' start does not count. Processor time (of
all processes, start included) is less disturbed by what else runs on the machine than wall time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from document import keep_rows, write_between
from prepare_throughput import processor_time
from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.datasets.shards import write_shards
from sficonv.models import create_model
from sficonv.paper.timing import Setting, interleave, machine, work_of
from sficonv.training.data import load_training_data, train_loader
from sficonv.training.recipes import Recipe

DOC = Path(__file__).resolve().parents[1] / "docs/training.md"
MARKERS = ("<!-- loader: written by benchmarks/loader.py -->", "<!-- end of loader -->")
BATCH, SIZE = 32, 224
MODELS = ("sfic_resnet26", "sfic_efficientnet_lite0")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--crops", type=int, default=768)
    parser.add_argument("--workers", type=lambda text: [int(x) for x in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="write the table into docs/training.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = subset(args.prepared, args.crops, Path(folder) / "files")
        shards = write_shards(files, shards=max(1, *args.workers))
        ways = {
            f"{name} | {workers}": (data, recipe, workers)
            for workers in args.workers
            for name, data, recipe in (
                ("files, `paper`", files, "paper"),
                ("shards, `paper`", shards, "paper"),
            )
        }
        speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for number in range(args.rounds):
            for name, way in ways.items():
                speeds[name].append(loader_alone(*way))
                print(
                    f"round {number + 1}: {name}: %.1f crops/s, %.1f per processor second" % speeds[name][-1]
                )
    trained = steps(args.device, args.rounds)
    text = table(speeds, trained, args)
    print(text)
    if args.write:
        rows = [
            {"what": name, "round": number, "crops_per_s": wall, "crops_per_processor_s": processor}
            for name, rounds in (*speeds.items(), *((f"step: {k}", v) for k, v in trained.items()))
            for number, (wall, processor) in enumerate(rounds)
        ]
        keep_rows("loader", rows)
        write_between(DOC, MARKERS, [text])


def subset(prepared: Path, crops: int, folder: Path) -> Path:
    """A prepared folder with some training rows of all videos, and as many for validation as must be."""
    rows = read_manifest(prepared)
    chosen = pd.concat(
        [
            rows[rows["split"] == "train"].sample(crops, random_state=0),
            rows[rows["split"] == "val"].groupby("label").head(1),
        ]
    )
    folder.mkdir()
    (folder / "crops").symlink_to((prepared / "crops").resolve())
    write_manifest(folder, chosen.reset_index(drop=True))
    return folder


def loader_alone(data: Path, recipe: str, workers: int) -> tuple[float, float]:
    """Crops per second of wall time, and of processor time, in one epoch."""
    began = processor_time()
    plan = Recipe.named(recipe, batch_size=BATCH, image_size=SIZE, sampling="shuffle")
    loader = train_loader(load_training_data([data]), plan, workers=workers)
    batches = iter(loader)
    seen = len(next(batches)[1])
    first, start = seen, time.perf_counter()
    for _, labels, _ in batches:
        seen += len(labels)
    wall = time.perf_counter() - start
    del batches, loader  # its processes end, and their times are known
    return (seen - first) / wall, seen / (processor_time() - began)


def steps(device: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Crops per second of wall time, and of processor time, of training steps; for each round."""
    works = {}
    for model in MODELS:
        for dtype in ("fp32", "bf16"):
            setting = Setting(device, dtype, channels_last=True)  # type: ignore[arg-type]
            work = work_of(
                create_model(model, image_size=SIZE), setting.images(BATCH, SIZE), "training", setting
            )
            works[f"`{model}`, {dtype}"] = work
    spent: dict[str, list[float]] = {name: [] for name in works}

    def timed(name: str) -> object:
        began = processor_time()
        result = works[name]()
        spent[name].append(processor_time() - began)
        return result

    walls = interleave({name: lambda name=name: timed(name) for name in works}, rounds, device)
    return {
        name: [(BATCH / w, BATCH / p) for w, p in zip(walls[name], spent[name][-rounds:], strict=True)]
        for name in works
    }


def table(
    speeds: dict[str, list[tuple[float, float]]],
    steps: dict[str, list[tuple[float, float]]],
    args: argparse.Namespace,
) -> str:
    rows = [
        "| loader alone | processes | crops/s | per processor second |",
        "|---|---:|---:|---:|",
    ]
    for name, measured in speeds.items():
        wall, processor = (statistics.median(column) for column in zip(*measured, strict=True))
        rows.append(f"| {name} | {wall:.0f} | {processor:.0f} |")
    rows += [
        "",
        f"| training step alone, {args.device} | crops/s | per processor second |",
        "|---|---:|---:|",
    ]
    for name, measured in steps.items():
        wall, processor = (statistics.median(column) for column in zip(*measured, strict=True))
        rows.append(f"| {name} | {wall:.1f} | {processor:.1f} |")
    about = machine(args.device)
    load = os.getloadavg()[0]
    rows += [
        "",
        f"{about['cpu']}, {len(os.sched_getaffinity(0))} core(s), {torch.get_num_threads()} thread(s) in the "
        f"step, torch {about['torch']}, {about['date']}. Batches of {BATCH} at {SIZE} px, channels last; "
        f"{args.crops} crops of FaceForensics++ stored as PNG of 256 px, in the page cache. Medians of "
        f"{args.rounds} rounds. The load of the machine was {load:.1f}: where it exceeds the cores, "
        "read the last column.",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
