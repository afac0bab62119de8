"""The Lightning trainer of a run: where it computes, what it saves and logs, when it stops."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from rich.console import Console

from sficonv.errors import DataError, SficonvError
from sficonv.training.module import AverageWeights
from sficonv.training.recipes import Recipe
from sficonv.training.resume import BEST, CHECKPOINTS, LAST, SaveSteps

MONITOR = "val_auc_video"


@dataclass(frozen=True)
class Where:
    """Devices that train together; the fields are those of `lightning.pytorch.Trainer`."""

    accelerator: str
    devices: int | str
    num_nodes: int
    sync_batchnorm: bool

    @classmethod
    def of(cls, accelerator: str, devices: int | str, nodes: int, sync_batchnorm: bool) -> Where:
        """The devices that are asked for; those of torchrun where it has started this process.

        Raises:
            ValueError: batch norm cannot be synchronised there.
        """
        if sync_batchnorm and accelerator == "cpu":
            raise ValueError("sync_batchnorm needs a GPU: torch synchronises batch norm on no other device")
        if devices == "auto" and TorchElasticEnvironment.detect():
            devices = int(os.environ["LOCAL_WORLD_SIZE"])
            nodes = int(os.environ["WORLD_SIZE"]) // devices
        return cls(accelerator, devices, nodes, sync_batchnorm)


class Patience(EarlyStopping):
    """Stops a run whose validation AUC no longer rises; one that has stopped stays stopped."""

    def __init__(self, epochs: int) -> None:
        super().__init__(monitor=MONITOR, mode="max", patience=epochs, check_on_train_epoch_end=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = self.wait_count >= self.patience


def make_trainer(
    out: Path,
    recipe: Recipe,
    where: Where,
    *,
    precision: Any,
    patience: int | None,
    save_every: int | None,
    tensorboard: bool,
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    """The trainer of a run in `out`; the arguments are those of `train`.

    Raises:
        SficonvError: the package tensorboard is missing.
        ValueError: `patience` or `save_every` is not positive.
    """
    for name, value in (("patience", patience), ("save_every", save_every)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    kept: dict[str, Any] = {"dirpath": out / CHECKPOINTS, "enable_version_counter": False}
    # Saved at the end of the training epoch: validation is over by then, and nothing is left to repeat.
    own: list[pl.Callback] = [
        ModelCheckpoint(filename=BEST, monitor=MONITOR, mode="max", save_on_train_epoch_end=True, **kept),
        ModelCheckpoint(filename=LAST, save_on_train_epoch_end=True, **kept),
    ]
    if save_every:
        own.append(SaveSteps(filename=LAST, every_n_train_steps=save_every, **kept))
    if patience:
        own.append(Patience(patience))
    if recipe.ema_decay:
        own.insert(0, AverageWeights(recipe.ema_decay))
    terminal = Console(stderr=True).is_terminal
    if terminal:
        own.append(RichProgressBar(console_kwargs={"stderr": True}))
    return pl.Trainer(
        accelerator=where.accelerator,
        devices=where.devices,
        num_nodes=where.num_nodes,
        sync_batchnorm=where.sync_batchnorm,
        use_distributed_sampler=False,  # ours deal the rows out so that none counts twice
        precision=precision,
        max_epochs=recipe.epochs,
        callbacks=[*own, *callbacks],
        logger=_loggers(out, tensorboard=tensorboard),
        gradient_clip_val=recipe.grad_clip or None,
        deterministic="warn",
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=terminal,
        enable_model_summary=False,
    )


@contextmanager
def readable_errors() -> Iterator[None]:
    """An error of a loader process without its traceback, and no warning about what is taken care of."""
    with catch_warnings():
        # The loaders go on in the middle of an epoch by themselves, see `train_loader`.
        filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")
        try:
            yield
        except DataError as error:
            marked = f"{DataError.__module__}.{DataError.__qualname__}: "
            _, found, said = str(error).rpartition(marked)
            raise (DataError(said.strip()) if found else error) from error


def _loggers(out: Path, *, tensorboard: bool) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(out, name="logs", flush_logs_every_n_steps=1)]
    if tensorboard:
        try:
            loggers.append(TensorBoardLogger(out, name="tensorboard", version=""))
        except ModuleNotFoundError as error:
            raise SficonvError(
                "tensorboard=True needs the package tensorboard: pip install 'sficonv[tensorboard]'"
            ) from error
    return loggers
