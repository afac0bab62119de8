"""Does SFIConv help? The paper's claim with controls, trained on DFDC and tested on people it never saw.

    python benchmarks/detector_data.py pack PREPARED --out PACKS --mesh facemesh468.onnx
    python benchmarks/detector_data.py held PREPARED --out HELD
    python benchmarks/claim.py PACKS HELD --out runs/claim --seconds 600

Every training sees the same batches: crops of DFDC's training parts, each forgery beside the frame it was
made from, flipped and turned as in the paper. From scratch: Adam, the rate halved after every epoch, as in
the paper; an epoch here has far fewer steps than the paper's, so that the rate starts ten times higher. From
ImageNet weights: the same with three times the paper's rate. The last epoch counts, nothing is chosen by a
score. Tested on DFDC parts that are in no training, on the crops of FF++'s test split and Celeb-DF, and on
FF++ videos of validation identities.

Cells are trained seed by seed, the most important first. Each finished one is a line of `rows.jsonl`, with
the score of every test crop, and is not trained again. With `--seconds`, none is begun that would not end in
time. `claim_page.py` writes docs/claim.md from the lines.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from device_training import Normalise, Step, read_packs
from sficonv.media.batches import Draw, affine, warp
from sficonv.models import create_model
from sficonv.training.pairs import counterparts


@dataclass(frozen=True)
class Cell:
    """A network of the comparison.

    Args:
        name: As the page calls it.
        group: The comparison it belongs to.
        model: Registered name.
        options: Of the model.
        pretrained: Starts from ImageNet weights.
    """

    name: str
    group: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False

    @property
    def rate(self) -> float:
        return 3e-4 if self.pretrained else 1e-3


def _both(group: str, name: str, model: str, **options: Any) -> list[Cell]:
    return [
        Cell(name, group, model, **options),
        Cell(f"SFIC-{name}", group, f"sfic_{model}", {"alpha": 0.5, "beta": 1.0}, **options),
    ]


POINT = {"alpha": 0.5, "beta": 1.0}
CELLS = [
    Cell("ResNet26", "a", "resnet26"),
    Cell("ResNet26, average pooling", "a", "resnet26", {"downsample": "avgpool"}),
    Cell("SFIC-ResNet26 without MCSConv", "a", "sfic_resnet26", {**POINT, "mcs_mode": "none"}),
    Cell("SFIC-ResNet26", "a", "sfic_resnet26", POINT),
    *_both("b", "EfficientNet-Lite0", "efficientnet_lite0", pretrained=True),
    *_both("c", "VGGNet13", "vgg13"),
    *_both("c", "MobileNet", "mobilenetv1"),
    Cell("SFIC-ResNet26, MCSConv fixed", "d", "sfic_resnet26", {**POINT, "mcs_mode": "fixed"}),
    Cell("SFIC-ResNet26, vanilla initialisation", "d", "sfic_resnet26", {**POINT, "init": "vanilla"}),
    Cell("SFIC-ResNet26, alpha .25", "d", "sfic_resnet26", {"alpha": 0.25, "beta": 1.0}),
    Cell("SFIC-ResNet26, beta .5", "d", "sfic_resnet26", {"alpha": 0.5, "beta": 0.5}),
    *_both("c", "ResNet50", "resnet50"),
]


def order(groups: str, seeds: list[int]) -> Iterator[tuple[Cell, int]]:
    """The trainings, the most important group first and in it one seed after the other."""
    for group in groups:
        for seed in seeds:
            yield from ((cell, seed) for cell in CELLS if cell.group == group)


class Pairs:
    """Batches of originals and forgeries of them: flipped and turned alike, nothing else."""

    def __init__(self, images: Tensor, rows: pd.DataFrame, pairs: int) -> None:
        found = counterparts(rows).pairs
        self.images, self.pairs, self.device = images, pairs, images.device
        self.real, self.fake = (
            torch.tensor(found[side].to_numpy(np.int64)).to(self.device) for side in ("real", "fake")
        )
        self.steps = len(found) // pairs

    def epoch(self, seed: int, epoch: int) -> Iterator[Tensor]:
        """Every forgery once: float `(2 pairs, 3, S, S)`, originals first."""
        draw = Draw((seed << 16) + epoch, self.device)
        turns = draw.order(len(self.fake))
        for step in range(self.steps):
            which = turns[step * self.pairs : (step + 1) * self.pairs]
            rows = torch.cat([self.real[which], self.fake[which]])
            flip = torch.where(draw.chance(self.pairs, 0.5), -1.0, 1.0)
            one, none = torch.ones_like(flip), torch.zeros_like(flip)
            matrix = affine(flip, one, none, none, draw.uniform(self.pairs, -0.26, 0.26))  # 15 degrees
            yield warp(self.images[rows].float(), torch.cat([matrix, matrix]))


def build(cell: Cell, lite0: Path | None, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    if not cell.pretrained or lite0 is None:
        return create_model(cell.model, pretrained=cell.pretrained, **cell.options)
    keep = {"init": "keep"} if cell.options else {}
    model = create_model(cell.model, **cell.options, **keep)
    saved = torch.load(lite0, map_location="cpu", weights_only=True)
    model.load_state_dict({k: v.float() for k, v in saved.items()}, strict=False)
    return model


@torch.no_grad()
def scores(model: nn.Module, images: Tensor, normalise: Normalise) -> np.ndarray:
    """Logit of "fake" of each image `(N, 3, S, S)`."""
    model.eval()
    found = []
    for part in images.split(256):
        with torch.autocast(images.device.type, torch.bfloat16):
            found.append(model(normalise(part.float())).float().diff(dim=1)[:, 0])
    return torch.cat(found).cpu().numpy()


def train(cell: Cell, seed: int, data: Pairs, held: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """One training, and the scores of the test crops."""
    device, normalise = data.device, Normalise(data.device)
    model = build(cell, args.lite0, seed).to(device).to(memory_format=torch.channels_last).train()
    cuda = device.type == "cuda"
    rate = torch.tensor(cell.rate, device=device) if cuda else cell.rate
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=cuda, capturable=cuda)
    labels = torch.arange(2, device=device).repeat_interleave(data.pairs)
    shape = (2 * data.pairs, *data.images.shape[1:])
    step = Step(model, optimizer, shape, labels, graph=not args.no_graph)
    begun, losses = time.time(), []
    for epoch in range(args.epochs):
        seen: list[Tensor] = []
        for number, images in enumerate(data.epoch(seed, epoch)):
            step(normalise(images), cell.rate * 0.5**epoch)
            if number % 10 == 0:
                seen.append(step.loss.clone())
            if args.steps and number + 1 >= args.steps:
                break
        losses.append(round(float(torch.stack(seen).mean()), 4))
    seconds = time.time() - begun
    found = scores(model, held, normalise)
    return {
        "cell": cell.name, "group": cell.group, "model": cell.model, "options": cell.options,
        "pretrained": cell.pretrained, "seed": seed, "epochs": args.epochs, "steps": step.done,
        "batch": 2 * data.pairs, "rate": cell.rate, "side": args.side, "seconds": round(seconds, 1),
        "images_per_s": round(2 * data.pairs * step.done / seconds), "loss": losses,
        "graph": step.recorded is not None, "parameters": sum(p.numel() for p in model.parameters()),
        "machine": torch.cuda.get_device_name() if cuda else "cpu",
        "scores": [round(float(x), 3) for x in found],
    }  # fmt: skip


def aucs(rows: pd.DataFrame, score: np.ndarray) -> dict[str, float]:
    """Frame AUC of each test set."""
    rows = rows.assign(score=score)
    return {
        str(name): round(float(roc_auc_score(part["label"], part["score"])), 4)
        for name, part in rows.groupby(rows["dataset"] + rows["compression"])
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packs", type=Path, help="packs of `detector_data.py pack`")
    parser.add_argument("held", type=Path, help="pack of `detector_data.py held`")
    parser.add_argument("--out", type=Path, default=Path("runs/claim"))
    parser.add_argument("--groups", default="abdc", help="which comparisons, in which order")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--side", type=int, default=192, help="of the images in pixels")
    parser.add_argument("--seconds", type=float, help="begin no training that would not end within these")
    parser.add_argument("--lite0", type=Path, help="ImageNet weights; default: from the extra 'pretrained'")
    parser.add_argument("--steps", type=int, help="at most so many steps an epoch, to try it out")
    parser.add_argument("--no-graph", action="store_true")
    parser.add_argument("--wait", type=Path, help="begin to train once this file exists")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(line["cell"], line["seed"]) for line in lines}

    rows, array = read_packs(args.packs, args.side)
    keep = np.flatnonzero((rows["dataset"] == "dfdc") & (rows["split"] == "train"))
    data = Pairs(_on(device, array[keep]), rows.iloc[keep].reset_index(drop=True), args.pairs)
    also = np.flatnonzero((rows["dataset"] == "ffpp") & (rows["split"] == "val"))
    test, test_array = read_packs(args.held, args.side)
    tested = pd.concat([test, rows.iloc[also]], ignore_index=True)
    held = _on(device, np.concatenate([test_array, array[also]]))
    del array, test_array
    tested.drop(columns="landmarks").to_parquet(args.out / "tested.parquet")
    print(f"{len(data.fake)} pairs, {data.steps} steps an epoch, {len(tested)} test crops", flush=True)

    while args.wait and not args.wait.exists():
        time.sleep(0.2)
    begun, longest = time.time(), 0.0
    for cell, seed in order(args.groups, args.seeds):
        if (cell.name, seed) in done:
            continue
        if args.seconds and time.time() - begun + longest > args.seconds:
            print(f"no time is left for {cell.name}, seed {seed}", flush=True)
            break
        start = time.time()
        try:
            line = train(cell, seed, data, held, args)
        except Exception as error:  # the other cells are worth more than this one
            print(f"{cell.name}, seed {seed}: {error!r}", flush=True)
            continue
        with file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        longest = max(longest, time.time() - start)
        shown = {key: line[key] for key in ("cell", "seed", "seconds", "images_per_s", "graph", "loss")}
        print(json.dumps({**shown, **aucs(tested, np.array(line["scores"]))}), flush=True)


def _on(device: torch.device, images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    main()
