"""What `default_detector.py`, `claim.py` and `framing.py` share: crops, their middle, a training step."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cuda_graph import recorded, warm_up
from sficonv.media.resize import resize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEXTS = ("dataset", "split", "video_id", "source_ids", "compression", "method")


def read_packs(folder: Path, size: int) -> tuple[pd.DataFrame, np.ndarray]:
    """All crops of the packs that `detector_data.py` wrote.

    Returns:
        Their rows, with landmarks in pixels of a 256 px crop, and uint8 `(N, size, size, 3)`, RGB.
    """
    cv2.setNumThreads(1)
    tables: list[pd.DataFrame] = []
    blobs: list[tuple[np.ndarray, int, int]] = []
    for file in sorted(folder.glob("*.npz")):
        pack = np.load(file)
        texts = {name: np.char.decode(pack[name], "utf8") for name in TEXTS}
        tables.append(pd.DataFrame({**texts, "label": pack["label"], "time": pack["time"]}))
        tables[-1]["landmarks"] = list(pack["lm"].astype(np.float32))
        blob, ends = pack["blob"], pack["off"]
        blobs += [(blob, int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    images = np.empty((len(blobs), size, size, 3), np.uint8)

    def decode(i: int) -> None:
        blob, start, end = blobs[i]
        image = cv2.imdecode(blob[start:end], cv2.IMREAD_COLOR)
        images[i] = resize(image, (size, size))[..., ::-1]

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(decode, range(len(blobs)), chunksize=64))
    return pd.concat(tables, ignore_index=True), images


def magnified(images: Tensor, zoom: float, size: int) -> Tensor:
    """The middle of crops `(N, 3, S, S)` at `size` pixels a side, float32: they show the face `zoom` times as
    large as the crops do."""
    side = round(images.shape[-1] / zoom)
    low = (images.shape[-1] - side) // 2
    x = images[:, :, low : low + side, low : low + side].float()
    if side == size:
        return x
    x = F.interpolate(x, (size, size), mode="bicubic", align_corners=False, antialias=side > size)
    return x.round().clamp(0, 255)


class Normalise:
    """Pixels 0 to 255 to what the networks expect, channels-last."""

    def __init__(self, device: torch.device) -> None:
        self.mean, self.std = (torch.tensor(v, device=device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


class Step:
    """One training step in bf16; on CUDA it is recorded once as a graph and replayed, which spares its kernel
    launches.

    Args:
        model: On its device, training.
        optimizer: Of its parameters; on CUDA `capturable`, with a tensor as learning rate.
        shape: Of the images of every batch.
        labels: int64, of every batch alike.
        label_smoothing, clip: As their names say; 0 leaves them out.
        graph: Record a graph where there is CUDA.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        shape: tuple[int, ...],
        labels: Tensor,
        *,
        label_smoothing: float = 0.0,
        clip: float = 0.0,
        graph: bool = True,
    ) -> None:
        self.model, self.optimizer, self.labels = model, optimizer, labels
        self.smoothing, self.clip, self.device = label_smoothing, clip, labels.device
        self.images = torch.zeros(shape, device=self.device).contiguous(memory_format=torch.channels_last)
        self.loss, self.right = torch.zeros(2, device=self.device).unbind()
        self.recorded: torch.cuda.CUDAGraph | None = None
        self.use_graph = graph and self.device.type == "cuda"
        self.done = 0

    def _step(self) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            logits = self.model(self.images)
        logits = logits.float()
        loss = F.cross_entropy(logits, self.labels, label_smoothing=self.smoothing)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.loss.copy_(loss.detach())
        self.right.copy_((logits.argmax(1) == self.labels).float().mean())

    def __call__(self, images: Tensor, rate: float) -> None:
        self.images.copy_(images)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self.recorded is not None:
            self.recorded.replay()
        elif self.use_graph and self.done == 3:
            self._record()
        elif self.use_graph:
            warm_up(self._step)
        else:
            self._step()
        self.done += 1

    def _record(self) -> None:
        try:
            self.recorded = recorded(self._step)
            self.recorded.replay()
        except Exception as error:  # the run is worth more than its speed
            print(f"no CUDA graph, each kernel is launched: {error!r}", flush=True)
            self.use_graph = False
            torch.cuda.synchronize()
            self._step()
