"""How the score of real faces depends on how closely they are cut; writes the table in docs/results.md.

    python benchmarks/framing.py PREPARED --before EARLIER.safetensors

PREPARED holds the prepared folders of `detector_data.py`. Crops of validation people are magnified around
their middle, and the median of the uncalibrated log-odds of "fake" is taken. Raw rows:
`measured/framing.csv`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from detector_data import SIZE
from device_training import Normalise, magnified
from document import keep_rows, write_between
from publish_detector import NAMES, WEIGHTS, read_weights
from sficonv.datasets.crops import read_crop, to_tensor
from sficonv.datasets.manifest import read_manifest

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
MARKS = "<!-- framing: written by benchmarks/framing.py -->", "<!-- end of framing -->"
SOURCES, ITEMS, ZOOMS = ("celeba", "ffhq", "utkface", "dfdc"), 60, (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


@torch.inference_mode()
def log_odds(model: nn.Module, images: Tensor) -> np.ndarray:
    """Of each image `(N, 3, SIZE, SIZE)`, averaged with its mirror image."""
    x = Normalise(torch.device("cpu"))(images)
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
            images = torch.cat([magnified(to_tensor(crop)[None], zoom, SIZE) for crop in crops])
            for name, model in models.items():
                median = float(np.median(log_odds(model, images)))
                found.append({"source": source, "zoom": zoom, "detector": name, "median": round(median, 3)})
    table = pd.DataFrame(found)
    keep_rows("framing", table)
    lines = [
        "| real faces of | " + " | ".join(f"x {zoom:g}" for zoom in ZOOMS) + " |",
        "|---" * (len(ZOOMS) + 1) + "|",
    ]
    for source, part in table[table["detector"] == "shipped"].groupby("source", sort=False):
        values = " | ".join(f"{value:+.2f}" for value in part["median"])
        lines.append(f"| {NAMES[str(source)]} | {values} |")
    write_between(PAGE, MARKS, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
