"""How the score of real faces depends on how closely they are cut; writes the table in docs/results.md.

    python benchmarks/framing.py PREPARED --before EARLIER.safetensors

PREPARED holds the prepared folders of `detector_data.py`. Crops of validation people are magnified around
their middle, and the median of the uncalibrated log-odds of "fake" is taken. Raw rows:
`measured/framing.csv`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn

from detector_data import SIZE
from device_training import Normalise
from document import write_between
from publish_detector import NAMES, WEIGHTS, read_weights
from sficonv.datasets.crops import read_crop
from sficonv.datasets.manifest import read_manifest

ROWS = Path(__file__).parent / "measured" / "framing.csv"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
MARKS = "<!-- framing: written by benchmarks/framing.py -->", "<!-- end of framing -->"
SOURCES, ITEMS, ZOOMS = ("celeba", "ffhq", "utkface", "dfdc"), 60, (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


def magnified(crop: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of a crop `(H, W, 3)` at `SIZE` pixels."""
    side = round(min(crop.shape[:2]) / zoom)
    top, left = (crop.shape[0] - side) // 2, (crop.shape[1] - side) // 2
    middle = crop[top : top + side, left : left + side]
    kind = cv2.INTER_CUBIC if side < SIZE else cv2.INTER_AREA
    return np.asarray(cv2.resize(middle, (SIZE, SIZE), interpolation=kind))


@torch.inference_mode()
def log_odds(model: nn.Module, images: list[np.ndarray]) -> np.ndarray:
    """Of each image, averaged with its mirror image."""
    x = Normalise(torch.device("cpu"))(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float())
    both = (model(x) + model(x.flip(-1))) / 2
    return both.diff(dim=1)[:, 0].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--before", type=Path, required=True, help="weights of an earlier training")
    args = parser.parse_args()
    models = {"before": read_weights(args.before), "shipped": read_weights(WEIGHTS)}
    found = []
    for source in SOURCES:
        rows = read_manifest(args.prepared / source)
        rows = rows[(rows["split"] == "val") & (rows["label"] == 0)].drop_duplicates("video_id")
        rows = rows.sample(min(len(rows), ITEMS), random_state=0)
        crops = [read_crop(args.prepared / source / path) for path in rows["path"]]
        for zoom in ZOOMS:
            images = [magnified(crop, zoom) for crop in crops]
            for name, model in models.items():
                median = float(np.median(log_odds(model, images)))
                found.append({"source": source, "zoom": zoom, "detector": name, "median": round(median, 3)})
    table = pd.DataFrame(found)
    table.to_csv(ROWS, index=False)
    lines = [
        "| real faces of | detector | " + " | ".join(f"x {zoom:g}" for zoom in ZOOMS) + " |",
        "|---" * (len(ZOOMS) + 2) + "|",
    ]
    for (source, name), part in table.groupby(["source", "detector"], sort=False):
        values = " | ".join(f"{value:+.2f}" for value in part["median"])
        lines.append(f"| {NAMES[str(source)]} | {name} | {values} |")
    write_between(PAGE, MARKS, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
