"""What a run is told besides its recipe: where it starts, how long it lasts, where it computes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from sficonv.training.recipes import Recipe

PathLike = str | Path
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class TrainOptions:
    """Where a run starts from, and how long it lasts.

    Args:
        extra_data: Prepared folder, or several, whose real faces are added to the training as material for
            forgeries. Default: none.
        weights: Start from these weights: a file, a repository of the Hub, or `"default"`, the shipped
            detector. They fix the model. Default: the shipped detector where neither a model nor the recipe
            "paper" is asked for.
        pretrained: Start from ImageNet weights.
        alpha: Share of high-frequency channels, for `sfic_*` models. Default: the model's own.
        beta: Resolution of the high-frequency channels relative to the others, for `sfic_*` models. Default:
            the model's own.
        model_options: Further options of the model, such as `{"mcs_mode": "none"}`.
        steps_per_epoch: Batches per epoch. Default: as many as it takes to draw each crop once.
        patience: Stop after this many epochs in a row without a better validation AUC. Default: never.
        save_every: Also save the run after this many steps, for epochs that take hours. Default: after each
            epoch only.
        resume: Continue the run found in `out`; otherwise start again.
        tensorboard: Also write `tensorboard/` for TensorBoard (extra `[tensorboard]`).

    Raises:
        ValueError: A value is out of range, or an option does not go with `weights`.

    Example:
        >>> TrainOptions(patience=3).resume
        True
    """

    extra_data: PathLike | Sequence[PathLike] = ()
    weights: PathLike | None = None
    pretrained: bool = False
    alpha: float | None = None
    beta: float | None = None
    model_options: dict[str, Any] | None = None
    steps_per_epoch: int | None = None
    patience: int | None = None
    save_every: int | None = None
    resume: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps_per_epoch", "patience", "save_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.weights is not None and (
            self.pretrained or self.model_options or self.alpha is not None or self.beta is not None
        ):
            raise ValueError(
                "weights fix the model: alpha, beta, pretrained and model_options cannot be given too"
            )


@dataclass(frozen=True)
class Hardware:
    """Where a run computes, and how precisely.

    Args:
        accelerator: `"cpu"`, `"gpu"`, `"mps"`, ...: as in `lightning.pytorch.Trainer`. Default: a GPU if
            there is one.
        devices: How many of them to use on each machine. Default: all; under torchrun, one for each process.
        nodes: Number of machines; torchrun sets it itself.
        workers: Loader processes; they do not change the result. Default: one per core except one, at most 8.
        precision: `"32-true"` computes in 32 bits, `"bf16-mixed"` and `"16-mixed"` mostly in 16. Weights are
            kept and saved in 32 bits.
        channels_last: Use the channels-last memory format. Default: wherever `precision` is a mixed one.
        crop_memory: Memory in GB that the crops may take on each device where forgeries are made of them;
            beyond it they are decoded as they are drawn. Default: half of what is free.
        compile: Compile the model with `torch.compile`: the first steps take longer, the others less.
        sync_batchnorm: Let batch norm count over the batches of all devices instead of each device's own.

    Example:
        >>> Hardware(precision="bf16-mixed").resolved().channels_last
        True
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    nodes: int = 1
    workers: int | None = None
    precision: Precision = "32-true"
    channels_last: bool | None = None
    crop_memory: float | None = None
    compile: bool = False
    sync_batchnorm: bool = False

    def resolved(self) -> Hardware:
        """With the devices of torchrun where it has started this process, and the memory format decided."""
        channels_last = self.precision != "32-true" if self.channels_last is None else self.channels_last
        devices, nodes = self.devices, self.nodes
        if devices == "auto" and "TORCHELASTIC_RUN_ID" in os.environ:
            devices = int(os.environ["LOCAL_WORLD_SIZE"])
            nodes = int(os.environ["WORLD_SIZE"]) // devices
        return replace(self, devices=devices, nodes=nodes, channels_last=channels_last)


def sort_changes(
    changes: dict[str, Any], recipe: Recipe, options: TrainOptions, hardware: Hardware
) -> tuple[Recipe, TrainOptions, Hardware]:
    """Give keyword arguments to the objects that have a field of that name.

    Args:
        changes: Values by name. `None` keeps a field of the recipe, as that has no other way to say so.
        recipe, options, hardware: What is changed.

    Raises:
        ValueError: A value is out of range.
        TypeError: There is no such field.

    Example:
        >>> recipe, _, hardware = sort_changes(
        ...     {"lr": 0.1, "workers": 0}, Recipe("mine"), TrainOptions(), Hardware()
        ... )
        >>> recipe.lr, hardware.workers
        (0.1, 0)
    """
    names = [[field.name for field in fields(kind)] for kind in (recipe, options, hardware)]
    known = [name for group in names for name in group if name != "name"]
    for name in changes.keys() - set(known):
        near = get_close_matches(name, known, n=1)
        raise TypeError(f"train() has no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    of_recipe, of_options, of_hardware = (
        {name: changes[name] for name in group if name in changes} for group in names
    )
    return (
        Recipe.named(recipe, **of_recipe),
        replace(options, **of_options),
        replace(hardware, **of_hardware),
    )
