"""`train`: prepared faces in, a detector with its model card out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from sficonv.card import DEFAULT_BAND
from sficonv.datasets.masks import MASK
from sficonv.models import ModelConfig, create_model, load_weights, read_card, save_weights
from sficonv.models.losses import HasLosses, uses_domains
from sficonv.training.data import (
    TrainingData,
    default_workers,
    load_training_data,
    train_loader,
    training_domains,
    val_loader,
)
from sficonv.training.module import TrainingModule
from sficonv.training.recipes import Recipe, get_recipe
from sficonv.training.resume import SameRun, open_run
from sficonv.training.speed import InputSpeed
from sficonv.training.trainer import Where, make_trainer, readable_errors

logger = logging.getLogger(__name__)

PathLike = str | Path


@dataclass(frozen=True)
class TrainResult:
    """What a training run leaves behind.

    Args:
        weights: the `.safetensors` file of the best epoch, its model card beside it.
        card: the model card.
        history: one row per epoch: `epoch`, `train_loss` (and its terms, `train_loss_*`, where it is a
            sum), `lr`, `val_loss`, `val_auc_frame`, `val_auc_video`.
    """

    weights: Path
    card: dict[str, Any]
    history: pd.DataFrame


def train(
    data: PathLike | Sequence[PathLike],
    *,
    model: str = "sfic_resnet26",
    recipe: str | Recipe = "paper",
    out: PathLike | None = None,
    extra_data: PathLike | Sequence[PathLike] = (),
    alpha: float | None = None,
    beta: float | None = None,
    pretrained: bool = False,
    model_options: dict[str, Any] | None = None,
    weights: PathLike | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    image_size: int | None = None,
    self_blend: float | None = None,
    cross_blend: float | None = None,
    main_share: float | None = None,
    sampling: Literal["shuffle", "balanced"] | None = None,
    transform: Literal["paper", "finetune"] | None = None,
    optimizer: Literal["adam", "adamw"] | None = None,
    betas: tuple[float, float] | None = None,
    weight_decay: float | None = None,
    schedule: Literal["halve", "cosine"] | None = None,
    warmup: float | None = None,
    label_smoothing: float | None = None,
    ema_decay: float | None = None,
    grad_clip: float | None = None,
    steps_per_epoch: int | None = None,
    workers: int | None = None,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    channels_last: bool | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    nodes: int = 1,
    sync_batchnorm: bool = False,
    patience: int | None = None,
    tensorboard: bool = False,
    resume: bool = True,
    save_every: int | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> TrainResult:
    """Train a detector on prepared faces and keep the epoch with the best validation AUC over videos.

    Rows of split `train` are trained on, rows of split `val` choose the epoch; the files of the test split
    are never opened. A run that was killed continues from its last finished epoch (or its last saved step,
    see `save_every`) when the same command is given again, and ends as if it had not been killed.

    Several devices, on one machine or more, share each step: `torchrun --nproc-per-node 8 -m sficonv train`,
    or `devices=8` on one machine without torchrun. A step then takes `batch_size` images on each of them.

    Args:
        data: prepared folder, or several.
        model: name of the detector, see `list_models()`. It brings its loss, its input size and its
            normalisation; a column `mask` of the manifest (see `sficonv.datasets.masks`) is read for
            those whose loss needs it.
        recipe: `"paper"`, `"finetune"` or a `Recipe`.
        out: folder of the run. Default `runs/<model>-<recipe>`.
        extra_data: prepared folders whose real faces are added to the training, for self-made forgeries.
        alpha, beta: options of the `sfic_*` models; `None`: the model's default.
        pretrained: start from ImageNet weights.
        model_options: further options of the model, such as `{"mcs_mode": "none"}`.
        weights: start from this weights file (`"default"`: the shipped detector); it fixes `model`,
            `alpha`, `beta` and `model_options`.
        epochs, batch_size, lr, seed, image_size, self_blend, cross_blend, main_share, sampling, transform,
            optimizer, betas, weight_decay, schedule, warmup, label_smoothing, ema_decay, grad_clip: override
            the recipe's field of that name, see `Recipe`; `None` keeps it.
        steps_per_epoch: batches per epoch. Default: as many as it takes to draw each row once.
        workers: loader processes. Default: one per core except one, at most 8. They do not change the result.
        precision: `"32-true"`, `"bf16-mixed"` or `"16-mixed"`.
        channels_last: memory format. Default: wherever `precision` is a mixed one.
        accelerator: `"auto"`, `"cpu"`, `"gpu"`, ...: as in `lightning.pytorch.Trainer`.
        devices: how many of them on each machine. Default: all; under torchrun, one for each process.
        nodes: number of machines; torchrun says it itself.
        sync_batchnorm: let batch norm count over all devices instead of over each one's batch; GPU only.
        patience: stop after so many epochs in a row without a better validation AUC. Default: never.
        tensorboard: write `tensorboard/` for TensorBoard too (extra `[tensorboard]`).
        resume: continue an interrupted run found in `out`; `False` starts it again.
        save_every: steps after which to save the run, for epochs that take hours. Default: after each epoch.
        callbacks: more Lightning callbacks.

    Returns:
        The weights file, the model card and the history. `out` also holds `config.yaml` (all settings, by
        the names above), `logs/` (CSV) and `checkpoints/`.

    Raises:
        DataError: validation rows missing or of one label, unusable folders or crops, or `out` holds a run
            with other settings or of another number of devices.
        SficonvError: training diverged, or an extra is not installed.
        ValueError: unknown model, recipe or option.

    Example:
        >>> train("prepared", model="sfic_resnet26", recipe="paper", out="runs/first")  # doctest: +SKIP
    """
    plan = get_recipe(
        recipe, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, image_size=image_size,
        self_blend=self_blend, cross_blend=cross_blend, main_share=main_share, sampling=sampling,
        transform=transform, optimizer=optimizer, betas=betas, weight_decay=weight_decay, schedule=schedule,
        warmup=warmup, label_smoothing=label_smoothing, ema_decay=ema_decay, grad_clip=grad_clip,
    )  # fmt: skip
    if steps_per_epoch is not None and steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
    where = Where.of(accelerator, devices, nodes, sync_batchnorm)
    if weights is not None:
        if pretrained or model_options or alpha is not None or beta is not None:
            raise ValueError(
                "weights fix the model: alpha, beta, pretrained and model_options cannot be given too"
            )
        model = read_card(weights)["model"]
    folders, extra_folders = _folders(data), _folders(extra_data)
    out = Path(out) if out is not None else Path("runs") / f"{model}-{plan.name}"
    rows = load_training_data(folders, extra_folders)
    for warning in rows.warnings:
        rank_zero_only(logger.warning)("%s", warning)

    pl.seed_everything(plan.seed, workers=True, verbose=False)
    if weights is not None:
        detector = load_weights(weights)[0].train()
    else:
        options = {"alpha": alpha, "beta": beta, **(model_options or {})}
        detector = create_model(model, pretrained=pretrained, image_size=plan.image_size, **options)
    config: ModelConfig = detector.config  # type: ignore[assignment]
    detector.config = config = config.with_image_size(plan.image_size)  # type: ignore[assignment]
    plan = plan.override(image_size=config.image_size)

    settings = {
        "data": [str(folder) for folder in folders],
        "extra_data": [str(folder) for folder in extra_folders],
        "out": str(out),
        "model": model,
        "alpha": alpha,
        "beta": beta,
        "pretrained": pretrained,
        "model_options": model_options,
        "weights": None if weights is None else str(weights),
        "steps_per_epoch": steps_per_epoch,
        "precision": precision,
        "channels_last": precision != "32-true" if channels_last is None else channels_last,
        **{("recipe" if key == "name" else key): value for key, value in dataclasses.asdict(plan).items()},
        "betas": list(plan.betas),
        "sync_batchnorm": sync_batchnorm,
        "patience": patience,
    }
    last, first_step = open_run(out, settings, rows.summary["folders"], resume=resume)
    module = TrainingModule(
        detector,
        plan,
        rows.val,
        channels_last=settings["channels_last"],
        domains=training_domains(rows, plan) if uses_domains(detector) else None,
    )
    speed, same_run = InputSpeed(), SameRun(out, first_step)
    trainer = make_trainer(
        out,
        plan,
        where,
        precision=precision,
        patience=patience,
        save_every=save_every,
        tensorboard=tensorboard,
        callbacks=[same_run, speed, *callbacks],
    )
    workers = default_workers(trainer.num_devices) if workers is None else workers
    same_run.readers = workers if rows.shards else 0
    # Lightning draws the first batches of a continued run before it tells the sampler the epoch.
    batches = train_loader(
        rows,
        plan,
        steps_per_epoch=steps_per_epoch,
        workers=workers,
        devices=trainer.world_size,
        first_step=first_step,
        masks=isinstance(detector, HasLosses) and detector.uses_masks and _has_masks(rows, plan),
        frames=config.frames,
    )
    validation = val_loader(rows, plan, workers=workers, devices=trainer.world_size, frames=config.frames)
    with readable_errors():
        trainer.fit(module, batches, validation, ckpt_path=last, weights_only=True)
    path = out / "weights.safetensors"
    if trainer.is_global_zero:
        best = torch.load(out / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
        detector.load_state_dict(
            {
                key.removeprefix("model."): value
                for key, value in best["state_dict"].items()
                if key.startswith("model.")
            }
        )
        card = _card(rows, settings, plan, _history(out), int(best["epoch"]), speed.summary(trainer))
        save_weights(path, detector, card)
    trainer.strategy.barrier("weights saved")
    return TrainResult(path, read_card(path), _history(out))


def _folders(given: PathLike | Sequence[PathLike]) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else [Path(folder) for folder in given]


def _has_masks(rows: TrainingData, recipe: Recipe) -> bool:
    """Whether any mask says more than the label does."""
    return recipe.self_blend > 0 or (MASK in rows.train.columns and bool(rows.train[MASK].fillna("").any()))


def _history(out: Path) -> pd.DataFrame:
    """One row per epoch, over all the times that the run was continued."""
    logs = [pd.read_csv(path) for path in sorted(out.glob("logs/version_*/metrics.csv"), key=_version)]
    if not logs:
        return pd.DataFrame({"epoch": pd.Series(dtype="int64")})
    return pd.concat(logs).groupby("epoch", as_index=False).last().drop(columns="step")


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))


def _card(
    data: TrainingData,
    settings: dict[str, Any],
    recipe: Recipe,
    history: pd.DataFrame,
    best_epoch: int,
    speed: dict[str, Any],
) -> dict[str, Any]:
    names = ("val_auc_video", "val_auc_frame", "val_loss")
    row = history[history["epoch"] == best_epoch].iloc[0]
    return {
        "data": data.summary,
        **({"crop": data.crop} if data.crop else {}),
        "recipe": dataclasses.asdict(recipe),
        "training": {
            "seed": recipe.seed,
            "best_epoch": best_epoch,
            "epochs": len(history),
            "pretrained": settings["pretrained"],
            "initial_weights": Path(settings["weights"]).name if settings["weights"] else None,
            "steps_per_epoch": settings["steps_per_epoch"],
            "precision": settings["precision"],
            "speed": speed,
            "warnings": data.warnings,
        },
        "metrics": {name: float(row[name]) for name in names},
        "calibration": {"temperature": 1.0, "uncertain": list(DEFAULT_BAND)},
        "versions": {
            name: version(name) for name in ("sficonv", "torch", "torchvision", "timm", "lightning")
        },
        "limits": [
            "The metrics are those of the validation rows that chose the epoch: a little too good.",
            "The scores are not calibrated.",
        ],
    }
