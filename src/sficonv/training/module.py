"""One detector, one recipe: the Lightning module that trains and validates it."""

from __future__ import annotations

import math
from typing import Any, cast

import lightning.pytorch as pl
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, StepLR
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchmetrics import MeanMetric, Metric
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from sficonv.errors import SficonvError
from sficonv.models import to_input
from sficonv.models.losses import training_losses
from sficonv.nn.constrained import no_weight_decay, project_after_step
from sficonv.training.recipes import Recipe


class TrainingModule(pl.LightningModule):
    """Minimises the model's loss on batches of `sficonv.training.data`.

    Args:
        model: maps `(B, 3, H, W)` to logits `(B, 2)`, carries a `config`, and may have `losses` of its own.
        recipe: optimiser, schedule, label smoothing and seed.
        val_rows: manifest rows of the validation crops, in the order of their indices.
        channels_last: run the model in channels-last memory format.
        domains: domain of each training row, for models that learn from several, see `training_losses`.
        compile: compile the model's `forward`.

    Logs `train_loss` and, where it is a sum, its terms (`train_loss_*`), `lr` (the first one of the epoch),
    `val_loss` (the cross entropy, whatever is minimised), `val_auc_frame` and `val_auc_video`. All are of all
    devices together, and a run that is continued in the middle of an epoch logs those of the whole epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        val_rows: pd.DataFrame,
        *,
        channels_last: bool = False,
        domains: Tensor | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        if compile:
            self.model.compile()  # in place: names and saved weights stay those of the model
        self.recipe = recipe
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.memory_format)
        self.domains = domains
        self.validation = ValidationMetrics(val_rows)
        self.first_lr = 0.0
        self.losses: dict[str, MeanMetric] = {}  # of this epoch so far
        self.validated: dict[str, float] = {}  # of the last validation

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `(B, 3, H, W)` to logits `(B, 2)`."""
        return self.model(self._input(images))

    def _input(self, images: Tensor) -> Tensor:
        x = to_input(images, self.model.config)  # type: ignore[arg-type]
        return x if x.ndim == 5 else x.contiguous(memory_format=self.memory_format)

    def on_train_epoch_start(self) -> None:
        self.first_lr = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.losses = {}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout then depends on the step alone, not on whether the run was interrupted before it.
        torch.manual_seed((self.recipe.seed << 32) + (self.global_rank << 24) + self.global_step)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        images, labels, indices, *masks = batch
        losses = training_losses(
            self.model,
            self._input(images),
            labels,
            masks[0].float() / 255 if masks else None,
            label_smoothing=self.recipe.label_smoothing,
            domains=None if self.domains is None else self.domains[indices.cpu()].to(labels.device),
            present=indices >= 0 if indices.ndim == 2 else None,
        )
        loss = torch.stack(list(losses.values())).sum()
        terms = {f"train_loss_{name}": value for name, value in losses.items()} if len(losses) > 1 else {}
        for name, value in {"train_loss": loss, **terms}.items():
            mean = self.losses.setdefault(name, MeanMetric().to(self.device))
            mean.update(value.detach(), weight=len(labels))
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def epoch_row(self) -> dict[str, float]:
        """What was measured in the epoch that ends, of all devices together; each of them has to ask."""
        losses = {name: float(mean.compute()) for name, mean in self.losses.items()}
        return {**losses, "lr": self.first_lr, **self.validated}

    def on_train_epoch_end(self) -> None:
        self.log("lr", self.first_lr)
        self._log_shared({name: mean.compute() for name, mean in self.losses.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        of_all = {}  # those of each device: added up in another order they would be rounded to another mean
        for name, mean in self.losses.items():
            sums = self.all_gather(torch.stack([mean.mean_value, mean.weight]))
            of_all[name] = cast(Tensor, sums).reshape(-1, 2).cpu()
        checkpoint["epoch_so_far"] = {"first_lr": self.first_lr, "losses": of_all}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        so_far = checkpoint["epoch_so_far"]
        self.first_lr, self.losses = so_far["first_lr"], {}
        for name, of_all in so_far["losses"].items():
            mean = self.losses[name] = MeanMetric().to(self.device)
            mean.mean_value, mean.weight = of_all[self.global_rank].to(self.device)

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        images, _, indices = batch
        if indices.ndim == 1:
            self.validation.update(self(images), indices)
            return
        present = indices >= 0  # a clip's logits are those of each of its frames
        logits = self.model(self._input(images), present)
        self.validation.update(logits.repeat_interleave(present.sum(1), 0), indices[present])

    def on_validation_epoch_end(self) -> None:
        found = self.validation.compute()
        self.validation.reset()
        self.validated = {name: float(value) for name, value in found.items()}
        self._log_shared(found, prog_bar=True)

    def _log_shared(self, values: dict[str, Tensor], **options: Any) -> None:
        """Log what is the same on all devices; their mean may be off by a rounding, the maximum is not."""
        self.log_dict(values, sync_dist=True, reduce_fx="max", **options)

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameters with and without weight decay: none on norms, biases and MCSConv's kernels."""
        exempt = no_weight_decay(model)
        return param_groups_weight_decay(model, self.recipe.weight_decay, no_weight_decay_list=exempt)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        recipe = self.recipe
        optimizer = create_optimizer_v2(
            self.model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas,
            param_group_fn=self._groups if recipe.weight_decay else None,
        )  # fmt: skip
        project_after_step(optimizer, self.model)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler: LRScheduler
        if recipe.schedule == "halve":
            # Counted in steps: a run that resumes at an epoch's end would miss a step counted in epochs.
            scheduler = StepLR(optimizer, step_size=max(1, steps // recipe.epochs), gamma=0.5)
        else:
            scheduler = LambdaLR(optimizer, lambda step: warmup_cosine(step, steps, recipe.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at `step` of `steps`: linear rise for a share `warmup`, cosine fall to 0.

    Example:
        >>> [round(warmup_cosine(step, 10, 0.2), 2) for step in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rise = int(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))


class ValidationMetrics(Metric):
    """Cross entropy and AUROC over the validation crops, and AUROC over their videos (mean score per
    `video_id`).

    Args:
        rows: manifest rows; `update` takes indices into them. A crop seen twice, or by two devices, counts
            once.
    """

    full_state_update = False
    logits: list[Tensor]
    indices: list[Tensor]

    def __init__(self, rows: pd.DataFrame) -> None:
        super().__init__()
        self.labels = torch.tensor(rows["label"].to_numpy().astype("int64"))
        self.videos = torch.tensor(pd.factorize(rows["video_id"])[0].astype("int64"))
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("indices", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, indices: Tensor) -> None:
        """Add logits `(B, 2)` of the rows `indices` `(B,)`."""
        self.logits.append(logits.float())
        self.indices.append(indices)

    def compute(self) -> dict[str, Tensor]:
        """`val_loss`, `val_auc_frame` and `val_auc_video`."""
        found, indices = (dim_zero_cat(state).cpu() for state in (self.logits, self.indices))
        if not bool(found.isfinite().all()):
            raise SficonvError("training diverged: the scores are no longer finite. Lower the learning rate.")
        logits = torch.full((len(self.labels), 2), torch.nan)
        logits[indices] = found
        seen = ~logits.isnan().any(dim=1)
        logits, labels, videos = logits[seen].double(), self.labels[seen], self.videos[seen]
        scores = logits.softmax(dim=1)[:, 1]
        count = torch.bincount(videos)
        present = count > 0
        video_scores = torch.bincount(videos, scores)[present] / count[present]
        video_labels = torch.zeros(len(count), dtype=torch.int64).scatter_(0, videos, labels)[present]
        return {
            "val_loss": F.cross_entropy(logits, labels).float(),
            "val_auc_frame": binary_auroc(scores, labels).float(),
            "val_auc_video": binary_auroc(video_scores, video_labels).float(),
        }


class AverageWeights(WeightAveraging):
    """Exponential moving average of all weights; it is what gets validated and saved.

    Args:
        decay: decay per step, reached gradually so that short runs do not keep their initial weights.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor | int) -> None:
            count = int(num_averaged)
            get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averaged, current, num_averaged)

        super().__init__(multi_avg_fn=average)
