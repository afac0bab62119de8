"""Train the detector that the package ships.

    python benchmarks/default_detector.py pack PREPARED --out PACKS
    python benchmarks/default_detector.py train PACKS --out runs/default --seconds 420

`pack` gathers the crops of prepared folders in a few compact files, so that a rented machine decodes each
once and keeps all of them in device memory. `train` makes every batch on the device
(`sficonv.training.pairs`). The schedule is a cosine over the time that is given, or over `--steps`; the run
is saved as it goes on and continues where it was stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from sficonv.models import create_model
from sficonv.training.pairs import CropsInMemory, PairMaker, PairShares

SIZE = 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REAL_SOURCES = {
    "dfdc": 36,
    "ffpp": 18,
    "celeba": 15,
    "utkface": 13,
    "ffhq": 10,
    "crops128": 6,
    "london": 2,
    "ciplab": 2,
}
FORGERY_SOURCES = {"dfdc": 1.6, "ffpp": 1.0, "crops128": 0.15, "ffhq": 1.0, "ciplab": 0.3}


def read_packs(folder: Path, threads: int) -> tuple[pd.DataFrame, np.ndarray]:
    """All crops of the packs: their rows and uint8 `(N, 256, 256, 3)`."""
    cv2.setNumThreads(1)
    files = sorted(folder.glob("*.npz"))
    columns: list[pd.DataFrame] = []
    blobs: list[tuple[np.ndarray, int, int]] = []
    for file in files:
        pack = np.load(file)
        names = ("dataset", "split", "video_id", "source_ids", "compression", "method")
        texts = {name: np.char.decode(pack[name], "utf8") for name in names}
        columns.append(pd.DataFrame({**texts, "label": pack["label"], "time": pack["time"]}))
        columns[-1]["landmarks"] = list(pack["lm"].astype(np.float32))
        blob, off = pack["blob"], pack["off"]
        blobs += [(blob, int(a), int(b)) for a, b in zip(off[:-1], off[1:], strict=True)]
    images = np.empty((len(blobs), SIZE, SIZE, 3), np.uint8)

    def decode(i: int) -> None:
        blob, start, end = blobs[i]
        image = cv2.imdecode(blob[start:end], cv2.IMREAD_COLOR)
        if image.shape[:2] != (SIZE, SIZE):
            image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        images[i] = image[..., ::-1]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, range(len(blobs)), chunksize=64))
    return pd.concat(columns, ignore_index=True), images


class Step:
    """One training step; on CUDA it is recorded once as a graph and replayed, which spares its kernel
    launches."""

    def __init__(self, model: nn.Module, args: argparse.Namespace, device: torch.device) -> None:
        self.model, self.device = model, device
        decayed, plain = [], []
        for name, p in model.named_parameters():
            (plain if p.ndim < 2 or "mcs" in name else decayed).append(p)
        groups = [
            {"params": decayed, "weight_decay": args.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        cuda = device.type == "cuda"
        rate = torch.tensor(args.lr, device=device) if cuda else args.lr
        self.optimizer = torch.optim.AdamW(groups, lr=rate, fused=cuda, capturable=cuda)
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.pairs = [
            (a, b)
            for a, b in zip(self.average.state_dict().values(), model.state_dict().values(), strict=True)
            if a.is_floating_point()
        ]
        self.smoothing = args.label_smoothing
        self.images = torch.zeros(2 * args.pairs, 3, SIZE, SIZE, device=device).contiguous(
            memory_format=torch.channels_last
        )
        self.labels = torch.arange(2, device=device).repeat_interleave(args.pairs)
        self.loss = torch.zeros((), device=device)
        self.right = torch.zeros((), device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.use_graph = cuda and not args.no_graph
        self.done = 0

    def _step(self) -> None:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.device.type == "cuda", cache_enabled=False
        ):
            logits = self.model(self.images)
        logits = logits.float()
        loss = F.cross_entropy(logits, self.labels, label_smoothing=self.smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 2.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.loss.copy_(loss.detach())
        self.right.copy_((logits.argmax(1) == self.labels).float().mean())

    def __call__(self, images: Tensor, rate: float, decay: float) -> None:
        self.images.copy_(images)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self.graph is not None:
            self.graph.replay()
        elif self.use_graph and self.done == 3:
            try:
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._step()
                self.graph = graph
                graph.replay()
            except Exception as error:  # the run is worth more than its speed
                print(f"no CUDA graph, launching each kernel: {error!r}", flush=True)
                self.use_graph = False
                torch.cuda.synchronize()
                self._step()
        elif self.use_graph:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._step()
            torch.cuda.current_stream().wait_stream(side)
        else:
            self._step()
        self.done += 1
        averaged, current = zip(*self.pairs, strict=True)
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged), list(current), 1 - decay)


class Validation:
    """AUC over videos of each validation set, and where the real faces of each source lie."""

    def __init__(self, rows: pd.DataFrame, images: Tensor, device: torch.device) -> None:
        self.rows, self.images, self.device = rows, images, device

    @torch.no_grad()
    def __call__(self, model: nn.Module, normalise: Any) -> dict[str, Any]:
        scores = []
        for start in range(0, len(self.rows), 128):
            x = normalise(self.images[start : start + 128].float())
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                both = [model(x), model(x.flip(-1))]
            scores.append(sum(z.float() for z in both).diff(dim=1)[:, 0] / 2)
        rows = self.rows.assign(score=torch.cat(scores).cpu().numpy())
        out: dict[str, Any] = {}
        for (name, compression), part in rows.groupby(["dataset", "compression"]):
            video = part.groupby(["video_id", "label"])["score"].mean().reset_index()
            if video["label"].nunique() == 2:
                out[f"{name}{compression}"] = round(float(roc_auc_score(video["label"], video["score"])), 4)
        real, fake = rows[rows["label"] == 0], rows[rows["label"] == 1]
        out["pooled"] = round(float(roc_auc_score(rows["label"], rows["score"])), 4)
        worst = max(
            float(part["score"].quantile(0.95)) for _, part in real.groupby(["dataset", "compression"])
        )
        caught = {n: round(float((p["score"] > worst).mean()), 3) for n, p in fake.groupby("dataset")}
        median = {n: round(float(p["score"].median()), 2) for n, p in real.groupby("dataset")}
        return {**out, "caught": caught, "median_real": median}


def train(args: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.time()
    rows, array = read_packs(args.packs, len(os.sched_getaffinity(0)))
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
        seed=args.seed,
        device=device,
    )
    print(
        maker.counts(),
        f"forgeries with their original {len(maker.forgery_real)}",
        f"{time.time() - start:.1f} s",
        flush=True,
    )
    validation = Validation(
        rows.iloc[held].reset_index(drop=True), images[torch.from_numpy(held).to(device)], device
    )
    del images
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))

    def normalise(x: Tensor) -> Tensor:
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    options = {"alpha": 0.5, "beta": 1.0} if args.model.startswith("sfic_") else {}
    if args.init:
        model = create_model(args.model, **options, **({"init": "keep"} if options else {}))
        saved = torch.load(args.init, map_location="cpu", weights_only=True)
        missing = model.load_state_dict({k: v.float() for k, v in saved.items()}, strict=False)
        print("initialised, missing:", missing.missing_keys[:6], missing.unexpected_keys[:3], flush=True)
    else:
        model = create_model(args.model, pretrained=args.pretrained, **options)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    step = Step(model, args, device)

    done, spent, log = 0, 0.0, []
    state_file = args.out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        step.average.load_state_dict(state["average"])
        step.optimizer.load_state_dict(state["optimizer"])
        done, spent, log = state["step"], state["seconds"], state["log"]
        print(f"goes on at step {done}", flush=True)

    def save(name: str) -> None:
        half = {k: v.half() if v.is_floating_point() else v for k, v in step.average.state_dict().items()}
        torch.save(half, args.out / f"{name}.pt.part")
        (args.out / f"{name}.pt.part").replace(args.out / f"{name}.pt")

    began = time.time() - spent
    marks = list(np.linspace(0, 1, args.marks + 1)[1:])
    progress = done / args.steps if args.steps else spent / args.seconds
    marks = [m for m in marks if m > progress]
    losses: list[Tensor] = []
    while marks:
        progress = done / args.steps if args.steps else (time.time() - began) / args.seconds
        if progress >= marks[0]:
            found = validation(step.average, normalise)
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
            full = {
                "model": model.state_dict(),
                "average": step.average.state_dict(),
                "optimizer": step.optimizer.state_dict(),
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
        step(batch, rate, min(args.ema, (done + 1) / (done + 20)))
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
            print(f"step {done}: {time.time() - began:.2f} s", flush=True)
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
    parser.add_argument("--forgeries", type=float, default=0.45)
    parser.add_argument("--unrelated", type=float, default=0.12)
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
