import math

import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch.optim.swa_utils import AveragedModel

from sficonv.errors import SficonvError
from sficonv.training.module import AverageWeights, ValidationMetrics, warmup_cosine

ROWS = pd.DataFrame({"label": [0, 0, 0, 1, 1, 1, 1], "video_id": ["a", "a", "b", "c", "c", "d", "d"]})
SCORES = torch.tensor([0.2, 0.6, 0.3, 0.5, 0.4, 0.25, 0.2])
LOGITS = torch.stack([torch.zeros(7), SCORES.logit()], dim=1)


def test_auc_of_frames_and_of_video_means() -> None:
    metric = ValidationMetrics(ROWS)
    order = torch.tensor([4, 0, 6, 2, 1, 3, 5])
    metric.update(LOGITS[order[:3]], order[:3])
    metric.update(LOGITS[order[3:]], order[3:])
    found = metric.compute()
    assert found["val_loss"].item() == pytest.approx(log_loss(ROWS["label"], SCORES))
    assert found["val_auc_frame"].item() == pytest.approx(roc_auc_score(ROWS["label"], SCORES))
    means = ROWS.assign(p=SCORES.numpy()).groupby("video_id")[["label", "p"]].mean()
    assert found["val_auc_video"].item() == pytest.approx(roc_auc_score(means["label"], means["p"]))


def test_a_crop_seen_twice_counts_once() -> None:
    metric = ValidationMetrics(ROWS)
    everything = torch.arange(7)
    metric.update(LOGITS, everything)
    once = metric.compute()
    metric.update(LOGITS[:2], everything[:2])
    assert metric.compute() == once


def test_scores_that_are_not_finite_are_an_error() -> None:
    metric = ValidationMetrics(ROWS)
    metric.update(torch.full((7, 2), math.nan), torch.arange(7))
    with pytest.raises(SficonvError, match="diverged"):
        metric.compute()


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.95])
def test_warmup_and_cosine_stay_in_range_and_end_low(steps: int, warmup: float) -> None:
    factors = [warmup_cosine(step, steps, warmup) for step in range(steps + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == 1
    assert factors[-1] == pytest.approx(0)


def test_average_follows_early_and_remembers_later() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = AveragedModel(model, multi_avg_fn=AverageWeights(0.9)._kwargs["multi_avg_fn"])
    values = []
    for step in range(200):
        model.weight.data.fill_(0.0 if step == 0 else 1.0)
        average.update_parameters(model)
        values.append(average.module.weight.item())
    assert values[0] == 0
    assert values[2] > 0.8  # decay 2/11, not 0.9
    assert values[-1] == pytest.approx(1, abs=1e-4)
    model.weight.data.fill_(0.0)
    average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(0.9, abs=1e-3)
