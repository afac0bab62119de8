"""One run of a tiny detector, maybe killed on its way: what `test_resume` starts in processes of their own.

`work` comes with the globals: the arguments of `train`, and under `kill` the name of a hook and a step.
"""

import multiprocessing
import os
import signal
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
    """Ends the process at its first call of a hook after so many steps; nothing can be tidied up."""

    def __init__(self, hook: str, step: int) -> None:
        def kill(trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step >= step:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(self, hook, kill)


if __name__ == "__main__":
    # As anywhere else loader processes are forked: they then end with this process, however it ends.
    multiprocessing.set_start_method("fork", force=True)
    given: dict[str, Any] = globals()["work"]
    kill = given.pop("kill")
    registry._BUILDERS["tiny_detector"] = tiny_detector
    torch.set_num_threads(1)
    train(model="tiny_detector", callbacks=[Kill(*kill)] if kill else [], **given)
