"""How good a set of scores is: pure functions over arrays.

Fake is the positive class (label 1) and every score is P(fake), in [0, 1].

A metric that the rows cannot define is `nan` with its reason in `notes`: never an exception, never 0.
Scores that are not numbers are the opposite, an error that names the row: leaving them out silently
would flatter a detector that fails on hard inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
    roc_curve,
)
from torchmetrics.functional.classification import binary_calibration_error, binary_eer

from sficonv.errors import DataError

THRESHOLD = 0.5
"""A score of at least this is called fake by `acc` and `bacc`."""
FPR_LEVELS = {"tpr_at_fpr_1e-2": 1e-2, "tpr_at_fpr_1e-3": 1e-3}
ECE_BINS = 15
METRICS = ("auc", "bacc", "acc", "eer", "ap", *FPR_LEVELS, "ece")
"""Names of the metrics, in the order they are shown; larger is better except for `eer` and `ece`."""

NEED_BOTH = ("auc", "bacc", "eer", "ap", *FPR_LEVELS)


class Metrics(dict[str, float]):
    """Metric name to value, with the reasons for every `nan` and every doubtful value in `notes`."""

    notes: dict[str, str]

    def __init__(self, values: dict[str, float], notes: dict[str, str]) -> None:
        super().__init__(values)
        self.notes = notes


def check_scores(labels: ArrayLike, p_fake: ArrayLike, name: Callable[[int], Any] = int) -> None:
    """Refuse labels other than 0 and 1 and scores that are not numbers in [0, 1].

    Args:
        labels: `(N,)`, 0 = real, 1 = fake.
        p_fake: `(N,)`, P(fake).
        name: What to call a row in the message, from its position; default: the position, from 0.

    Raises:
        DataError: If the lengths differ or a value is unusable; the message names the first such row.
    """
    y, p = np.asarray(labels), np.asarray(p_fake, dtype=float)
    if y.ndim != 1 or y.shape != p.shape:
        raise DataError(f"labels {y.shape} and p_fake {p.shape} must be two columns of one length")

    def refuse(bad: NDArray[np.bool_], values: NDArray[Any], what: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"row {name(row)}: {what}, got {values[row]} ({int(bad.sum())} such rows)")

    refuse((y != 0) & (y != 1), y, "label must be 0 (real) or 1 (fake)")
    refuse(~np.isfinite(p), p, "p_fake must be a number")
    refuse((p < 0) | (p > 1), p, "p_fake must be a probability in [0, 1] (apply a sigmoid to logits)")


def compute_metrics(labels: ArrayLike, p_fake: ArrayLike) -> Metrics:
    """Judge scores against labels.

    AUC, balanced accuracy, accuracy and average precision are scikit-learn's; the equal error rate (the
    mean of false alarms and misses where they are closest) and the expected calibration error (15 equal
    bins of P(fake) against the share of fakes) are torchmetrics'; the detection rate at a false-alarm
    rate is the highest point of scikit-learn's ROC curve that does not exceed that rate.

    Args:
        labels: `(N,)`, 0 = real, 1 = fake.
        p_fake: `(N,)`, P(fake) in [0, 1].

    Returns:
        `auc`, `bacc`, `acc`, `eer`, `ap`, `tpr_at_fpr_1e-2`, `tpr_at_fpr_1e-3`, `ece`, `n_real`, `n_fake`;
        `nan` where undefined (one class only, no rows), with the reason in `.notes[name]`.

    Raises:
        DataError: If a label is not 0 or 1, or a score is not a number in [0, 1].

    Example:
        >>> metrics = compute_metrics([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> metrics["auc"], metrics["bacc"]
        (0.75, 0.5)
        >>> compute_metrics([1, 1], [0.3, 0.9]).notes["auc"]
        'undefined: no real rows'
    """
    check_scores(labels, p_fake)
    y, p = np.asarray(labels, dtype=np.int64), np.asarray(p_fake, dtype=np.float64)
    n_fake = int(y.sum())
    n_real = len(y) - n_fake
    values: dict[str, float] = dict.fromkeys(METRICS, math.nan)
    if len(y):
        values["acc"] = float(accuracy_score(y, p >= THRESHOLD))
        values["ece"] = float(binary_calibration_error(torch.tensor(p), torch.tensor(y), n_bins=ECE_BINS))
    if n_real and n_fake:
        values["auc"] = float(roc_auc_score(y, p))
        values["bacc"] = float(balanced_accuracy_score(y, p >= THRESHOLD))
        values["eer"] = float(binary_eer(torch.tensor(p), torch.tensor(y)))
        values["ap"] = float(average_precision_score(y, p))
        # Intermediate points must stay: the best point under a level may lie inside a straight stretch.
        fpr, tpr, _ = roc_curve(y, p, drop_intermediate=False)
        for name, level in FPR_LEVELS.items():
            values[name] = float(tpr[fpr <= level].max())
    return Metrics({**values, "n_real": n_real, "n_fake": n_fake}, _notes(n_real, n_fake))


def _notes(n_real: int, n_fake: int) -> dict[str, str]:
    if not n_real and not n_fake:
        return dict.fromkeys(METRICS, "undefined: no rows")
    if not n_real or not n_fake:
        return dict.fromkeys(NEED_BOTH, f"undefined: no {'fake' if n_real else 'real'} rows")
    return {
        name: f"{n_real} real rows cannot show a false-alarm rate of {level:g} (that takes "
        f"{round(1 / level)}): this is the detection rate without any false alarm"
        for name, level in FPR_LEVELS.items()
        if n_real * level < 1
    }


def at_threshold(labels: ArrayLike, p_fake: ArrayLike, threshold: float) -> dict[str, float]:
    """Shares of right and wrong answers if a score of at least `threshold` is called fake.

    Args:
        labels: `(N,)`, 0 = real, 1 = fake.
        p_fake: `(N,)`, P(fake).
        threshold: Where fake begins.

    Returns:
        `threshold`, `acc`, `bacc`, `tpr` (fakes called fake) and `fpr` (reals called fake), the last two with
        their exact 95 % intervals (`_low`, `_high`), which take the rows for independent: they hold for
        videos, not for the frames of a video. `nan` where a label is missing.

    Example:
        >>> at_threshold([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], 0.5)["fpr"]
        0.5
    """
    y, called = np.asarray(labels), np.asarray(p_fake) >= threshold
    result = {"threshold": float(threshold)}
    rates = {}
    for name, label in (("fpr", 0), ("tpr", 1)):
        n, k = int((y == label).sum()), int(called[y == label].sum())
        rates[name] = k / n if n else math.nan
        result |= {
            name: rates[name],
            **dict(zip((f"{name}_low", f"{name}_high"), share_interval(k, n), strict=True)),
        }
    result["bacc"] = (rates["tpr"] + 1 - rates["fpr"]) / 2
    result["acc"] = float(np.mean(called == (y == 1))) if len(y) else math.nan
    return result


def share_interval(k: int, n: int, method: Literal["exact", "wilson"] = "exact") -> tuple[float, float]:
    """The 95 % interval of a share of which `k` of `n` were seen; `"exact"` is Clopper and Pearson's.

    Example:
        >>> [round(edge, 3) for edge in share_interval(0, 10)]
        [0.0, 0.308]
    """
    if not n:
        return math.nan, math.nan
    interval = binomtest(k, n).proportion_ci(method=method)
    return float(interval.low), float(interval.high)


def share_in_words(k: int, n: int) -> str:
    """A share of which `k` of `n` were seen, with Wilson's interval.

    Example:
        >>> share_in_words(27, 150)
        '18.0% [12.7%, 24.9%] of 150'
    """
    low, high = share_interval(k, n, "wilson")
    return f"{k / n:.1%} [{low:.1%}, {high:.1%}] of {n}"
