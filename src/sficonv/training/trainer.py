"""The Lightning trainer of a run: where it computes, what it saves and logs, when and how it stops."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console

from sficonv.errors import DataError, SficonvError
from sficonv.training.checkpoints import WholeFiles, saving
from sficonv.training.module import AverageWeights
from sficonv.training.options import Hardware, TrainOptions
from sficonv.training.recipes import Recipe

MONITOR = "val_auc_video"
TERMINATED = 128 + signal.SIGTERM


class Patience(EarlyStopping):
    """Stops a run whose validation AUC no longer rises; one that has stopped stays stopped."""

    def __init__(self, epochs: int) -> None:
        super().__init__(monitor=MONITOR, mode="max", patience=epochs, check_on_train_epoch_end=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = self.wait_count >= self.patience


def make_trainer(
    out: Path, recipe: Recipe, options: TrainOptions, hardware: Hardware, callbacks: Sequence[pl.Callback]
) -> pl.Trainer:
    """The trainer of a run in `out`; the arguments are those of `train`.

    Raises:
        SficonvError: The package tensorboard is missing.
        ValueError: This machine does not have what `hardware` asks for.
    """
    own = saving(out, MONITOR, options.save_every)
    if options.patience:
        own.append(Patience(options.patience))
    if recipe.ema_decay:
        own.insert(0, AverageWeights(recipe.ema_decay))
    terminal = Console(stderr=True).is_terminal
    if terminal:
        own.append(RichProgressBar(leave=False, console_kwargs={"stderr": True}))
    precision: Any = hardware.precision
    try:
        return pl.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            use_distributed_sampler=False,  # ours deal the rows out so that none counts twice
            precision=precision,
            max_epochs=recipe.epochs,
            callbacks=[*own, *callbacks],
            plugins=[WholeFiles()],
            logger=_tensorboard(out) if options.tensorboard else False,
            gradient_clip_val=recipe.grad_clip or None,
            deterministic="warn",
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            enable_progress_bar=terminal,
            enable_model_summary=False,
        )
    except MisconfigurationException as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"accelerator {hardware.accelerator!r} with devices {hardware.devices!r} cannot be used here: "
            f"{reason} Leave both out to train on what is available."
        ) from error


@contextmanager
def readable_errors() -> Iterator[None]:
    """What goes wrong in a loader process, without its traceback."""
    try:
        yield
    except DataError as error:
        marked = f"{DataError.__module__}.{DataError.__qualname__}: "
        _, found, said = str(error).rpartition(marked)
        raise (DataError(said.strip()) if found else error) from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise SficonvError(
            "a loader process was killed, most likely because memory ran out. The same command continues the "
            "run; fewer --workers take less memory."
        ) from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's remarks on the machine, on other packages, and on what is taken care of here."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    with catch_warnings():
        filterwarnings("ignore", module=r"lightning\.")
        filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")
        for name in names:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Ctrl-C ends the block with `KeyboardInterrupt`, SIGTERM with `SystemExit`, and nothing else does then.

    Lightning makes an exit of Ctrl-C and waits with SIGTERM for the end of a step, in which its loaders die.
    """
    received: list[int] = []

    def terminate(number: int, frame: object) -> None:
        received.append(number)
        raise SystemExit(TERMINATED)

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if in_main else None
    try:
        yield
    except BaseException as error:
        if received:  # whatever follows from it, such as loaders that were ended too
            raise SystemExit(TERMINATED) from None
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _tensorboard(out: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(out, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise SficonvError(
            "tensorboard=True needs the package tensorboard: pip install 'sficonv[tensorboard]'"
        ) from error
