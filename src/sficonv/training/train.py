"""`train`: prepared faces in, a detector with its model card out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import nn
from torch.utils.data import DataLoader

from sficonv.conversion.synchronise import synchronise_norms
from sficonv.datasets.masks import MASK
from sficonv.errors import DataError
from sficonv.files import sha256_of
from sficonv.models import create_model, load_weights, read_card, save_weights
from sficonv.models.checkpoint import resolve_weights
from sficonv.models.config import ModelConfig
from sficonv.models.losses import HasLosses, uses_domains
from sficonv.training.card import model_card
from sficonv.training.checkpoints import BEST, CHECKPOINTS
from sficonv.training.choice import choose_start, ensure_splits
from sficonv.training.data import (
    TrainingData,
    default_workers,
    load_training_data,
    train_loader,
    training_domains,
    val_loader,
)
from sficonv.training.history import History, say
from sficonv.training.module import TrainingModule
from sficonv.training.options import Hardware, PathLike, TrainOptions, sort_changes
from sficonv.training.pair_data import PairData, pair_data, pair_loader
from sficonv.training.recipes import Recipe
from sficonv.training.resume import SameRun, only_run_in, open_run
from sficonv.training.speed import InputSpeed
from sficonv.training.trainer import (
    MONITOR,
    make_trainer,
    quiet_lightning,
    readable_errors,
    stopped_by_signals,
)


@dataclass(frozen=True)
class TrainResult:
    """What a training run leaves behind.

    Args:
        weights: The `.safetensors` file of the best epoch, its model card beside it.
        card: The model card.
        history: One row per epoch: `epoch`, `train_loss` (and its terms, `train_loss_*`, where it is a
            sum), `lr`, `val_loss`, `val_auc_frame`, `val_auc_video`.
    """

    weights: Path
    card: dict[str, Any]
    history: pd.DataFrame


def train(
    data: PathLike | Sequence[PathLike],
    out: PathLike | None = None,
    *,
    model: str | None = None,
    recipe: str | Recipe = "finetune",
    options: TrainOptions = TrainOptions(),  # noqa: B008  (frozen)
    hardware: Hardware = Hardware(),  # noqa: B008
    callbacks: Sequence[pl.Callback] = (),
    **changes: Any,
) -> TrainResult:
    """Train a detector on prepared faces and keep the epoch with the best validation AUC over videos.

    Without further options it fine-tunes the shipped detector. Crops of the split `train` are trained on,
    those of `val` choose the epoch; the test split is never opened. Data without splits is split by identity
    first.

    A run that was stopped or killed continues when the same command is given again, and ends as if it had not
    been. Several devices, on one machine or more, share each step: `torchrun --nproc-per-node 8 -m sficonv
    train`, or `devices=8` on one machine. A step then takes `batch_size` images on each of them.

    Args:
        data: Prepared folder, or several.
        out: Folder of the run. Default: `runs/<model>-<recipe>`.
        model: Name of the detector, see `sficonv models`. It brings its loss, input size and normalisation.
            Default: that of the weights; for the recipe "paper" `sfic_resnet26`.
        recipe: `"finetune"` suits trained weights and little data; `"paper"` is that of the SFIConv paper,
            from scratch. Options such as `lr` and `epochs` change single values of it.
        options: Where the run starts from and how long it lasts.
        hardware: Where it computes, and how precisely.
        callbacks: More Lightning callbacks.
        **changes: Single fields of the recipe, the options and the hardware by name, such as `epochs=5`.

    Returns:
        The weights file, the model card and the history. `out` also holds `config.yaml` (all settings, by
        the names above), `history.csv` and `checkpoints/`.

    Raises:
        DataError: Validation rows missing or of one label, unusable folders or crops, or `out` holds a run
            with other settings or of another number of devices, or one that is still running.
        SficonvError: Training diverged, the run cannot be saved, or an extra is not installed.
        ValueError: Unknown model or recipe, a value out of range, or hardware that is not there.
        TypeError: Unknown option.

    Example:
        >>> train("prepared", "runs/first", model="sfic_resnet26", recipe="paper", epochs=5)  # doctest: +SKIP
    """
    plan, options, hardware = sort_changes(changes, Recipe.named(recipe), options, hardware)
    hardware = hardware.resolved()
    model, options, start = choose_start(model, plan, options)
    out = Path(out) if out is not None else Path("runs") / f"{model}-{plan.name}"
    path = out / "weights.safetensors"
    history, same_run, speed = History(out, plan.epochs), SameRun(out), InputSpeed()
    with quiet_lightning(), _farewell(out), stopped_by_signals(), readable_errors():
        trainer = make_trainer(out, plan, options, hardware, [history, same_run, speed, *callbacks])
        first = trainer.is_global_zero
        folders, splits = ensure_splits(_folders(data))
        rows = load_training_data(folders, _folders(options.extra_data))
        pl.seed_everything(plan.seed, workers=True, verbose=False)
        detector, config = _make(model, plan, options)
        if hardware.sync_batchnorm:  # not the trainer's: see there
            synchronise_norms(detector)
        plan = dataclasses.replace(plan, image_size=config.image_size)
        if options.weights is not None:  # whoever evaluates can then tell what the weights have seen
            seen = read_card(options.weights).get("data") or {}
            rows.summary["videos_of_initial_weights"] = seen.get("videos", [])
        pairs = _pairs(rows, plan, config, hardware, trainer) if plan.self_blend else None
        for line in (*start, *splits, *_introduced(rows, plan, pairs, trainer)) if first else ():
            say(line)
        settings = _settings(folders, out, model, plan, options, hardware)
        inputs = {
            "folders": [folder["manifest_sha256"] for folder in rows.summary["folders"]],
            "weights": None if options.weights is None else sha256_of(resolve_weights(options.weights)),
        }
        with only_run_in(out) if first else nullcontext():
            last, same_run.first_step = open_run(out, settings, inputs, resume=options.resume, first=first)
            if last is not None and first:
                say(f"continuing the run in {out} after step {same_run.first_step}")
            module = TrainingModule(
                detector,
                plan,
                rows.val,
                channels_last=settings["channels_last"],
                compile=hardware.compile,
                domains=training_domains(rows, plan) if uses_domains(detector) else None,
            )
            workers = hardware.workers
            workers = default_workers(trainer.num_devices) if workers is None else workers
            same_run.readers = workers if rows.shards else 0
            # Lightning draws the first batches of a continued run before it tells the sampler the epoch.
            shared = {"devices": trainer.world_size, "first_step": same_run.first_step}
            batches = _batches(rows, pairs, plan, options.steps_per_epoch, detector, workers, shared)
            validation = val_loader(
                rows, plan, workers=workers, devices=trainer.world_size, frames=config.frames
            )
            trainer.fit(module, batches, validation, ckpt_path=last, weights_only=True)
            if first:
                epoch = _take_best(detector, out)
                card = model_card(rows, settings, plan, history.table(), epoch, speed.summary(trainer))
                save_weights(path, detector, card)
                history.write()
                auc = card["metrics"][MONITOR]
                say(f"best: epoch {epoch + 1}, AUC of videos {auc:.4f}. Weights and model card: {path}")
            trainer.strategy.barrier("weights saved")
    return TrainResult(path, read_card(path), history.table())


def _folders(given: PathLike | Sequence[PathLike]) -> list[Path]:
    return [Path(given)] if isinstance(given, str | Path) else [Path(folder) for folder in given]


def _make(model: str, recipe: Recipe, options: TrainOptions) -> tuple[nn.Module, ModelConfig]:
    if options.weights is not None:
        detector = load_weights(options.weights)[0].train()
    else:
        more = {"alpha": options.alpha, "beta": options.beta, **(options.model_options or {})}
        detector = create_model(model, pretrained=options.pretrained, image_size=recipe.image_size, **more)
    config: ModelConfig = detector.config  # type: ignore[assignment]
    detector.config = config = config.with_image_size(recipe.image_size)  # type: ignore[assignment]
    return detector, config


def _introduced(
    rows: TrainingData, recipe: Recipe, pairs: PairData | None, trainer: pl.Trainer
) -> Iterator[str]:
    """What the run does, in words."""
    for name in ("train", "extra", "val"):
        count = rows.summary[name]
        if count["real_crops"] + count["fake_crops"]:
            yield (
                f"{name}: {count['real_crops']} real crops of {count['real_videos']} videos, "
                f"{count['fake_crops']} fake of {count['fake_videos']}"
            )
    device = f"{trainer.world_size} x {trainer.strategy.root_device.type}"
    yield (
        f"recipe: {recipe.name}, {recipe.epochs} epochs, batches of {recipe.batch_size}, "
        f"{recipe.image_size} px, on {device}"
    )
    yield from pairs.said if pairs else ()
    for warning in (*rows.warnings, *recipe.warnings(), *(pairs.warnings if pairs else ())):
        yield f"WARNING: {warning}"


def _settings(
    folders: list[Path], out: Path, model: str, recipe: Recipe, options: TrainOptions, hardware: Hardware
) -> dict[str, Any]:
    """All arguments that decide the result, by name, as plain values."""
    weights = None if options.weights is None else str(options.weights)
    return {
        "data": [str(folder) for folder in folders],
        "extra_data": [str(folder) for folder in _folders(options.extra_data)],
        "out": str(out),
        "model": model,
        "alpha": options.alpha,
        "beta": options.beta,
        "pretrained": options.pretrained,
        "model_options": options.model_options,
        "weights": weights,
        "steps_per_epoch": options.steps_per_epoch,
        "precision": hardware.precision,
        "channels_last": hardware.channels_last,
        **{("recipe" if key == "name" else key): value for key, value in dataclasses.asdict(recipe).items()},
        "betas": list(recipe.betas),
        "compile": hardware.compile,
        "sync_batchnorm": hardware.sync_batchnorm,
        "patience": options.patience,
    }


def _pairs(
    rows: TrainingData, recipe: Recipe, config: ModelConfig, hardware: Hardware, trainer: pl.Trainer
) -> PairData:
    if rows.shards or config.frames > 1:
        raise DataError(
            "forgeries are made from single crops in any order, which neither shards nor models of clips "
            "allow: train with self_blend=0 (--self-blend 0)"
        )
    device = trainer.strategy.root_device
    sharers = 1 if device.type == "cuda" else trainer.num_devices
    return pair_data(rows, recipe, device=device, memory=hardware.crop_memory, sharers=sharers)


def _batches(
    rows: TrainingData,
    pairs: PairData | None,
    recipe: Recipe,
    steps: int | None,
    detector: nn.Module,
    workers: int,
    shared: dict[str, int],
) -> DataLoader[Any]:
    """What is trained on: pairs that are made on the device, or crops as they are."""
    if pairs is not None:
        return pair_loader(pairs.maker, steps or pairs.steps(recipe.batch_size, shared["devices"]), **shared)
    return train_loader(
        rows,
        recipe,
        steps_per_epoch=steps,
        workers=workers,
        masks=isinstance(detector, HasLosses) and detector.uses_masks and _has_masks(rows),
        frames=detector.config.frames,  # type: ignore[union-attr, arg-type]
        **shared,
    )


def _has_masks(rows: TrainingData) -> bool:
    """Whether any mask says more than the label does."""
    return MASK in rows.train.columns and bool(rows.train[MASK].fillna("").any())


def _take_best(detector: nn.Module, out: Path) -> int:
    """Give the detector the weights of the best epoch; which that is."""
    best = torch.load(out / CHECKPOINTS / BEST, map_location="cpu", weights_only=True)
    prefix = "model."
    state = {key[len(prefix) :]: v for key, v in best["state_dict"].items() if key.startswith(prefix)}
    detector.load_state_dict(state)
    return int(best["epoch"])


@contextmanager
def _farewell(out: Path) -> Iterator[None]:
    """Whoever stops a run is told what of it is kept."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if any((out / CHECKPOINTS).glob("*.ckpt")):
            kept = f"what was saved is in {out}, and the same command continues it"
        else:
            kept = "nothing was saved yet; the same command starts it again"
        rank_zero_only(say)(f"stopped: {kept}")
        raise
