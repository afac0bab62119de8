"""Going on with a run that was interrupted: what its folder holds, and what has to be as it was."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from sficonv.errors import DataError

CHECKPOINTS, LAST, BEST = "checkpoints", "last", "best"


def open_run(
    out: Path, settings: dict[str, Any], folders: list[dict[str, Any]], *, resume: bool
) -> tuple[Path | None, int]:
    """Make the folder of a run and save its settings, or find the run in it.

    Args:
        out: the folder.
        settings: arguments of `train` that decide the result.
        folders: name and hash of each folder of data: names stay the same when data is prepared anew.
        resume: go on with what is found; else it is removed.

    Returns:
        The checkpoint to go on from (`None`: from the start) and the steps that were taken by then.

    Raises:
        DataError: the run that is found has other settings or other data, or is damaged.
    """
    config, used, last = out / "config.yaml", out / "data.yaml", out / CHECKPOINTS / f"{LAST}.ckpt"
    if resume and last.is_file():
        try:
            saved = yaml.safe_load(config.read_text(encoding="utf-8"))
            used_before = yaml.safe_load(used.read_text(encoding="utf-8"))
            step = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["global_step"]
        except (OSError, RuntimeError, UnpicklingError, KeyError, yaml.YAMLError) as error:
            raise DataError(
                f"{out}: the run in it cannot be continued ({error}). Choose another `out`, or pass "
                "resume=False to start again."
            ) from error
        keys = sorted((settings.keys() | saved.keys()) - {"out"})
        if changed := [key for key in keys if settings.get(key) != saved.get(key)]:
            raise DataError(
                f"{out}: holds a run with other settings ({', '.join(changed)}). Give the same ones to "
                "continue it, choose another `out`, or pass resume=False to start again."
            )
        if used_before != folders:
            raise DataError(
                f"{out}: the prepared data has changed since this run began. Choose another `out`, or pass "
                "resume=False to start again."
            )
        return last, int(step)
    for stale in (
        last,
        last.with_name(f"{BEST}.ckpt"),
        *out.glob("logs/version_*/*"),
        *out.glob("tensorboard/*"),
    ):
        stale.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    used.write_text(yaml.safe_dump(folders), encoding="utf-8")
    return None, 0


class SaveSteps(ModelCheckpoint):
    """Saves the run every few steps, except at the end of an epoch: that is saved after its validation."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *args, **kwargs)


class SameRun(pl.Callback):
    """Refuses to go on where the result would silently be another one.

    Args:
        out: folder of the run.
        first_step: step that this process goes on from.

    Attributes:
        readers: loader processes where they decide what is read, else 0.
    """

    def __init__(self, out: Path, first_step: int) -> None:
        self.out, self.first_step = out, first_step
        self.devices, self.readers = 1, 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.devices = trainer.world_size
        if trainer.strategy.broadcast(self.first_step) != self.first_step:
            raise DataError(
                f"{self.out}: the processes of this run see different checkpoints in it. `out` must lie on "
                "storage that all machines share."
            )

    def state_dict(self) -> dict[str, Any]:
        return {"devices": self.devices, "readers": self.readers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        now = self.state_dict()
        if state_dict != now:
            raise DataError(
                f"{self.out}: this run was begun by {_in_words(state_dict)}, not by {_in_words(now)}; "
                "another number would give another result. Give the same to continue it, choose another "
                "`out`, or pass resume=False to start again."
            )


def _in_words(layout: dict[str, Any]) -> str:
    readers = f" with workers={layout['readers']} reading shards" if layout["readers"] else ""
    return f"{layout['devices']} device(s){readers}"
