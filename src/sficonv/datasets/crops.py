"""Face crops of a prepared folder as a torch dataset, and the sampler that decides which are seen.

A key is either a plain index or an `(index, draw)` pair. `draw` is a random number that the sampler
hands out with every index: all random choices made for that item follow from it, so a run does not
depend on the number of workers, and a resumed run sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import Dataset, Sampler, WeightedRandomSampler

from sficonv.errors import DataError

Key = int | tuple[int, int]
Transform = Callable[[Any], Any]


class FaceCrops(Dataset[Any]):
    """The crops of a manifest, decoded when asked for.

    Args:
        df: manifest rows; the columns `path` and `label` (0 = real, 1 = fake) are used.
        root: folder that `path` is relative to. Absolute paths are taken as they are, which is how the
            rows of several folders are put into one dataset.
        transform: maps a uint8 tensor `(3, H, W)` to another one; it draws from torch's generator.

    Items are `(image, label, index)`: uint8 `(3, H, W)` RGB, int, int. Raises `DataError` naming the file
    when a crop is missing or cannot be decoded.

    Example:
        >>> crops = FaceCrops(read_manifest("prepared"), "prepared")  # doctest: +SKIP
        >>> image, label, index = crops[0]                            # doctest: +SKIP
    """

    def __init__(self, df: pd.DataFrame, root: str | Path, transform: Transform | None = None) -> None:
        # Plain lists: a DataFrame per worker would cost memory, and iloc costs a millisecond per item.
        self.paths = [str(Path(root) / path) for path in df["path"]]
        self.labels = [int(label) for label in df["label"]]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> tuple[Tensor, int, int]:
        index, draw = key if isinstance(key, tuple) else (key, None)
        image = to_tensor(read_crop(self.paths[index]))
        return apply_transform(self.transform, image, draw), self.labels[index], index


def read_crop(path: str | Path) -> np.ndarray:
    """Decode one crop file to RGB uint8 `(H, W, 3)`; raises `DataError` naming the file."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        why = "cannot be decoded" if Path(path).is_file() else "is missing"
        raise DataError(f"{path}: this face crop {why}. Run `sficonv prepare` again on its source.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def to_tensor(image: np.ndarray) -> Tensor:
    """RGB uint8 `(H, W, 3)` to a uint8 tensor `(3, H, W)`."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def apply_transform(transform: Transform | None, sample: Any, draw: int | None) -> Any:
    """Apply `transform` to an image, or to `(image, mask)`, with torch's generator set to `draw`, leaving the
    generator as it was."""
    if transform is None:
        return sample
    if draw is None:
        return transform(sample)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draw)
        return transform(sample)


def device_number() -> int:
    """Which of the devices that train together this process drives; 0 where it trains alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return 0


class DrawSampler(WeightedRandomSampler):
    """Weighted sampling that hands out `(index, draw)` keys and depends on (seed, epoch) alone.

    Several devices deal the keys out among themselves, one after the other: what they see in a step is what
    one device sees in a step with a batch that is `devices` times as large.

    Args:
        weights: how often each row is wanted, relative to the others; `None` weights all alike.
        num_rows: number of rows, needed when `weights` is None.
        num_samples: keys per epoch, all devices together. Default: one per row.
        replacement: draw with replacement. Without it and with equal weights, an epoch is a shuffle.
        seed: seed of the run.
        devices: devices that deal the keys out. All get equally many, so that up to `devices - 1` keys are
            left out of an epoch, and none is drawn twice.

    Attributes:
        epoch: epoch of the next iteration.
        skip: keys of this device that the next iteration leaves out at its start (once).

    Example:
        >>> sampler = DrawSampler(num_rows=3, replacement=False, seed=7)
        >>> sorted(index for index, draw in sampler)
        [0, 1, 2]
    """

    def __init__(
        self,
        weights: Sequence[float] | np.ndarray | None = None,
        *,
        num_rows: int | None = None,
        num_samples: int | None = None,
        replacement: bool = True,
        seed: int = 0,
        devices: int = 1,
    ) -> None:
        if weights is None:
            if num_rows is None:
                raise ValueError("DrawSampler: give either weights or num_rows")
            weights = np.ones(num_rows)
        super().__init__(
            np.asarray(weights, dtype=np.float64).tolist(),
            num_samples or len(weights),
            replacement=replacement,
            generator=torch.Generator(),
        )
        self.seed = seed
        self.devices = devices
        self.epoch = 0
        self.skip = 0

    def __len__(self) -> int:
        return self.num_samples // self.devices

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        self.generator.manual_seed(int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0]))
        indices = list(super().__iter__())
        draws = torch.randint(2**31, (len(indices),), generator=self.generator).tolist()
        self.epoch += 1
        skip, self.skip = self.skip, 0
        dealt = slice(device_number(), len(self) * self.devices, self.devices)
        return islice(zip(indices[dealt], draws[dealt], strict=True), skip, None)


class RowsInTurn(Sampler[int]):
    """All rows in their order, dealt out among the devices.

    Devices that validate together take equally many steps: where the rows do not divide evenly, the first
    ones are dealt out again. Whoever counts must count by row.

    Args:
        num_rows: number of rows.
        devices: devices that deal them out.

    Example:
        >>> list(RowsInTurn(3))
        [0, 1, 2]
    """

    def __init__(self, num_rows: int, devices: int = 1) -> None:
        self.num_rows, self.devices = num_rows, devices

    def __len__(self) -> int:
        return math.ceil(self.num_rows / self.devices)

    def __iter__(self) -> Iterator[int]:
        first = device_number()
        return (row % self.num_rows for row in range(first, len(self) * self.devices, self.devices))


def video_weights(df: pd.DataFrame) -> np.ndarray:
    """Weights that make the videos of each dataset equally likely, whatever their number of frames."""
    return 1.0 / df.groupby("video_id")["video_id"].transform("size").to_numpy(dtype=np.float64)


def balanced_weights(df: pd.DataFrame) -> np.ndarray:
    """Weights that make both labels equally likely, and the videos within each label too."""
    per_video = pd.Series(video_weights(df), index=df.index)
    return (per_video / per_video.groupby(df["label"]).transform("sum")).to_numpy()
