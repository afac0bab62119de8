"""DeLong's test against what it approximates."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sficonv.evaluation.delong import delong_test


def two_detectors(n: int = 400, shift: float = 0.3, seed: int = 0):
    """Two correlated scores of the same items, of which the first is better by `shift`."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    shared = rng.normal(size=n)
    a = shared + 0.7 * rng.normal(size=n) + (0.8 + shift) * label
    b = shared + 0.7 * rng.normal(size=n) + 0.8 * label
    return label, a, b


def test_standard_error_by_the_definition_on_all_pairs():
    label, a, b = two_detectors(60)
    a, b = a.round(1), b.round(1)  # with ties, which count half
    wins = [
        (s[label == 1][:, None] > s[label == 0]) + 0.5 * (s[label == 1][:, None] == s[label == 0])
        for s in (a, b)
    ]
    difference = wins[0] - wins[1]
    fakes, reals = difference.mean(axis=1), difference.mean(axis=0)
    expected = math.sqrt(fakes.var(ddof=1) / len(fakes) + reals.var(ddof=1) / len(reals))
    assert delong_test(label, a, b)[0] == pytest.approx(expected)


def test_standard_error_agrees_with_the_bootstrap():
    label, a, b = two_detectors()
    rng = np.random.default_rng(1)
    real, fake = np.flatnonzero(label == 0), np.flatnonzero(label == 1)
    drawn = []
    for _ in range(1000):
        rows = np.concatenate([rng.choice(real, len(real)), rng.choice(fake, len(fake))])
        drawn.append(roc_auc_score(label[rows], a[rows]) - roc_auc_score(label[rows], b[rows]))
    assert delong_test(label, a, b)[0] == pytest.approx(np.std(drawn), rel=0.1)


def test_p_values_are_even_where_nothing_differs_and_small_where_something_does():
    none = [delong_test(*two_detectors(150, 0, seed))[1] for seed in range(300)]
    assert 0.02 <= np.mean(np.array(none) < 0.05) <= 0.09
    assert np.mean(none) == pytest.approx(0.5, abs=0.06)
    assert delong_test(*two_detectors(2000, 0.5))[1] < 1e-4


def test_edges():
    label, a, _ = two_detectors(50)
    assert delong_test(label, a, a) == (0.0, 1.0)
    assert delong_test(label, a, np.exp(a)) == (0.0, 1.0)  # the same ranks
    assert all(map(math.isnan, delong_test(np.array([0, 1, 1]), a[:3], a[3:6])))
