"""`train`: prepared faces in, a detector with its model card out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import lightning.pytorch as pl
import pandas as pd
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console

from sficonv.data.masks import MASK
from sficonv.errors import DataError
from sficonv.models import ModelConfig, create_model, load_weights, read_card, save_weights
from sficonv.models.losses import HasLosses
from sficonv.training.data import TrainingData, default_workers, load_training_data, train_loader, val_loader
from sficonv.training.module import AverageWeights, TrainingModule
from sficonv.training.recipes import Recipe, get_recipe

logger = logging.getLogger(__name__)

PathLike = str | Path
MONITOR = "val_auc_video"


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
    num_nodes: int = 1,
    resume: bool = True,
    callbacks: Sequence[pl.Callback] = (),
) -> TrainResult:
    """Train a detector on prepared faces and keep the epoch with the best validation AUC over videos.

    Rows of split `train` are trained on, rows of split `val` choose the epoch; the files of the test split
    are never opened. A run that was killed continues from its last finished epoch when the same command
    is given again.

    Args:
        data: prepared folder, or several.
        model: name of the detector, see `list_models()`. It brings its loss, its input size and its
            normalisation; a column `mask` of the manifest (see `sficonv.data.masks`) is read for those whose
            loss needs it.
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
        accelerator, devices, num_nodes: where to train, as in `lightning.pytorch.Trainer`.
        resume: continue an interrupted run found in `out`; `False` starts it again.
        callbacks: more Lightning callbacks.

    Returns:
        The weights file, the model card and the history. `out` also holds `config.yaml` (all settings, by
        the names above), `logs/` (CSV) and `checkpoints/`.

    Raises:
        DataError: validation rows missing or of one label, unusable folders or crops, or `out` holds a run
            with other settings.
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
        logger.warning("%s", warning)

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
    }
    last, first_epoch = _open_run(out, settings, rows.summary["folders"], resume=resume)
    module = TrainingModule(detector, plan, rows.val, channels_last=settings["channels_last"])
    trainer = _trainer(out, plan, precision, accelerator, devices, num_nodes, callbacks)
    workers = default_workers() if workers is None else workers
    # Lightning draws the first batches of a continued run before it tells the sampler the epoch.
    batches = train_loader(
        rows,
        plan,
        steps_per_epoch=steps_per_epoch,
        workers=workers,
        world_size=trainer.world_size,
        first_epoch=first_epoch,
        masks=isinstance(detector, HasLosses) and detector.uses_masks and _has_masks(rows, plan),
    )
    trainer.fit(
        module,
        batches,
        val_loader(rows, plan, workers=workers),
        ckpt_path=last,
        weights_only=True,
    )
    history = _history(out)
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
        save_weights(path, detector, _card(rows, settings, plan, history, int(best["epoch"])))
    trainer.strategy.barrier("weights saved")
    return TrainResult(path, read_card(path), history)


def _folders(given: PathLike | Sequence[PathLike]) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else [Path(folder) for folder in given]


def _has_masks(rows: TrainingData, recipe: Recipe) -> bool:
    """Whether any mask says more than the label does."""
    return recipe.self_blend > 0 or (MASK in rows.train.columns and bool(rows.train[MASK].fillna("").any()))


def _open_run(
    out: Path, settings: dict[str, Any], folders: list[dict[str, Any]], *, resume: bool
) -> tuple[Path | None, int]:
    """Make the run's folder and save its settings; the checkpoint to go on from (if any), the next epoch."""
    config, last = out / "config.yaml", out / "checkpoints" / "last.ckpt"
    used = out / "data.yaml"  # the folders' hashes: their names stay the same when they are prepared anew
    if resume and last.is_file():
        try:
            saved = yaml.safe_load(config.read_text(encoding="utf-8"))
            used_before = yaml.safe_load(used.read_text(encoding="utf-8"))
            epoch = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["epoch"]
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
        return last, epoch + 1
    for stale in (last, last.with_name("best.ckpt"), *out.glob("logs/version_*/*")):
        stale.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    used.write_text(yaml.safe_dump(folders), encoding="utf-8")
    return None, 0


def _trainer(
    out: Path,
    recipe: Recipe,
    precision: Any,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    # Saved at the end of the training epoch: validation is over by then, and nothing is left to repeat.
    kept = {"dirpath": out / "checkpoints", "save_on_train_epoch_end": True, "enable_version_counter": False}
    own: list[pl.Callback] = [
        ModelCheckpoint(filename="best", monitor=MONITOR, mode="max", **kept),  # type: ignore[arg-type]
        ModelCheckpoint(filename="last", **kept),  # type: ignore[arg-type]
    ]
    if recipe.ema_decay:
        own.insert(0, AverageWeights(recipe.ema_decay))
    terminal = Console(stderr=True).is_terminal
    if terminal:
        own.append(RichProgressBar(console_kwargs={"stderr": True}))
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        precision=precision,
        max_epochs=recipe.epochs,
        callbacks=[*own, *callbacks],
        logger=CSVLogger(out, name="logs", flush_logs_every_n_steps=1),
        gradient_clip_val=recipe.grad_clip or None,
        deterministic="warn",
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=terminal,
        enable_model_summary=False,
    )


def _history(out: Path) -> pd.DataFrame:
    """One row per epoch, over all the times that the run was continued."""
    logs = [pd.read_csv(path) for path in sorted(out.glob("logs/version_*/metrics.csv"), key=_version)]
    if not logs:
        return pd.DataFrame({"epoch": pd.Series(dtype="int64")})
    return pd.concat(logs).groupby("epoch", as_index=False).last().drop(columns="step")


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))


def _card(
    data: TrainingData, settings: dict[str, Any], recipe: Recipe, history: pd.DataFrame, best_epoch: int
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
            "warnings": data.warnings,
        },
        "metrics": {name: float(row[name]) for name in names},
        "calibration": {"temperature": 1.0, "uncertain": [0.4, 0.6]},
        "versions": {
            name: version(name) for name in ("sficonv", "torch", "torchvision", "timm", "lightning")
        },
        "limits": [
            "The metrics are those of the validation rows that chose the epoch: a little too good.",
            "The scores are not calibrated.",
        ],
    }
