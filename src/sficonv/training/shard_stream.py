"""Reading face crops from tar shards, one after the other, as training wants them."""

from __future__ import annotations

import json
import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from sficonv.datasets.crops import Transform, apply_transform, device_number, to_tensor
from sficonv.errors import DataError
from sficonv.extras import require

BUFFER = 1000  # crops held back to be mixed: 200 MB at 256 x 256, for each loader process


@dataclass(frozen=True)
class ShardPart:
    """A shard and where its rows lie in the table that a run trains on.

    Attributes:
        file: The tar file.
        first: Number of the first row of its manifest among those of all folders.
        crops: How many crops it holds.
    """

    file: Path
    first: int
    crops: int


class ShardStream(IterableDataset[Any]):
    """Crops of tar shards. Devices and loader processes read different shards (or parts of them).

    What is read, and in which order, depends on the seed, the epoch and the numbers of devices and processes
    alone.

    Args:
        parts: The shards.
        rows: For each row of the table its place in the batches' indices, -1 for rows to be left out.
        transform: As of `FaceCrops`.
        batches: Batches per epoch and device: shards are begun again, mixed anew, where they hold fewer.
            0: every crop once, in the order of the shards. Devices get equally many: where the crops do not
            divide evenly, some are given to two devices, and whoever counts must count by row.
        batch_size: Crops per batch; the batches of one process are full.
        weights: How often each row is wanted relative to the others; default: all alike. With weights a row
            is left out at random, so rare ones come in their turn and no order is broken.
        buffer: Crops that are held back to be mixed.
        seed: Seed of the run.
        devices: Devices that train together.

    Attributes:
        epoch: Epoch of the next pass.
        skip: Batches that the next pass leaves out at its start (once).

    Items are `(image, label, index)` as of `FaceCrops`. Raises `DataError` naming the shard when it cannot be
    read, and `MissingPackage` when the package webdataset is missing.

    Example:
        >>> stream = ShardStream(parts, rows, batches=100, batch_size=32)  # doctest: +SKIP
        >>> image, label, index = next(iter(stream))                       # doctest: +SKIP
    """

    def __init__(
        self,
        parts: Sequence[ShardPart],
        rows: np.ndarray,
        transform: Transform | None = None,
        *,
        batches: int = 0,
        batch_size: int = 1,
        weights: np.ndarray | None = None,
        buffer: int = BUFFER,
        seed: int = 0,
        devices: int = 1,
    ) -> None:
        if not parts:
            raise DataError("there are no shards of this split")
        self.parts = list(parts)
        self.rows = rows
        self.transform = transform
        self.batches, self.batch_size = batches, batch_size
        self.chance = None if weights is None else weights / weights.max()
        self.buffer, self.seed = buffer, seed
        self.devices = devices
        self.device: int | None = None
        self.epoch = 0
        self.skip = 0

    def __getstate__(self) -> dict[str, Any]:
        # A loader process that is not forked knows nothing of the other devices.
        return {**vars(self), "device": device_number()}

    def __len__(self) -> int:
        if not self.batches:
            raise TypeError("how many batches a pass has depends on the number of loader processes")
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, int, int]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        skip, self.skip = self.skip, 0
        device = device_number() if self.device is None else self.device
        process, processes = _loader_process()
        if not self.batches:
            yield from self._in_turn(device, process, processes)
            return
        # The loader asks its first process for its first batch, wherever in the epoch that is.
        process = (process + skip) % processes
        left_out, mine = (len(range(process, end, processes)) for end in (skip, self.batches))
        drawn = self._drawn(epoch, device, process, processes)
        for sample, draw in islice(drawn, left_out * self.batch_size, mine * self.batch_size):
            yield self._item(sample, draw)

    def _in_turn(self, device: int, process: int, processes: int) -> Iterator[tuple[Tensor, int, int]]:
        """Every crop once, decoded on one of the devices."""
        number, sample = -1, None
        for number, sample in enumerate(self._pass(process, processes, None)):
            if number % self.devices == device:
                yield self._item(sample, None)
        if sample is not None and device >= (number + 1) % self.devices > 0:
            yield self._item(sample, None)

    def _drawn(
        self, epoch: int, device: int, process: int, processes: int
    ) -> Iterator[tuple[dict[str, Any], int]]:
        """Samples and the draws of their transforms, without end."""
        rng = random.Random(f"{self.seed}/{epoch}/{device}/{process}")
        while True:
            found = False
            for sample in self._pass(device * processes + process, self.devices * processes, rng):
                found = True
                if self.chance is None or rng.random() < self.chance[sample["place"]]:
                    yield sample, rng.getrandbits(31)
            if not found:
                raise DataError(f"{self.parts[0].file.parent}: fewer crops than loader processes")

    def _pass(self, slot: int, slots: int, rng: random.Random | None) -> Iterator[dict[str, Any]]:
        """Once through this reader's share of the shards."""
        require("shards", "webdataset", what="reading shards")
        import webdataset as wds

        number = len(self.parts)
        if slots <= number:
            mine, turn, turns = self.parts[slot::slots], 0, 1
        else:  # several readers share a shard and take its crops in turns
            mine = [self.parts[slot % number]]
            turn, turns = slot // number, len(range(slot % number, slots, number))
        mine = list(mine)
        if rng is not None:
            rng.shuffle(mine)
        samples = self._read(wds, mine, turn, turns)
        if rng is None:
            yield from samples
        else:
            yield from wds.shuffle(self.buffer, initial=self.buffer, rng=rng)(samples)

    def _read(self, wds: Any, parts: list[ShardPart], turn: int, turns: int) -> Iterator[dict[str, Any]]:
        for part in parts:
            number = -1
            try:
                for number, sample in enumerate(wds.tarfile_to_samples()([{"url": str(part.file)}])):
                    place = self.rows[part.first + int(sample["__key__"])]
                    if number % turns == turn and place >= 0:
                        yield {"place": int(place), **sample}
            except (OSError, ValueError, IndexError, tarfile.TarError) as error:
                raise DataError(f"{part.file}: the shard cannot be read ({error}); write it again") from error
            if number + 1 != part.crops:
                raise DataError(f"{part.file}: {number + 1} crops instead of {part.crops}; write it again")

    def _item(self, sample: dict[str, Any], draw: int | None) -> tuple[Tensor, int, int]:
        image = cv2.imdecode(np.frombuffer(sample["png"], np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{sample['__url__']}: {sample['__key__']} cannot be decoded; write it again")
        label = int(json.loads(sample["json"])["label"])
        pixels = to_tensor(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        return apply_transform(self.transform, pixels, draw), label, sample["place"]


def _loader_process() -> tuple[int, int]:
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
