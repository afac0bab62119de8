"""How fast folded and exported detectors are, and what 16 and 8 bits cost; writes docs/deploy.md.

    python benchmarks/deploy.py PREPARED --out runs/deploy

PREPARED holds the prepared folders `ffpp` and `celebdf` (README of this folder: how they are made).

Speed: every form of the same network takes the same 8-bit images and gives P(fake), in one process with the
same number of threads, one after the other in every round. The ratio to eager vanilla ResNet26 is taken
within each round; the median over rounds is printed.

Accuracy: the shipped detector, exported in every precision, against PyTorch. INT8 is calibrated on FF++
training and validation crops. Celeb-DF decides nothing here: it is only measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

import sficonv
from document import keep_rows, write_between
from sficonv.card import Calibration
from sficonv.datasets.crops import read_crop
from sficonv.datasets.manifest import read_manifest
from sficonv.deploy import open_exported
from sficonv.deploy.export import export
from sficonv.deploy.graph import EndToEnd
from sficonv.media.resize import resize

Run = Callable[[np.ndarray], np.ndarray]
ALPHA = {1.0: 0.5, 0.5: 0.5, 0.25: 0.75}  # by beta, as the paper's rows
BASE = "vanilla ResNet26, eager"
FILES: dict[str, dict[str, Any]] = {
    "fp32.onnx": {},
    "fp16.onnx": {"precision": "fp16"},
    "fp32.xml": {},
    "fp16.xml": {"precision": "fp16"},
    "int8.xml": {"precision": "int8"},
}
NAMES = {
    "fp32.onnx": "ONNX Runtime",
    "fp16.onnx": "ONNX Runtime, 16-bit weights",
    "fp32.xml": "OpenVINO",
    "fp16.xml": "OpenVINO, 16-bit weights",
    "int8.xml": "OpenVINO, INT8",
}
SETS = {
    "FF++ c23, validation": ("ffpp", "val", "c23"),
    "FF++ c40, validation": ("ffpp", "val", "c40"),
    "Celeb-DF v2": ("celebdf", "test", None),
}


def export_all(weights: str | Path, out: Path, calibration: Path, names: list[str]) -> None:
    """Export what is not there yet."""
    for name in names:
        if not (out / name).is_file():
            int8 = {"calibration_data": calibration} if "int8" in name else {}
            print(export(weights, out=out / name, **FILES[name], **int8), flush=True)


def eager(model: torch.nn.Module) -> Run:
    scorer = EndToEnd(model.eval(), model.config, Calibration()).eval()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return scorer(torch.from_numpy(images)).numpy()

    return run


def runs(out: Path, calibration: Path, beta: float, threads: int) -> dict[str, Run]:
    """Every form of SFIC-ResNet26 at one beta, and eager vanilla ResNet26."""
    torch.manual_seed(0)
    model = sficonv.create_model("sfic_resnet26", alpha=ALPHA[beta], beta=beta).eval()
    folder = out / f"sfic_resnet26-beta{beta:g}"
    weights = sficonv.save_weights(folder / "weights.safetensors", model)
    names = ["fp32.onnx", "fp32.xml", "int8.xml"]
    export_all(weights, folder, calibration, names)
    found = {
        BASE: eager(sficonv.create_model("resnet26")),
        "eager": eager(model),
        "folded, eager": eager(sficonv.fold(model)),
    }
    return found | {f"folded, {NAMES[n]}": open_exported(folder / n, threads=threads) for n in names}


def measure_speed(forms: dict[str, Run], batch: int, rounds: int) -> pd.DataFrame:
    """Milliseconds per image: one row per round, one column per form."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, 256, 256, 3), np.uint8)
    for run in forms.values():
        run(images)
    rows = []
    for _ in range(rounds):
        row = {}
        for name, run in forms.items():
            start = time.perf_counter()
            run(images)
            row[name] = (time.perf_counter() - start) * 1000 / batch
        rows.append(row)
    return pd.DataFrame(rows)


def speed_table(args: argparse.Namespace) -> list[str]:
    lines, kept = [], []
    for beta in args.betas:
        forms = runs(args.out, args.prepared / "ffpp", beta, args.threads)
        plan = {1: args.rounds, 16: max(1, args.rounds // 5)}
        times = {batch: measure_speed(forms, batch, rounds) for batch, rounds in plan.items()}
        for batch, each in times.items():
            long = each.rename_axis("round").reset_index().melt("round", var_name="form", value_name="ms")
            kept.append(long.assign(alpha=ALPHA[beta], beta=beta, batch=batch))
            keep_rows("deploy_speed", pd.concat(kept))
        lines += [
            f"SFIC-ResNet26, alpha = {ALPHA[beta]:g}, beta = {beta:g}:",
            "",
            "| form | batch 1, ms | ratio | batch 16, ms per image | ratio |",
            "|---|---|---|---|---|",
        ]
        for name in forms:
            cells = []
            for table in times.values():
                ratio = (table[name] / table[BASE]).median()
                cells += [f"{table[name].median():.1f}", f"{ratio:.2f}"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
        lines.append("")
    return [*lines, machine(args.threads)]


def machine(threads: int) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((x.split(":")[1].strip() for x in lines if "model name" in x), platform.processor())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "nncf"))
    return (
        f"Machine: {cpu}, {platform.system()}; {threads} thread{'s' * (threads != 1)} for every form; "
        f"256 px, preprocessing included; {versions}. "
        "Ratio: to eager vanilla ResNet26 in the same round, median over rounds."
    )


def read_set(prepared: Path, name: str, most: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops and labels of one set; at most `most`, drawn once."""
    folder, split, compression = SETS[name]
    rows = read_manifest(prepared / folder)
    rows = rows[rows["split"] == split]
    if compression:
        rows = rows[rows["compression"] == compression]
    rows = rows.sample(min(most, len(rows)), random_state=0)
    crops = [resize(read_crop(prepared / folder / path), (side, side)) for path in rows["path"]]
    return np.stack(crops), rows["label"].to_numpy()


def accuracy_table(args: argparse.Namespace) -> list[str]:
    detector = sficonv.Detector.from_pretrained("default", device="cpu")
    folder = args.out / detector.name
    export_all("default", folder, args.prepared / "ffpp", list(FILES))
    sets = {name: read_set(args.prepared, name, args.crops, detector.crop_size) for name in SETS}
    expected = {name: detector.scores(list(crops)) for name, (crops, _) in sets.items()}
    areas = " / ".join(f"{roc_auc_score(sets[name][1], expected[name]):.3f}" for name in SETS)
    lines = [
        f"{args.crops} crops each of {'; '.join(SETS)} (in this order); \\|dP\\| over all of them.",
        "",
        "| file | MB | largest \\|dP\\| | mean \\|dP\\| | AUC | other verdict |",
        "|---|---|---|---|---|---|",
        f"| PyTorch | | | | {areas} | |",
    ]
    kept = pd.concat(
        pd.DataFrame({"set": name, "label": labels, "PyTorch": expected[name]})
        for name, (_, labels) in sets.items()
    )
    for file in FILES:
        model = open_exported(folder / file, threads=args.threads)
        found, differences, aucs, flips = [], [], [], []
        for name, (crops, labels) in sets.items():
            scores = np.concatenate([model(crops[i : i + 16]) for i in range(0, len(crops), 16)])
            found.append(scores)
            pairs = zip(scores, expected[name], strict=True)
            differences.append(np.abs(scores - expected[name]))
            aucs.append(f"{roc_auc_score(labels, scores):.3f}")
            flips.append(f"{np.mean([detector.verdict(a) != detector.verdict(b) for a, b in pairs]):.1%}")
        difference = np.concatenate(differences)
        keep_rows("deploy_scores", kept := kept.assign(**{NAMES[file]: np.concatenate(found)}))
        size = json.loads((folder / f"{file}.json").read_text())["file"]["megabytes"]
        lines.append(
            f"| {NAMES[file]} | {size:.1f} | {difference.max():.1e} | {difference.mean():.1e} | "
            f"{' / '.join(aucs)} | {' / '.join(flips)} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/deploy"))
    parser.add_argument("--document", type=Path, default=Path("docs/deploy.md"))
    parser.add_argument("--betas", type=float, nargs="+", choices=ALPHA, default=list(ALPHA))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50, help="at batch 1; a fifth of them at batch 16")
    parser.add_argument("--crops", type=int, default=400, help="of each set")
    parser.add_argument("--only", choices=["speed", "accuracy"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for what, table in (("speed", speed_table), ("accuracy", accuracy_table)):
        if args.only in (None, what):
            marks = f"<!-- {what}: written by benchmarks/deploy.py -->", f"<!-- end of {what} -->"
            write_between(args.document, marks, table(args))


if __name__ == "__main__":
    main()
