"""Judge the public checkpoints of MesoNet and of the multi-task network on FaceForensics++ c23.

    python benchmarks/public_checkpoints.py PREPARED/ffpp CHECKPOINTS

CHECKPOINTS holds `mesonet/MesoInception_DF.h5`, `mesonet/mesoinception.pth`, `multitask/encoder_46.pt` and
`multitask/decoder_46.pt`. Nothing is trained or chosen here, so rows of every split are judged. Writes a
table into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn

from document import keep_rows, write_between
from sficonv.datasets.manifest import read_manifest
from sficonv.evaluation import judge, predict
from sficonv.paper.checkpoints.public import import_meso, import_multitask

METHODS = ("Deepfakes", "Face2Face", "FaceSwap")
START, END = (
    "<!-- public checkpoints: written by benchmarks/public_checkpoints.py -->",
    "<!-- end of public checkpoints -->",
)


class Closer(nn.Module):
    """A detector that sees the middle of each crop, as if it had been cut with a smaller margin."""

    def __init__(self, model: nn.Module, share: float) -> None:
        super().__init__()
        self.model, self.share, self.config = model, share, model.config

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        edge = round(side * (1 - self.share) / 2)
        middle = x[..., edge : side - edge, edge : side - edge]
        return self.model(F.interpolate(middle, size=(side, side), mode="bilinear", align_corners=False))


def rows_of(prepared: Path, per_video: int) -> pd.DataFrame:
    """The c23 crops, at equal distances in each video."""
    rows = read_manifest(prepared)
    rows = rows[rows["compression"] == "c23"].sort_values(["video_id", "frame"])
    order = rows.groupby("video_id").cumcount()
    step = rows.groupby("video_id")["path"].transform("size").floordiv(per_video).clip(lower=1)
    return rows[(order % step == 0) & (order // step < per_video)].reset_index(drop=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("--document", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--frames", type=int, default=8, help="crops per video")
    args = parser.parse_args()
    margin = json.loads((args.prepared / "prepare.json").read_text())["options"]["margin"]
    rows = rows_of(args.prepared, args.frames)
    meso, multitask = args.checkpoints / "mesonet", args.checkpoints / "multitask"
    found = {
        "Meso-Inception-4, authors' Keras weights (`MesoInception_DF.h5`)": import_meso(
            meso / "MesoInception_DF.h5"
        ),
        "Meso-Inception-4, PyTorch port (`mesoinception.pth`)": import_meso(meso / "mesoinception.pth"),
        "Multi-task (`encoder_46.pt`)": import_multitask(
            multitask / "encoder_46.pt", multitask / "decoder_46.pt"
        ),
    }
    lines = [f"| checkpoint | margin | {' | '.join(METHODS)} |", "|---" * (len(METHODS) + 2) + "|"]
    kept = []
    for name, (model, _) in found.items():
        for shown, detector in ((margin, model), (1.0, Closer(model, 1.0 / margin))):
            scored = predict(detector, rows, args.prepared)
            kept.append(scored[["label", "method", "video_id", "path", "p_fake"]])
            kept[-1] = kept[-1].assign(checkpoint=name, margin=shown)
            cells = []
            for method in METHODS:
                result = judge(scored[scored["method"].isin([method, "real"])], data=method)
                cells.append(f"{result.video['auc']} ({result.frame['auc'].value:.3f})")
            lines.append(f"| {name} | {shown} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    videos = rows.groupby("method")["video_id"].nunique()
    counts = ", ".join(f"{videos[method]} {method}" for method in ("real", *METHODS))
    text = (
        "Video AUC with its 95 % interval over videos (frame AUC in brackets), FaceForensics++ c23: "
        f"{counts} videos of 8 s, {args.frames} crops each; margin {margin} around YuNet's box, and the "
        "middle of the same crops as if cut with margin 1.0. "
        f"Machine: {platform.machine()}, {platform.system()}, CPU; torch {version('torch')}.\n\n"
        + "\n".join(lines)
    )
    keep_rows("public_checkpoints", pd.concat(kept))
    write_between(args.document, (START, END), [text])


if __name__ == "__main__":
    main()
