"""Temperature and uncertain band."""

import numpy as np
import pytest
from scipy.special import expit

from sficonv.errors import DataError, WeightsError
from sficonv.evaluation.calibration import (
    apply_temperature,
    fit_temperature,
    fit_threshold,
    read_threshold,
    uncertain_band,
)


def scores(temperature: float, n: int = 20_000):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, n)
    labels = (rng.random(n) < expit(logits)).astype(int)
    return labels, expit(logits * temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(temperature):
    labels, p = scores(temperature)
    assert fit_temperature(labels, p) == pytest.approx(temperature, rel=0.05)


def test_ranking_and_the_middle_stay():
    p = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    moved = apply_temperature(p, 2.5)
    assert np.all(np.diff(moved) > 0)
    assert moved[2] == 0.5


def test_band_keeps_its_promise():
    labels, p = scores(1.0)
    low, high = uncertain_band(labels, p, error=0.1)
    assert (p[labels == 0] > high).mean() <= 0.1
    assert (p[labels == 1] < low).mean() <= 0.1
    assert low <= 0.5 <= high


@pytest.mark.parametrize("function", [fit_temperature, uncertain_band])
def test_one_label_is_refused(function):
    with pytest.raises(DataError):
        function(np.ones(4, int), np.full(4, 0.5))


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.3])
def test_threshold_keeps_the_rate_and_no_lower_one_does(rate):
    labels, p = scores(1.0, 1000)
    threshold = fit_threshold(labels, p, false_alarm_rate=rate)
    reals = p[labels == 0]
    assert (reals >= threshold).mean() <= rate
    assert (reals >= threshold - 2e-6).mean() > rate


def test_threshold_where_reals_share_a_score():
    labels, p = np.array([0, 0, 0, 0, 1]), np.array([0.7, 0.7, 0.7, 0.1, 0.9])
    # two of the three cannot be let off: all or none
    assert fit_threshold(labels, p, false_alarm_rate=0.5) == pytest.approx(0.700001)
    with pytest.raises(DataError, match="score 1: no threshold"):
        fit_threshold(labels, np.ones(5), false_alarm_rate=0.5)
    with pytest.raises(DataError, match="real faces"):
        fit_threshold(np.ones(3), np.ones(3))


def test_threshold_of_a_card():
    assert read_threshold({}) is None
    assert read_threshold({"calibration": {"temperature": 2.0}}) is None
    for wrong in ("0.5", True, 1.5, float("nan")):
        with pytest.raises(WeightsError, match="threshold"):
            read_threshold({"calibration": {"threshold": wrong}})
