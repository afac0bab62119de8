"""The shipped detector and a public MesoNet on damaged FaceForensics++ crops; writes docs/robustness.md.

    python benchmarks/robustness.py PREPARED/ffpp --mesonet CHECKPOINTS/mesonet/MesoInception_DF.h5

Judged are the c23 videos of the validation identities, which chose the shipped detector's epoch and
temperature: the clean figure is too good, and it is how far the others fall from it that is of interest.
Without `--mesonet` the shipped detector is judged alone. It can be interrupted: finished cells are kept.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from document import keep_rows, write_between
from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.evaluation.robustness import robustness
from sficonv.evaluation.robustness_result import RobustnessResult
from sficonv.models import save_weights
from sficonv.paper.checkpoints.public import import_meso
from sficonv.paper.timing import machine

MARKS = ("<!-- measured: written by benchmarks/robustness.py -->", "<!-- end of measured -->")
NAMES = {
    "sfic_efficientnet_lite0": "shipped detector",
    "meso_inception4": "Meso-Inception-4, authors' weights",
}


def c23_validation(prepared: Path, out: Path) -> Path:
    """A folder with the manifest of the judged rows beside a link to the crops."""
    rows = read_manifest(prepared)
    rows = rows[(rows["split"] == "val") & (rows["compression"] == "c23")].reset_index(drop=True)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "crops").is_symlink():
        (out / "crops").symlink_to((prepared / "crops").resolve())
    write_manifest(out, rows)
    return out


def imported(checkpoint: Path, out: Path) -> Path:
    """The public checkpoint as weights with a card."""
    model, entries = import_meso(checkpoint)
    return save_weights(out / "meso_inception4", model, entries)


def lines_of(result: RobustnessResult, args: argparse.Namespace) -> list[str]:
    """The text and the table."""
    names = [NAMES[model.model] for model in result.models]
    rows = [
        f"| {kind} | {level or ''} | {strength} | " + " | ".join(map(str, aucs)) + " |"
        for kind, level, strength, aucs in result.rows()
    ]
    where = machine()
    return [
        f"FaceForensics++ c23, validation identities: {result.videos} videos, {result.frames} crops (at most "
        f"{args.max_frames} a video, over 8 s), video AUC with 95 % intervals over videos, seed {args.seed}. "
        "The clean figure of the shipped detector is too good: these identities chose its epoch. "
        f"Budget: {result.frames} crops in each of {len(result.cells) // len(names)} cells. "
        f"Machine: {where['cpu']}, {where['threads']} thread{'' if where['threads'] == 1 else 's'}; "
        f"torch {where['torch']}; {where['date']}.",
        "",
        f"| corruption | level | strength | {' | '.join(names)} |",
        "|---" * (3 + len(names)) + "|",
        *rows,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--mesonet", type=Path, help="MesoInception_DF.h5 or mesoinception.pth")
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--document", type=Path, default=Path("docs/robustness.md"))
    parser.add_argument("--max-frames", type=int, default=4, help="crops per video")
    parser.add_argument("--levels", default="1,3,5")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    result = robustness(
        c23_validation(args.prepared, args.out / "data"),
        weights_b=imported(args.mesonet, args.out) if args.mesonet else None,
        split="val",
        levels=args.levels,
        max_frames=args.max_frames,
        seed=args.seed,
        out=args.out,
        report=args.out / "robustness.html",
    )
    names = {model.name: NAMES[model.model] for model in result.models}
    rows = [asdict(cell) | {"model": names[cell.model]} | cell.auc._asdict() for cell in result.cells]
    keep_rows("robustness", pd.DataFrame(rows).drop(columns="auc"))
    write_between(args.document, MARKS, lines_of(result, args))


if __name__ == "__main__":
    main()
