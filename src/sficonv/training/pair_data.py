"""What pairs are made of in a training: its crops, in memory or read as they are drawn, and their shares."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from joblib import cpu_count
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sficonv.datasets.crops import device_number, read_crop, to_tensor
from sficonv.errors import DataError
from sficonv.media.resize import resize
from sficonv.training.augmentation import PairAugmentation
from sficonv.training.data import TrainingData
from sficonv.training.pairs import Counterparts, Crops, CropsInMemory, PairMaker, PairShares, counterparts
from sficonv.training.recipes import Recipe

MOST_UNRELATED = 0.05
"""Share of the pairs that are fakes made from no crop of the data, where others are."""
FLIP_AND_TURN = PairAugmentation(
    zoom=1.0,
    full=1.0,
    stretch=0.0,
    reduced=0.0,
    colour=0.0,
    blur=0.0,
    noise=0.0,
    sharpen=0.0,
    codec=0.0,
    twice=0.0,
)
"""The pairs' part of the transform "paper"."""


class CropsOnDisk:
    """Crops that are decoded when they are drawn, by several threads.

    Args:
        paths: Their files.
        size: Side in pixels that they are brought to.
    """

    def __init__(self, paths: list[str], size: int) -> None:
        self.paths, self.size = paths, size
        self.pool = ThreadPoolExecutor(cpu_count(), initializer=cv2.setNumThreads, initargs=(1,))

    def take(self, rows: Tensor) -> Tensor:
        """See `Crops`."""
        read = self.pool.map(lambda row: read_face(self.paths[row], self.size), rows.tolist())
        return torch.stack(list(read)).to(rows.device).float()

    def in_memory(self, device: torch.device) -> CropsInMemory:
        """All of them, decoded once."""
        images = torch.empty(len(self.paths), 3, self.size, self.size, dtype=torch.uint8, device=device)
        for first in range(0, len(images), 256):
            part = self.paths[first : first + 256]
            faces = list(self.pool.map(lambda path: read_face(path, self.size), part))
            images[first : first + len(part)] = torch.stack(faces).to(device)
        return CropsInMemory(images)


@dataclass(frozen=True)
class PairData:
    """The pairs of a training.

    Args:
        maker: Makes their batches.
        real: How many real faces there are.
        said: What they are made of, in words.
        warnings: What may not be meant.
    """

    maker: PairMaker
    real: int
    said: list[str]
    warnings: list[str]

    def steps(self, batch_size: int, devices: int) -> int:
        """As many steps as draw each real face once."""
        return math.ceil(self.real / (batch_size // 2 * devices))


def pair_data(
    data: TrainingData, recipe: Recipe, *, device: torch.device, memory: float | None = None, sharers: int = 1
) -> PairData:
    """Read the crops of a training and make pairs of them.

    Args:
        data: Rows to draw from.
        recipe: Batch size, image size, shares of the forgeries, augmentation and seed.
        device: Where batches are made, and where the crops lie.
        memory: Memory that the crops may take there, in GB; beyond it they are read as they are drawn.
            Default: half of what is free.
        sharers: Processes that share that memory.

    Raises:
        DataError: No real faces, or a crop that cannot be read.
        ValueError: The recipe leaves the image size open.
    """
    if recipe.image_size is None:
        raise ValueError("the recipe leaves image_size to the model: put the model's config.image_size in")
    size = math.ceil(recipe.image_size / 16) * 16  # whole blocks of the augmentation's codec
    rows = pd.concat([data.train, data.extra], ignore_index=True)
    if not (rows["label"] == 0).any():
        raise DataError("forgeries are made from real faces, and the training rows have none (label 0)")
    rows, warnings = _in_crop_units(rows, size)
    crops: Crops = (files := CropsOnDisk(rows["path"].tolist(), size))
    need = len(rows) * 3 * size**2
    most = _free(device) / 2 / sharers if memory is None else memory * 1e9
    where = f"decoded as they are drawn: they need {need / 1e9:.1f} GB of memory, {most / 1e9:.1f} are given"
    if need <= most:
        crops, where = files.in_memory(device), f"in memory ({need / 1e9:.1f} GB)"
    found = counterparts(rows)
    if found.apart:
        warnings.append(
            f"{found.apart} fakes show another place of the frame than the nearest real crop of their "
            "source: they are paired with any real crop of their data set"
        )
    maker = PairMaker(
        rows,
        crops,
        pairs=recipe.batch_size // 2,
        shares=_shares(data, found, recipe),
        augmentation=PairAugmentation() if recipe.transform == "finetune" else FLIP_AND_TURN,
        seed=recipe.seed,
        device=device,
    )
    kinds = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in maker.counts().items() if n)
    said = [f"pairs: {kinds} in a batch; {len(rows)} crops of {size} px, {where}"]
    return PairData(maker, int((rows["label"] == 0).sum()), said, warnings)


def pair_loader(
    maker: PairMaker, steps: int, *, devices: int = 1, first_step: int = 0
) -> DataLoader[tuple[Tensor, ...]]:
    """The batches of pairs: uint8 `(B, 3, S, S)`, labels, numbers and uint8 masks `(B, 1, S, S)`.

    They are made in this process, on the device of the maker, and depend on the step alone.

    Args:
        maker: Makes them.
        steps: Batches per epoch and device.
        devices: Devices that share an epoch.
        first_step: Steps already taken: the first pass over the loader continues there.
    """
    return DataLoader(_Made(maker, devices), batch_size=None, sampler=Steps(steps, first_step))


class Steps(Sampler[int]):
    """The numbers of the steps of one epoch after the other.

    Args:
        steps: Steps of an epoch.
        first: Step that the first pass begins with.
    """

    def __init__(self, steps: int, first: int = 0) -> None:
        self.steps = steps
        self.epoch, self.skip = divmod(first, steps)

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        first, self.epoch = self.epoch * self.steps, self.epoch + 1
        skip, self.skip = self.skip, 0
        return iter(range(first + skip, first + self.steps))


class _Made(Dataset[tuple[Tensor, ...]]):
    def __init__(self, maker: PairMaker, devices: int) -> None:
        self.maker, self.devices = maker, devices

    def __getitem__(self, step: int) -> tuple[Tensor, ...]:
        made = self.maker.batch(step * self.devices + device_number())
        numbers = torch.arange(len(made.labels), device=made.labels.device)
        masks = (255 * made.masks).round().to(torch.uint8)
        return made.images.to(torch.uint8), made.labels, numbers, masks


def read_face(path: str | Path, size: int) -> Tensor:
    """A crop as uint8 `(3, size, size)`, resized where it has another size."""
    return to_tensor(resize(read_crop(path), (size, size)))


def _in_crop_units(rows: pd.DataFrame, size: int) -> tuple[pd.DataFrame, list[str]]:
    """Landmarks in pixels of crops that are all of one size; and what is not as it should be."""
    sides = [_side(path) for path in rows["path"]]
    scaled: list[np.ndarray] = []
    missing = 0
    for points, (width, height), label in zip(rows["landmarks"], sides, rows["label"], strict=True):
        known = np.asarray([] if points is None else points, np.float32).reshape(-1, 2)
        missing += label == 0 and not (len(known) and np.isfinite(known).all())
        scaled.append(known * np.array([size / width, size / height], np.float32))
    warnings = []
    if missing:
        warnings.append(
            f"{missing} real faces have no landmarks: they are forged where a face usually lies in a crop"
        )
    if odd := sum(max(side) > 1.1 * min(side) for side in sides):
        warnings.append(f"{odd} crops are not square and are stretched to {size} x {size} px")
    return rows.assign(landmarks=pd.Series(scaled, index=rows.index, dtype=object), size=size), warnings


def _side(path: str) -> tuple[int, int]:
    try:
        with Image.open(path) as image:  # the header only
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: this face crop cannot be decoded. Run `sficonv prepare` again.") from error


def _shares(data: TrainingData, counted: Counterparts, recipe: Recipe) -> PairShares:
    related, unrelated = counted.pairs, counted.unrelated
    found = 1 - recipe.self_blend
    of_unrelated = min(found, MOST_UNRELATED) if len(related) else found
    sources: dict[str, float] = {}
    if not data.extra.empty:
        main = data.train[data.train["label"] == 0]
        for part, share in ((main, recipe.main_share), (data.extra, 1 - recipe.main_share)):
            videos = np.sqrt(part.groupby("dataset")["video_id"].nunique())
            for name, weight in (share * videos / videos.sum()).items():
                sources[str(name)] = sources.get(str(name), 0.0) + float(weight)
    return PairShares(
        forgeries=found - of_unrelated if unrelated else found if len(related) else 0.0,
        unrelated=of_unrelated if unrelated else 0.0,
        pasted=recipe.cross_blend,
        real_sources=sources,
    )


def _free(device: torch.device) -> int:
    """Free memory of a device in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4_000_000_000
