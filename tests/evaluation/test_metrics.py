import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from sficonv.errors import DataError
from sficonv.evaluation.metrics import METRICS, NEED_BOTH, THRESHOLD, at_threshold, compute_metrics

# Every metric


def test_values_worked_out_by_hand():
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    scores = [0.1, 0.2, 0.3, 0.7, 0.2, 0.6, 0.8, 0.9]
    metrics = compute_metrics(labels, scores)
    # pairs won by the fake: 0.2 wins 1 and ties 1, 0.6 wins 3, 0.8 and 0.9 win 4
    assert metrics["auc"] == pytest.approx((1.5 + 3 + 4 + 4) / 16)
    assert metrics["acc"] == metrics["bacc"] == pytest.approx(6 / 8)
    # threshold 0.6: one real of four above, one fake of four below
    assert metrics["eer"] == pytest.approx(0.25)
    assert metrics["tpr_at_fpr_1e-2"] == metrics["tpr_at_fpr_1e-3"] == pytest.approx(0.5)
    # recall steps of 1/4 at precision 1, 1, 3/4 and, with the real that ties, 4/7
    assert metrics["ap"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 7) / 4)
    assert (metrics["n_real"], metrics["n_fake"]) == (4, 4)


def test_calibration_error_by_hand():
    # one bin holds 0.71 and 0.72 with one fake in two, the other 0.1 with no fake
    assert compute_metrics([1, 0, 0], [0.71, 0.72, 0.1])["ece"] == pytest.approx((0.43 + 0.1) / 3)
    assert compute_metrics([1, 0], [1.0, 0.0])["ece"] == pytest.approx(0)


def test_fifteen_bins_of_calibration_error():
    # 0.66 and 0.67 lie on two sides of 10/15: |0.66 - 1| and |0.67 - 0|
    assert compute_metrics([1, 0], [0.66, 0.67])["ece"] == pytest.approx((0.34 + 0.67) / 2)


def test_balanced_accuracy_ignores_the_class_sizes():
    metrics = compute_metrics([1] * 90 + [0] * 10, [0.9] * 90 + [0.9] * 5 + [0.1] * 5)
    assert metrics["acc"] == pytest.approx(0.95)
    assert metrics["bacc"] == pytest.approx(0.75)


def test_agrees_with_scikit_learn_on_ties():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    scores = np.round(rng.random(500) * 0.6 + labels * 0.3, 1)
    metrics = compute_metrics(labels, scores)
    fpr, tpr, _ = roc_curve(labels, scores)
    assert metrics["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert metrics["ap"] == pytest.approx(average_precision_score(labels, scores))
    closest = np.argmin(np.abs(fpr - (1 - tpr)))
    assert metrics["eer"] == pytest.approx((fpr[closest] + 1 - tpr[closest]) / 2, abs=1e-6)


def test_equal_error_rate_by_hand():
    # from 0.6 on: one of three reals is called fake, one of three fakes is not
    metrics = compute_metrics([0, 0, 0, 1, 1, 1], [0.1, 0.4, 0.8, 0.3, 0.6, 0.9])
    assert metrics["eer"] == pytest.approx(1 / 3, abs=1e-6)
    # from 0.9 on 0 and 1/2, from 0.8 on 1/2 and 1/2, from 0.2 on 1/2 and 0
    assert compute_metrics([0, 0, 1, 1], [0.1, 0.8, 0.2, 0.9])["eer"] == pytest.approx(0.5, abs=1e-6)


def test_fake_begins_at_exactly_a_half():
    assert THRESHOLD == 0.5
    metrics = compute_metrics([0, 0, 1, 1], [0.1, 0.499999, 0.5, 0.9])
    assert (metrics["bacc"], metrics["acc"]) == (1.0, 1.0)
    metrics = compute_metrics([0, 0, 0, 1], [0.1, 0.2, 0.5, 0.499999])
    assert metrics["bacc"] == pytest.approx((2 / 3 + 0) / 2)
    assert metrics["acc"] == 0.5


def test_a_rate_is_met_exactly():
    """One false alarm in a hundred is a rate of 1e-2, not above it."""
    labels = [0] * 100 + [1] * 4
    scores = [0.9] + [0.1] * 99 + [0.95, 0.92, 0.5, 0.05]
    assert compute_metrics(labels, scores)["tpr_at_fpr_1e-2"] == 0.75
    thousand = compute_metrics([0] * 1000 + [1] * 4, [0.9] + [0.1] * 999 + [0.95, 0.92, 0.5, 0.05])
    assert thousand["tpr_at_fpr_1e-3"] == 0.75
    labels, scores = labels + [0], [*scores, 0.91]  # two of 101
    assert compute_metrics(labels, scores)["tpr_at_fpr_1e-2"] == 0.5


def test_error_rates_at_a_threshold_by_hand():
    rates = at_threshold([0, 0, 0, 1, 1], [0.1, 0.7, 0.8, 0.7, 0.2], 0.7)
    assert rates["fpr"] == pytest.approx(2 / 3)
    assert rates["tpr"] == 0.5
    assert rates["bacc"] == pytest.approx((0.5 + 1 / 3) / 2)
    assert rates["acc"] == pytest.approx(2 / 5)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.35])
def test_equal_error_rate_of_a_known_case(rate):
    n = 200
    wrong = int(n * rate)
    scores = [0.9] * wrong + [0.1] * (n - wrong) + [0.1] * wrong + [0.9] * (n - wrong)
    assert compute_metrics([0] * n + [1] * n, scores)["eer"] == pytest.approx(rate, abs=1e-6)


def test_fake_is_the_positive_class():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    scores = np.clip(0.3 * rng.normal(size=300) + 0.4 + 0.2 * labels, 0, 1)
    right, reversed_ = compute_metrics(labels, scores), compute_metrics(labels, 1 - scores)
    assert right["auc"] > 0.6
    assert reversed_["auc"] == pytest.approx(1 - right["auc"])
    assert reversed_["eer"] > 0.5 > right["eer"]


def test_detection_rate_at_a_false_alarm_rate():
    # 1 of 100 reals above every fake but ten: the rate 1e-2 allows it, 1e-3 does not
    labels = [0] * 100 + [1] * 20
    scores = [0.8] + [0.1] * 99 + [0.9] * 10 + [0.5] * 10
    metrics = compute_metrics(labels, scores)
    assert metrics["tpr_at_fpr_1e-2"] == 1.0
    assert metrics["tpr_at_fpr_1e-3"] == 0.5
    assert "tpr_at_fpr_1e-2" not in metrics.notes
    assert "100 real rows cannot show" in metrics.notes["tpr_at_fpr_1e-3"]


def test_point_inside_a_straight_stretch_of_the_curve_counts():
    # reals and fakes alternate, so the curve is one diagonal whose inner points must not be dropped
    labels, scores = [0, 1] * 200, np.repeat(np.linspace(0.99, 0.01, 200), 2)
    assert compute_metrics(labels, scores)["tpr_at_fpr_1e-2"] == pytest.approx(2 / 200)


# What cannot be judged


@pytest.mark.parametrize(("labels", "absent"), [([1, 1, 1], "real"), ([0, 0], "fake")])
def test_one_class_is_nan_with_a_reason(labels, absent):
    metrics = compute_metrics(labels, [0.6] * len(labels))
    for name in NEED_BOTH:
        assert math.isnan(metrics[name])
        assert metrics.notes[name] == f"undefined: no {absent} rows"
    assert metrics["acc"] == np.mean(labels)


def test_no_rows_are_nan_with_a_reason():
    metrics = compute_metrics([], [])
    assert all(math.isnan(metrics[name]) and metrics.notes[name] == "undefined: no rows" for name in METRICS)
    assert metrics["n_real"] == metrics["n_fake"] == 0


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 1], [0.1, math.nan, math.nan], r"row 1: p_fake must be a number, got nan \(2 such rows\)"),
        ([0, 1], [0.1, math.inf], "row 1: p_fake must be a number"),
        ([0, 1], [0.1, 3.2], "row 1: p_fake must be a probability.*sigmoid"),
        ([0, 1], [0.1, 1.000001], "row 1: p_fake must be a probability.*sigmoid"),
        ([0, 1], [-1e-9, 1.0], "row 0: p_fake must be a probability.*sigmoid"),
        ([0, -1], [0.1, 0.2], "row 1: label must be 0"),
        ([0.5, 1], [0.1, 0.2], "row 0: label must be 0"),
        ([0, 2], [0.1, 0.2], "row 1: label must be 0"),
        ([math.nan, 1], [0.1, 0.2], "row 0: label must be 0"),
        ([0, 1], [0.1], "one length"),
        ([[0, 1]], [[0.1, 0.2]], "two columns of one length"),
        (1, 0.1, "two columns of one length"),
    ],
)
def test_unusable_rows_are_named(labels, scores, message):
    with pytest.raises(DataError, match=message):
        compute_metrics(labels, scores)


def test_probabilities_of_exactly_0_and_1_are_fine():
    assert compute_metrics([0, 1], [0.0, 1.0])["auc"] == 1


def test_the_note_says_how_many_reals_a_rate_takes():
    notes = compute_metrics([0] * 99 + [1], [0.1] * 100).notes
    assert "99 real rows cannot show a false-alarm rate of 0.01 (that takes 100)" in notes["tpr_at_fpr_1e-2"]
    assert "(that takes 1000)" in notes["tpr_at_fpr_1e-3"]
    assert compute_metrics([0] * 1000 + [1], [0.1] * 1001).notes == {}


def test_everything_at_a_threshold():
    labels, scores = [0, 0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.5, 0.9, 0.5, 0.8, 0.49]
    found = at_threshold(labels, scores, 0.5)
    (fpr_low, fpr_high), (tpr_low, tpr_high) = (
        binomtest(k, n).proportion_ci(method="exact") for k, n in ((2, 4), (2, 3))
    )
    assert found == pytest.approx(
        {
            "threshold": 0.5, "fpr": 2 / 4, "tpr": 2 / 3, "bacc": (2 / 3 + 1 / 2) / 2, "acc": 4 / 7,
            "fpr_low": fpr_low, "fpr_high": fpr_high, "tpr_low": tpr_low, "tpr_high": tpr_high,
        }
    )  # fmt: skip
    assert at_threshold([0, 1, 1, 1], [0.1, 0.9, 0.9, 0.9], 0.5)["acc"] == 1
    assert all(math.isnan(value) for name, value in at_threshold([], [], 0.5).items() if name != "threshold")


def test_error_rates_without_reals_are_undefined():
    rates = at_threshold([1, 1], [0.2, 0.9], 0.5)
    assert rates["tpr"] == 0.5
    assert all(math.isnan(rates[name]) for name in ("fpr", "fpr_low", "fpr_high", "bacc"))
