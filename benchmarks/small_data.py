"""Training and judging many models alike on small real data: what `results.py` and `detectors.py` share.

Every cell trains for one epoch and is judged at its end: nothing is selected, so the FaceForensics++
validation identities and Celeb-DF are both unseen. Finished cells are not run again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.evaluation.evaluate import evaluate
from sficonv.training import train

EXTRA = ("ffhq", "celeba", "london")
SETS = {
    "ffpp_c23": "FF++ c23 val",
    "ffpp_c40": "FF++ c40 val",
    "celebdf": "Celeb-DF (cross-dataset)",
}
FRAMES_JUDGED = 8


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    label: str
    model: str
    pretrained: bool
    options: dict[str, Any] = field(default_factory=dict)


def judged_rows(folder: Path, split: str, compression: str | None = None) -> pd.DataFrame:
    """Rows of one split with at most `FRAMES_JUDGED` evenly spaced crops per video."""
    rows = read_manifest(folder)
    rows = rows[rows["split"] == split]
    if compression:
        rows = rows[rows["compression"] == compression]
    rank = rows.groupby("video_id").cumcount()
    size = rows.groupby("video_id")["video_id"].transform("size")
    step = np.ceil(size / FRAMES_JUDGED).astype(int)
    return rows[rank % step == 0]


def make_data(prepared: Path, out: Path) -> dict[str, Path]:
    """Manifests for the runs: all training crops, and a few crops of each judged video."""
    ffpp = read_manifest(prepared / "ffpp")
    c23, c40 = (judged_rows(prepared / "ffpp", "val", c) for c in ("c23", "c40"))
    tables = {
        "train": pd.concat([ffpp[ffpp["split"] == "train"], c23]),
        "ffpp_c23": c23,
        "ffpp_c40": c40,
        "celebdf": judged_rows(prepared / "celebdf", "test"),
    }
    folders = {name: out / "data" / name for name in tables}
    for name, rows in tables.items():
        folders[name].mkdir(parents=True, exist_ok=True)
        crops = folders[name] / "crops"
        if not crops.is_symlink():
            crops.symlink_to((prepared / ("celebdf" if name == "celebdf" else "ffpp") / "crops").resolve())
        write_manifest(folders[name], rows.reset_index(drop=True))
    return folders


def run(cell: Cell, seed: int, out: Path, data: dict[str, Path], prepared: Path, args: Any) -> dict[str, Any]:
    started = time.time()
    trained = train(
        [data["train"], prepared / "crops128"],
        extra_data=[prepared / name for name in EXTRA],
        model=cell.model,
        model_options=cell.options,
        recipe="finetune",
        pretrained=cell.pretrained,
        lr=4e-4 if cell.pretrained else 1e-3,
        ema_decay=0.99,
        epochs=1,
        steps_per_epoch=args.steps,
        image_size=args.image_size,
        seed=seed,
        precision=args.precision,
        channels_last=True,
        out=out,
    )
    seconds = time.time() - started
    found: dict[str, Any] = {"seed": seed, "train_seconds": round(seconds, 1)}
    for name in SETS:
        split = "test" if name == "celebdf" else "val"
        result = evaluate(trained.weights, data[name], split=split, bootstrap=0)
        found[name] = {"video_auc": result.video["auc"].value, "frame_auc": result.frame["auc"].value}
    return found


def budget_folder(args: Any) -> Path:
    """Cells of another budget are other cells."""
    return args.out / f"{args.steps}x{args.image_size}"


def table(cells: dict[str, Cell], out: Path) -> list[str]:
    """Rows of the finished cells among `cells`, as a Markdown table; nothing if there are none."""
    lines = []
    for key, cell in cells.items():
        found = [json.loads(p.read_text()) for p in sorted(out.glob(f"{key}/seed*/result.json"))]
        if not found:
            continue
        columns = []
        for name in SETS:
            video, frame = ([run[name][f"{level}_auc"] for run in found] for level in ("video", "frame"))
            spread = f" ± {np.std(video, ddof=1):.3f}" if len(found) > 1 else ""
            columns.append(f"{np.mean(video):.3f}{spread} ({np.mean(frame):.3f})")
        lines.append(f"| {cell.label} | {len(found)} | " + " | ".join(columns) + " |")
    head = ["| model | seeds | " + " | ".join(SETS.values()) + " |", "|---" * (2 + len(SETS)) + "|"]
    return [*head, *lines, ""] if lines else []


def budget_text(args: Any) -> str:
    """What every cell was given, and how it was judged."""
    return (
        f"Budget of each cell: {args.steps} steps of 32 crops (16 pairs) at {args.image_size} px, "
        f"recipe `finetune`, {args.precision}, one epoch, no selection. Video AUC, mean ± standard deviation "
        f"over seeds (frame AUC in brackets); {FRAMES_JUDGED} crops per video at most. Machine: "
        f"{platform.machine()}, {platform.system()}, {os.cpu_count()} CPU cores; torch "
        f"{version('torch')}, timm {version('timm')}."
    )


def parse(description: str | None, cells: dict[str, Cell]) -> argparse.Namespace:
    """The options both scripts have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument("--document", type=Path, default=Path("benchmarks/measured/small_budgets.md"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--cells", nargs="+", default=list(cells), choices=list(cells))
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--precision", default="32-true", help="of every cell, as in `sficonv train`")
    return parser.parse_args()


def run_cells(cells: dict[str, Cell], args: argparse.Namespace) -> Iterator[Path]:
    """Run what is not finished, seed by seed; yields the folder of the cells after each, for the table."""
    logging.getLogger("sficonv").setLevel(logging.ERROR)
    data = make_data(args.prepared, args.out)
    budget = args.out / f"{args.steps}x{args.image_size}"  # cells of another budget are other cells
    for seed in args.seeds:
        for key in args.cells:
            folder = budget / key / f"seed{seed}"
            done = folder / "result.json"
            if not done.is_file():
                found = run(cells[key], seed, folder, data, args.prepared, args)
                done.write_text(json.dumps(found, indent=2) + "\n")
                scores = {name: round(found[name]["video_auc"], 3) for name in SETS}
                print(key, seed, scores, found["train_seconds"], flush=True)
            yield budget
