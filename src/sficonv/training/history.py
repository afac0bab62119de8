"""What a run measures, epoch by epoch: kept with its checkpoints, written as CSV, shown as a table."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import pandas as pd

from sficonv.files import atomic_file
from sficonv.training.module import TrainingModule

FILE = "history.csv"
COLUMNS = {
    "train_loss": "train loss",
    "val_loss": "val loss",
    "val_auc_frame": "AUC frames",
    "val_auc_video": "AUC videos",
}


class History(pl.Callback):
    """One row per epoch, in `history.csv` of the run's folder and on standard error.

    The rows travel in the checkpoint, so that a run that was killed has each epoch once.

    Args:
        out: Folder of the run.
        epochs: How many epochs the run takes at most.

    Attributes:
        rows: The epochs so far.
    """

    def __init__(self, out: Path, epochs: int) -> None:
        self.out, self.epochs = out, epochs
        self.rows: list[dict[str, Any]] = []
        self._began = 0.0
        self._seconds: list[float] = []  # of the epochs of this process

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        row = {"epoch": trainer.current_epoch, **cast(TrainingModule, pl_module).epoch_row()}
        self.rows.append(row)
        self._seconds.append(time.monotonic() - self._began)
        if trainer.is_global_zero:
            self.write()
            self._show(row)

    def table(self) -> pd.DataFrame:
        """The rows as `TrainResult.history` has them."""
        return pd.DataFrame(self.rows) if self.rows else pd.DataFrame({"epoch": pd.Series(dtype="int64")})

    def write(self) -> None:
        """Write `history.csv`."""
        with atomic_file(self.out / FILE) as temporary:
            self.table().to_csv(temporary, index=False)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def _show(self, row: dict[str, Any]) -> None:
        if len(self._seconds) == 1:
            say("epoch".rjust(9), *(title.rjust(10) for title in COLUMNS.values()), "time".rjust(9), "left")
        left = (self.epochs - len(self.rows)) * sum(self._seconds) / len(self._seconds)
        best = max(self.rows, key=lambda other: float(other["val_auc_video"])) is row
        say(
            f"{len(self.rows)}/{self.epochs}".rjust(9),
            *(f"{row[name]:10.4f}" for name in COLUMNS),
            _duration(self._seconds[-1]).rjust(9),
            _duration(left) + ("  best so far" if best else ""),
        )


def say(*words: str) -> None:
    """Tell whoever watches the run; standard output belongs to the result."""
    print(*words, sep="  ", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
