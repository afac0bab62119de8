"""Whether the device waits for its data."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
import torch


class InputSpeed(pl.Callback):
    """Measures training steps, and how long each waits for its batch.

    A step is counted from the end of the one before it: the first of every epoch, for which loader processes
    are started or fill up again, is left out, and so is validation. The times of a continued run add up.
    """

    def __init__(self) -> None:
        self.samples, self.seconds, self.waited = 0, 0.0, 0.0
        self._ended: float | None = None
        self._began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if self._ended is not None:
            self.samples += len(batch[0]) * trainer.world_size
            self.seconds += now - self._ended
            self.waited += self._began - self._ended
        self._ended = now

    def state_dict(self) -> dict[str, Any]:
        return {"samples": self.samples, "seconds": self.seconds, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.samples, self.seconds, self.waited = (
            state_dict[key] for key in ("samples", "seconds", "waited")
        )

    def summary(self, trainer: pl.Trainer) -> dict[str, Any]:
        """For the model card: images per second of all devices, share of the time that went into waiting for
        data (both `None` where no epoch has two steps), number and kind of devices."""
        device = trainer.strategy.root_device
        measured = self.seconds > 0
        return {
            "samples_per_second": round(self.samples / self.seconds, 2) if measured else None,
            "waiting_for_data": round(self.waited / self.seconds, 4) if measured else None,
            "devices": trainer.world_size,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        }
