"""Continuing an interrupted run: what its folder holds, and what has to be as it was."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml

from sficonv.errors import DataError
from sficonv.files import atomic_file
from sficonv.training.checkpoints import find_sound, set_aside

logger = logging.getLogger(__name__)

PLACES = ("out", "data", "extra_data", "weights")
"""Settings that say where something lies. What lies there is compared by its content."""


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Hold the folder of a run: no second training can write into it.

    The lock ends with the process, however that ends, and loader processes do not inherit it.

    Raises:
        DataError: Another process trains there.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (out / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise DataError(
                f"{out}: another training (process {file.read().strip() or 'unknown'}) runs in this folder. "
                "Wait for it, or choose another `out`."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def open_run(
    out: Path, settings: dict[str, Any], inputs: dict[str, Any], *, resume: bool, first: bool = True
) -> tuple[Path | None, int]:
    """Make the folder of a run and save its settings, or find the run in it.

    Args:
        out: The folder.
        settings: Arguments of `train` that decide the result.
        inputs: Hashes of what is read. Data that was moved, or prepared anew with the same result, is the
            same data.
        resume: Continue what is found; otherwise it makes room.
        first: Whether this is the one of several processes that writes; the others only look.

    Returns:
        The checkpoint to continue from (`None`: from the start) and the steps taken by then.

    Raises:
        DataError: The run that is found has other settings or other data, or is damaged.
    """
    config, used = out / "config.yaml", out / "data.yaml"
    checkpoint, step, damaged = find_sound(out) if resume else (None, 0, [])
    if not first:
        return checkpoint, step
    if checkpoint is None:
        set_aside(out)
        for stale in (out / "history.csv", *out.glob("tensorboard/*")):
            stale.unlink(missing_ok=True)
    else:
        _compare(out, settings, inputs, config, used)
        for damage in damaged:
            logger.warning("%s; the run continues from %s", damage, checkpoint)
    for file, value in ((used, inputs), (config, settings)):
        with atomic_file(file) as temporary:
            temporary.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return checkpoint, step


def _compare(out: Path, settings: dict[str, Any], inputs: dict[str, Any], config: Path, used: Path) -> None:
    try:
        saved, used_before = (yaml.safe_load(f.read_text(encoding="utf-8")) for f in (config, used))
        names = sorted((settings.keys() | saved.keys()) - set(PLACES))
        changed = [name for name in names if settings.get(name) != saved.get(name)]
    except (OSError, UnicodeDecodeError, AttributeError, yaml.YAMLError) as error:
        raise DataError(
            f"{out}: the run in it cannot be continued ({error}). Choose another `out`, or start it again "
            "with resume=False (--no-resume)."
        ) from error
    if changed:
        raise DataError(
            f"{out}: holds a run with other settings ({', '.join(changed)}). Give the same ones to continue "
            "it, choose another `out`, or start it again with resume=False (--no-resume)."
        )
    if used_before != inputs:
        raise DataError(
            f"{out}: the prepared data, or the weights it started from, changed since this run began. Choose "
            "another `out`, or start it again with resume=False (--no-resume)."
        )


class SameRun(pl.Callback):
    """Refuses to continue where the result would silently be another one.

    Args:
        out: Folder of the run.

    Attributes:
        first_step: Step that this process continues from.
        readers: Loader processes where they decide what is read, else 0.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.readers = out, 0
        self.first_step, self.devices = 0, 1

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
                f"{self.out}: this run was started by {_in_words(state_dict)}, not by {_in_words(now)}; "
                "another number would change the result. Give the same to continue it, choose another "
                "`out`, or start it again with resume=False (--no-resume)."
            )


def _in_words(layout: dict[str, Any]) -> str:
    readers = f" with workers={layout['readers']} reading shards" if layout["readers"] else ""
    return f"{layout['devices']} device(s){readers}"
