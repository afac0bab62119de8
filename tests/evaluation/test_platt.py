"""Temperature and shift of scores."""

import numpy as np
import pytest
from scipy.special import expit

from sficonv.card import Calibration
from sficonv.errors import DataError
from sficonv.evaluation.platt import calibrated_scores, fit_platt


def scores(temperature: float, shift: float, n: int = 20_000):
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, n)
    labels = (rng.random(n) < expit(true)).astype(int)
    return labels, expit(true * temperature + shift)


@pytest.mark.parametrize(("temperature", "shift"), [(0.5, 0.0), (1.0, 3.0), (3.0, -1.0)])
def test_temperature_and_shift_are_found_again(temperature, shift):
    labels, p = scores(temperature, shift)
    found = fit_platt(labels, p, np.ones(len(p)))
    assert found == pytest.approx((temperature, shift), rel=0.05, abs=0.05)


def test_what_weighs_nothing_decides_nothing():
    labels, p = scores(1.0, 2.0)
    labels, p = np.r_[labels, np.ones(500, int)], np.r_[p, np.full(500, 0.01)]
    weights = np.r_[np.ones(20_000), np.zeros(500)]
    assert fit_platt(labels, p, weights) == pytest.approx((1.0, 2.0), rel=0.05)


def test_ranking_stays_and_the_shift_becomes_even_odds():
    p = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    moved = calibrated_scores(p, Calibration(temperature=2.5, shift=float(np.log(9))))
    assert np.all(np.diff(moved) > 0)
    assert moved[3] == pytest.approx(0.5)


def test_scores_of_a_worse_than_useless_detector_do_not_turn_around():
    labels, p = scores(1.0, 0.0)
    temperature, _ = fit_platt(labels, 1 - p, np.ones(len(p)))
    assert temperature > 10


def test_one_label_is_refused():
    with pytest.raises(DataError, match="real and of fake"):
        fit_platt(np.ones(4, int), np.full(4, 0.5), np.ones(4))
