"""Scores that mean something: a shift and a temperature of the log-odds, fitted to validation scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from sficonv.card import Calibration
from sficonv.errors import DataError

_EDGE = 1e-9  # keeps log-odds finite
_STEEPEST, _FLATTEST, _FARTHEST = -3.0, 4.0, 20.0  # of the logarithm of the temperature, and of the shift


def fit_platt(labels: ArrayLike, p_fake: ArrayLike, weights: ArrayLike) -> tuple[float, float]:
    """The temperature and the shift that make scores fit their labels best (Platt, 1999).

    Args:
        labels: 0 = real, 1 = fake, `(N,)`; from validation data, never from a test set.
        p_fake: Uncalibrated scores P(fake), `(N,)`.
        weights: How much each of them counts, `(N,)`; see `sficonv.evaluation.pooled.balanced`.

    Returns:
        `(temperature, shift)` for `sficonv.card.Calibration`. The temperature is above 1 where the scores
        were too sure, the shift above 0 where they were too high.

    Raises:
        DataError: If a label is missing.

    Example:
        >>> temperature, shift = fit_platt([0, 1, 0, 1], [0.5, 0.9, 0.95, 0.99], np.ones(4))
        >>> shift > 2
        True
    """
    y, z = np.asarray(labels), log_odds(p_fake)
    if set(np.unique(y)) != {0, 1}:
        raise DataError("calibration needs validation scores of real and of fake faces")

    def loss(point: NDArray[np.float64]) -> float:
        score = expit((z - point[1]) / np.exp(point[0]))
        return float(log_loss(y, score, sample_weight=np.asarray(weights)))

    bounds = [(_STEEPEST, _FLATTEST), (-_FARTHEST, _FARTHEST)]
    best = minimize(loss, [0.0, float(np.median(z).clip(-5, 5))], method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(best[0])), float(best[1])


def log_odds(p_fake: ArrayLike) -> NDArray[np.float64]:
    """`log(p / (1 - p))` of scores `(N,)`, finite also where a score is 0 or 1."""
    return np.asarray(logit(np.clip(np.asarray(p_fake, dtype=float), _EDGE, 1 - _EDGE)))


def calibrated_scores(p_fake: ArrayLike, calibration: Calibration) -> NDArray[np.float64]:
    """Uncalibrated scores `(N,)` as the detector gives them once its card holds `calibration`.

    Example:
        >>> calibrated_scores([0.5], Calibration(temperature=3.0))
        array([0.5])
    """
    return np.asarray(expit(calibration.apply(log_odds(p_fake))))
