"""The saved states of a run: written whole or not at all, and found again after a crash."""

from __future__ import annotations

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from sficonv.errors import DataError, SficonvError
from sficonv.files import atomic_file

CHECKPOINTS, LAST, BEST, REPLACED = "checkpoints", "last.ckpt", "best.ckpt", "best-of-replaced-run.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it.

    Lightning writes into the system's temporary folder and moves the file: onto another file system that is a
    copy, and a kill in the middle of it leaves neither the old checkpoint nor the new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replace the checkpoint at `path`, or leave the one that is there."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(Path(path)) as temporary:
                temporary.write_bytes(buffer.getbuffer())
        except OSError as error:
            raise SficonvError(
                f"{path}: the run cannot be saved ({error.strerror}). What was saved before is whole: once "
                "there is room, the same command continues from it."
            ) from error


class Keep(ModelCheckpoint):
    """Knows its files again after the folder of the run was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = ("best_model_path", "last_model_path", "kth_best_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})


class SaveSteps(Keep):
    """Saves the run every few steps, except at the end of an epoch: that is saved after its validation."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *args, **kwargs)


def saving(out: Path, monitor: str, every_steps: int | None) -> list[pl.Callback]:
    """The callbacks that keep the best and the last state of a run in `out`.

    All save at the end of the training epoch: validation is over by then, and nothing is left to repeat.
    """
    kept: dict[str, Any] = {"dirpath": out / CHECKPOINTS, "enable_version_counter": False}
    best, last = Path(BEST).stem, Path(LAST).stem
    callbacks: list[pl.Callback] = [
        Keep(filename=best, monitor=monitor, mode="max", save_on_train_epoch_end=True, **kept),
        Keep(filename=last, save_on_train_epoch_end=True, **kept),
    ]
    if every_steps:
        callbacks.append(SaveSteps(filename=last, every_n_train_steps=every_steps, **kept))
    return callbacks


def find_sound(out: Path) -> tuple[Path | None, int, list[str]]:
    """The checkpoint to continue a run from: the last one, or the best one where the last is damaged.

    Both hold the whole state, so that either leads to the same result.

    Returns:
        The file, or `None` where there is none; the steps taken by then; and what is wrong with others.

    Raises:
        DataError: There are checkpoints, and none can be read.
    """
    damaged: list[str] = []
    for file in (out / CHECKPOINTS / LAST, out / CHECKPOINTS / BEST):
        if not file.is_file():
            continue
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            return file, int(saved["global_step"]), damaged
        except (OSError, RuntimeError, UnpicklingError, KeyError, EOFError, TypeError, ValueError) as error:
            damaged.append(f"{file} cannot be read ({str(error).splitlines()[0]})")
    if damaged:
        raise DataError(
            f"{'; '.join(damaged)}. The run cannot be continued: choose another `out`, or start it again "
            "with resume=False (--no-resume)."
        )
    return None, 0, []


def set_aside(out: Path) -> None:
    """Make room for a new run. The best state of the old one stays, under another name."""
    folder = out / CHECKPOINTS
    if (folder / BEST).is_file():
        (folder / BEST).replace(folder / REPLACED)
    (folder / LAST).unlink(missing_ok=True)
