"""One run of a tiny detector, maybe killed on its way: what `test_resume` starts in processes of their own.

`work` comes with the globals: the arguments of `train`, and under `kill` a moment and a number: a hook and
the step from which on it kills; "writing" and a step, to be killed when half a checkpoint is written;
"anywhen" and milliseconds after the first step. The signal is SIGKILL, or that under `signal`.
"""

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from sficonv.models import ModelConfig, registry
from sficonv.training import train


def tiny_detector(*, num_classes: int = 2, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
    """A few hundred parameters, with batch norm and dropout."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8, num_classes),
    )
    return model, ModelConfig("tiny_detector", image_size=32)


class Kill(pl.Callback):
    """Ends the process, or stops it, at its first call of a hook after so many steps."""

    def __init__(self, hook: str, step: int, number: int = signal.SIGKILL) -> None:
        def kill(trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step >= step:
                os.kill(os.getpid(), number)

        setattr(self, hook, kill)


class KillWriting(pl.Callback):
    """Ends the process when half of a checkpoint is on the disk."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step >= self.step:

            def half(path: Path, content: Any) -> None:
                with path.open("wb") as file:
                    file.write(content[: len(content) // 2])
                    file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)

            Path.write_bytes = half  # type: ignore[assignment,method-assign]


class KillLater(pl.Callback):
    """Ends the process some time after its first step, whatever it does by then."""

    def __init__(self, milliseconds: int) -> None:
        self.timer = threading.Timer(milliseconds / 1000, os.kill, (os.getpid(), signal.SIGKILL))
        self.timer.daemon = True

    def on_train_start(self, *args: Any) -> None:
        self.timer.start()


def killer(moment: str, number: int, signal_number: int) -> pl.Callback:
    if moment == "writing":
        return KillWriting(number)
    return KillLater(number) if moment == "anywhen" else Kill(moment, number, signal_number)


if __name__ == "__main__":
    # As anywhere else loader processes are forked: they then end with this process, however it ends.
    multiprocessing.set_start_method("fork", force=True)
    given: dict[str, Any] = globals()["work"]
    kill, number = given.pop("kill"), given.pop("signal", signal.SIGKILL)
    registry._BUILDERS["tiny_detector"] = tiny_detector
    torch.set_num_threads(1)
    train(model="tiny_detector", callbacks=[killer(*kill, number)] if kill else [], **given)
