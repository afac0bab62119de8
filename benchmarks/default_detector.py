"""Train the detector that the package ships.

    python benchmarks/detector_data.py pack PREPARED --out PACKS --mesh facemesh468.onnx
    python benchmarks/default_detector.py train PACKS --out runs/default --seconds 420

`detector_data.py` gathers the crops in a few compact files, so that a machine with a GPU decodes each
once and keeps all of them in device memory. `train` makes every batch on the device
(`sficonv.training.pairs`). The schedule is a cosine over the time that is given, or over `--steps`; the run
is saved as it goes on and continues where it was stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from device_training import Normalise, Step, magnified, read_packs
from sficonv.models import create_model
from sficonv.training.augmentation import PairAugmentation
from sficonv.training.pairs import CropsInMemory, PairMaker, PairShares

SIZE = 256
REAL_SOURCES = {
    "dfdc": 36,
    "ffpp": 12,
    "celeba": 15,
    "utkface": 15,
    "ffhq": 9,
    "crops128": 8,
    "london": 3,
    "ciplab": 2,
}
FORGERY_SOURCES = {"dfdc": 1.8, "ffpp": 1.0, "crops128": 0.3, "ffhq": 1.0, "ciplab": 0.3}
BLENDED = 256
TIGHT = 1.6
"""Magnification of the second view in which validation looks at every crop: other people's crops are cut
closer around the face, and a detector that has only seen loose ones takes close ones for forged."""


class Average:
    """Averaged weights of a model in training."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        averaged, current = self.model.state_dict().values(), model.state_dict().values()
        pairs = [(a, b) for a, b in zip(averaged, current, strict=True) if a.is_floating_point()]
        self.averaged, self.current = (list(side) for side in zip(*pairs, strict=True))

    @torch.no_grad()
    def __call__(self, decay: float) -> None:
        torch._foreach_lerp_(self.averaged, self.current, 1 - decay)


def optimizer_of(
    model: nn.Module, rate: float, weight_decay: float, device: torch.device
) -> torch.optim.AdamW:
    """AdamW; vectors and the constrained kernels are not decayed."""
    decayed, plain = [], []
    for name, p in model.named_parameters():
        (plain if p.ndim < 2 or "mcs" in name else decayed).append(p)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    cuda = device.type == "cuda"
    lr = torch.tensor(rate, device=device) if cuda else rate
    return torch.optim.AdamW(groups, lr=lr, fused=cuda, capturable=cuda)


class Validation:
    """AUC over videos of each validation set in two framings, and what one threshold for all of them catches.

    Every source weighs alike. `choose`, the mean of the pooled AUC and of the AUC of each set, is what a
    checkpoint is chosen by.
    """

    def __init__(self, rows: pd.DataFrame, images: Tensor, device: torch.device) -> None:
        self.rows, self.images, self.device = rows, images, device

    @torch.no_grad()
    def _scores(self, model: nn.Module, normalise: Any, zoom: float) -> np.ndarray:
        scores = []
        for start in range(0, len(self.rows), 128):
            x = normalise(magnified(self.images[start : start + 128], zoom, SIZE))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                both = [model(x), model(x.flip(-1))]
            scores.append(sum(z.float() for z in both).diff(dim=1)[:, 0] / 2)
        return torch.cat(scores).cpu().numpy()

    def __call__(self, model: nn.Module, normalise: Any) -> dict[str, Any]:
        names = self.rows["dataset"] + self.rows["compression"]
        views = {"": 1.0, " tight": TIGHT}
        rows = pd.concat(
            [
                self.rows.assign(source=names + view, score=self._scores(model, normalise, zoom))
                for view, zoom in views.items()
            ]
        )
        alike = 1 / rows.groupby(["source", "label"])["score"].transform("size")
        both = rows.groupby("source")["label"].transform("nunique") == 2
        out: dict[str, Any] = {}
        for name, part in rows[both].groupby("source"):
            video = part.groupby(["video_id", "label"])["score"].mean().reset_index()
            out[str(name)] = round(float(roc_auc_score(video["label"], video["score"])), 4)
        each = float(np.mean(list(out.values())))
        pooled = float(roc_auc_score(rows["label"], rows["score"], sample_weight=alike))
        real, fake = rows[rows["label"] == 0], rows[rows["label"] == 1]
        limits = real.groupby("source")["score"].quantile(0.95)
        caught = {n: round(float((p["score"] > limits.max()).mean()), 3) for n, p in fake.groupby("source")}
        median = {n: round(float(p["score"].median()), 2) for n, p in real.groupby("source")}
        return {
            "choose": round((each + pooled) / 2, 4),
            "pooled": round(pooled, 4),
            "worst_source": str(limits.idxmax()),
            **out,
            "caught": caught,
            "median_real": median,
        }


def with_blends(rows: pd.DataFrame, images: Tensor) -> tuple[pd.DataFrame, Tensor]:
    """Validation rows and their images, and as another source `BLENDED` pairs of their real faces and
    forgeries of them that are made on the device: unseen people, another kind of forgery."""
    rows = rows.reset_index(drop=True)
    shares = PairShares(forgeries=0, unrelated=0, pasted=0, real_sources=REAL_SOURCES)
    maker = PairMaker(
        rows.assign(size=SIZE),
        CropsInMemory(images),
        pairs=BLENDED // 4,
        shares=shares,
        seed=1,
        device=images.device,
    )
    made = [maker.batch(step) for step in range(4)]
    labels = torch.cat([batch.labels for batch in made]).cpu().numpy()
    blends = pd.DataFrame({"label": labels, "dataset": "blends", "compression": "", "method": "blend"})
    blends["video_id"] = [f"{number}" for number in range(len(blends))]
    return (
        pd.concat([rows, blends], ignore_index=True),
        torch.cat([images, *(batch.images.to(torch.uint8) for batch in made)]),
    )


def train(args: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.time()
    rows, array = read_packs(args.packs, SIZE)
    if args.limit:
        keep = np.sort(np.random.default_rng(0).permutation(len(rows))[: args.limit])
        rows, array = rows.iloc[keep].reset_index(drop=True), array[keep]
    chosen, held = (np.flatnonzero(rows["split"] == name) for name in ("train", "val"))
    images = torch.from_numpy(array).to(device).permute(0, 3, 1, 2).contiguous()
    print(f"{len(rows)} crops read in {time.time() - start:.1f} s", flush=True)

    train_rows = rows.iloc[chosen].reset_index(drop=True)
    train_rows["size"] = SIZE
    maker = PairMaker(
        train_rows,
        CropsInMemory(images[torch.from_numpy(chosen).to(device)]),
        pairs=args.pairs,
        shares=PairShares(
            forgeries=args.forgeries,
            unrelated=args.unrelated,
            pasted=0.25,
            real_sources=REAL_SOURCES,
            forgery_sources=FORGERY_SOURCES,
        ),
        augmentation=PairAugmentation(zoom=args.zoom),
        seed=args.seed,
        device=device,
    )
    print(
        maker.counts(),
        f"forgeries with their original {len(maker.forgery_real)}",
        f"{time.time() - start:.1f} s",
        flush=True,
    )
    validation = Validation(*with_blends(rows.iloc[held], images[torch.from_numpy(held).to(device)]), device)
    del images
    normalise = Normalise(device)
    options = {"alpha": 0.5, "beta": 1.0} if args.model.startswith("sfic_") else {}
    if args.init:
        model = create_model(args.model, **options, **({"init": "keep"} if options else {}))
        saved = torch.load(args.init, map_location="cpu", weights_only=True)
        missing = model.load_state_dict({k: v.float() for k, v in saved.items()}, strict=False)
        print("initialised, missing:", missing.missing_keys[:6], missing.unexpected_keys[:3], flush=True)
    else:
        model = create_model(args.model, pretrained=args.pretrained, **options)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    average = Average(model)
    optimizer = optimizer_of(model, args.lr, args.weight_decay, device)
    labels = torch.arange(2, device=device).repeat_interleave(args.pairs)
    step = Step(
        model,
        optimizer,
        (2 * args.pairs, 3, SIZE, SIZE),
        labels,
        label_smoothing=args.label_smoothing,
        clip=2.0,
        graph=not args.no_graph,
    )

    while args.wait and not args.wait.exists():
        time.sleep(0.2)

    done, spent, log = 0, 0.0, []
    state_file = args.out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        done, spent, log = state["step"], state["seconds"], state["log"]
        print(f"goes on at step {done}", flush=True)

    def save(name: str) -> None:
        half = {k: v.half() if v.is_floating_point() else v for k, v in average.model.state_dict().items()}
        torch.save(half, args.out / f"{name}.pt.part")
        (args.out / f"{name}.pt.part").replace(args.out / f"{name}.pt")

    began = time.time() - spent
    marks = list(np.linspace(0, 1, args.marks + 1)[1:])
    progress = done / args.steps if args.steps else spent / args.seconds
    marks = [m for m in marks if m > progress]
    losses: list[Tensor] = []
    first_steps: dict[int, float] = {}
    while marks:
        progress = done / args.steps if args.steps else (time.time() - began) / args.seconds
        if progress >= marks[0]:
            found = validation(average.model, normalise)
            loss, right = (
                (float(torch.stack(x).mean()) for x in zip(*losses, strict=True)) if losses else (0, 0)
            )
            losses.clear()
            now = time.time() - began
            log.append(
                {
                    "step": done,
                    "seconds": round(now, 1),
                    "images_per_s": round(2 * args.pairs * done / now),
                    "loss": round(loss, 4),
                    "accuracy": round(right, 4),
                    **found,
                }
            )
            print(json.dumps(log[-1]), flush=True)
            save("average")
            if progress > 0.4:
                save(f"step{done}")
            full = {
                "model": model.state_dict(),
                "average": average.model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
                "seconds": now,
                "log": log,
            }
            if args.keep_state:
                torch.save(full, args.out / "state.pt.part")
                (args.out / "state.pt.part").replace(state_file)
            (args.out / "log.json").write_text(
                json.dumps(
                    {
                        "log": log,
                        "first_steps": first_steps,
                        "machine": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
                        "options": {k: str(v) for k, v in vars(args).items()},
                    },
                    indent=1,
                )
            )
            marks.pop(0)
            continue
        rate = (
            args.lr
            * min(1, (done + 1) / args.warmup)
            * (0.5 * (1 + math.cos(math.pi * min(1, progress))) * 0.98 + 0.02)
        )
        batch = normalise(maker.batch(done).images)
        step(batch, rate)
        average(min(args.ema, (done + 1) / (done + 20)))
        if done % 20 == 0:
            losses.append((step.loss.clone(), step.right.clone()))
            if device.type == "cuda":
                torch.cuda.synchronize()  # the clock decides the schedule: let it not run ahead
        done += 1
        if done == 5 and not args.steps:
            began = time.time() - spent  # loading libraries and recording the graph is not training
        if args.profile and done in (1, 2, 3, 5, 10, 40, 100, 200):
            if device.type == "cuda":
                torch.cuda.synchronize()
            first_steps[done] = round(time.time() - began, 2)
            print(f"step {done}: {first_steps[done]} s", flush=True)
    print(f"{done} steps, {2 * args.pairs * done / (time.time() - began):.0f} images/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["train"])
    parser.add_argument("packs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/default"))
    parser.add_argument("--model", default="sfic_efficientnet_lite0")
    parser.add_argument(
        "--init", type=Path, help="ImageNet weights as a state dict; default: from the extra 'pretrained'"
    )
    parser.add_argument("--pretrained", action="store_true")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--label-smoothing", type=float, default=0.02)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--forgeries", type=float, default=0.42)
    parser.add_argument("--unrelated", type=float, default=0.05)
    parser.add_argument(
        "--zoom", type=float, default=PairAugmentation.zoom, help="largest magnification of a crop"
    )
    parser.add_argument("--wait", type=Path, help="begin to train once this file exists")
    parser.add_argument("--marks", type=int, default=6, help="how often the run is validated and saved")
    parser.add_argument("--limit", type=int, help="use so many crops only")
    parser.add_argument("--no-graph", action="store_true")
    parser.add_argument(
        "--keep-state", action="store_true", help="save what continuing needs, 40 MB each time"
    )
    parser.add_argument("--profile", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
