"""Calibration on validation scores: a temperature, the band in which a score decides nothing, a threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from sficonv.errors import DataError, WeightsError

_EDGE = 1e-6  # keeps logits finite


def fit_temperature(labels: np.ndarray, p_fake: np.ndarray) -> float:
    """The temperature that makes validation scores fit their labels best (Guo et al., ICML 2017).

    It divides the logits, so it moves no score across 0.5 and changes no ranking. Both labels weigh the
    same, whatever their number.

    Args:
        labels: 0 = real, 1 = fake, `(N,)`; from validation data, never from a test set.
        p_fake: Uncalibrated scores P(fake), `(N,)`.

    Returns:
        A positive number; above 1 where the scores were too sure.

    Raises:
        DataError: If a label is missing.

    Example:
        >>> fit_temperature(np.array([0, 1, 0, 1]), np.array([0.01, 0.99, 0.99, 0.99])) > 1
        True
    """
    labels, p_fake = np.asarray(labels), np.asarray(p_fake, dtype=float)
    if set(np.unique(labels)) != {0, 1}:
        raise DataError("calibration needs validation scores of real and of fake faces")
    logits = logit(np.clip(p_fake, _EDGE, 1 - _EDGE))
    weights = np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == 0).sum())

    def loss(log_temperature: float) -> float:
        return float(log_loss(labels, expit(logits / np.exp(log_temperature)), sample_weight=weights))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 4), method="bounded").x))


def apply_temperature(p_fake: np.ndarray, temperature: float) -> np.ndarray:
    """Scores `(N,)` with their logits divided by `temperature`.

    Example:
        >>> apply_temperature(np.array([0.5]), 3.0)
        array([0.5])
    """
    return expit(logit(np.clip(np.asarray(p_fake, dtype=float), _EDGE, 1 - _EDGE)) / temperature)


def uncertain_band(
    labels: np.ndarray, p_fake: np.ndarray, *, error: float = 0.1, narrowest: float = 0.1
) -> tuple[float, float]:
    """The band of scores that should be called uncertain.

    Above it at most a share `error` of the real validation items lies, below it at most a share `error` of
    the fake ones. Where the detector is so good that this leaves no band, one of width `narrowest` around
    0.5 remains.

    Args:
        labels: 0 = real, 1 = fake, `(N,)`; from validation data, never from a test set.
        p_fake: Calibrated scores, `(N,)`.
        error: Wanted share of wrong verdicts within each label, in (0, 1).
        narrowest: Least width of the band.

    Returns:
        `(low, high)` with `low <= 0.5 <= high`.

    Raises:
        DataError: If a label is missing.

    Example:
        >>> uncertain_band(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]))
        (0.45, 0.55)
    """
    labels, p_fake = np.asarray(labels), np.asarray(p_fake, dtype=float)
    if set(np.unique(labels)) != {0, 1}:
        raise DataError("the uncertain band needs validation scores of real and of fake faces")
    low = float(np.quantile(p_fake[labels == 1], error, method="lower"))
    high = float(np.quantile(p_fake[labels == 0], 1 - error, method="higher"))
    return round(min(low, 0.5 - narrowest / 2), 4), round(max(high, 0.5 + narrowest / 2), 4)


def fit_threshold(labels: np.ndarray, p_fake: np.ndarray, *, false_alarm_rate: float = 0.01) -> float:
    """The lowest threshold at which at most a wanted share of the real validation items is called fake.

    "Fake" is a score of at least the threshold. Where there are too few reals for the rate, this is a
    threshold
    without any false alarm among them, which says little about the rate elsewhere: see `metrics.share` for
    how little.

    Args:
        labels: 0 = real, 1 = fake, `(N,)`; from validation data, never from a test set.
        p_fake: Calibrated scores, `(N,)`.
        false_alarm_rate: Wanted share of the reals, in [0, 1).

    Returns:
        A number in (0, 1].

    Raises:
        DataError: If there is no real item, or so many have a score of 1 that no threshold keeps the rate.
        ValueError: If the rate is out of range.

    Example:
        >>> fit_threshold(np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.6, 0.9]), false_alarm_rate=0.4)
        0.200001
    """
    if not 0 <= false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must be in [0, 1), got {false_alarm_rate}")
    reals = np.sort(np.asarray(p_fake, dtype=float)[np.asarray(labels) == 0])[::-1]
    if not len(reals):
        raise DataError("a threshold for a false-alarm rate needs validation scores of real faces")
    allowed = math.floor(false_alarm_rate * len(reals) + 1e-9)  # 0.29 * 100 is a little less than 29
    threshold = round(math.floor(reals[allowed] * 1e6 + 1) / 1e6, 6)
    if threshold > 1:
        raise DataError(
            f"more than {allowed} of {len(reals)} real validation items score 1: no threshold keeps the "
            f"false-alarm rate at {false_alarm_rate:g}"
        )
    return threshold


def read_threshold(card: dict[str, Any]) -> float | None:
    """The threshold in a model card (`calibration.threshold`), `None` where it has none.

    Raises:
        WeightsError: If it is no number in [0, 1].

    Example:
        >>> read_threshold({"calibration": {"threshold": 0.7}})
        0.7
    """
    threshold = (card.get("calibration") or {}).get("threshold")
    if threshold is None:
        return None
    if type(threshold) not in (int, float) or not 0 <= threshold <= 1:  # a bool is an int too
        raise WeightsError(f"the model card's threshold makes no sense: {threshold!r}")
    return float(threshold)
