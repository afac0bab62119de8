import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from sficonv.errors import DataError
from sficonv.evaluation.metrics import (
    METRICS,
    NEED_BOTH,
    _WeightedMetrics,
    bootstrap_intervals,
    compute_metrics,
    frame_to_video,
)


def clustered(
    rng: np.random.Generator, videos: int = 60, frames: int = 12, shift: float = 1.0
) -> pd.DataFrame:
    """Frames whose score is mostly their video's: the usual state of things."""
    video = np.repeat(np.arange(videos), frames)
    label = video % 2
    score = rng.normal(size=videos)[video] + 0.3 * rng.normal(size=len(video)) + shift * label
    return pd.DataFrame(
        {"video_id": [f"v{i}" for i in video], "label": label, "p_fake": 1 / (1 + np.exp(-score))}
    )


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
    # the crossing of the two error curves lies between the two operating points beside it
    crossing = np.interp(0, (fpr - (1 - tpr)), fpr)
    assert metrics["eer"] == pytest.approx(crossing, abs=0.1)


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
        ([0, 2], [0.1, 0.2], "row 1: label must be 0"),
        ([math.nan, 1], [0.1, 0.2], "row 0: label must be 0"),
        ([0, 1], [0.1], "one length"),
    ],
)
def test_unusable_rows_are_named(labels, scores, message):
    with pytest.raises(DataError, match=message):
        compute_metrics(labels, scores)


# Videos


def test_video_score_is_the_mean_of_its_frames():
    df = pd.DataFrame(
        {
            "video_id": ["b", "a", "b"],
            "label": [1, 0, 1],
            "p_fake": [0.2, 0.4, 0.6],
            "method": ["DF", "real", "DF"],
        }
    )
    videos = frame_to_video(df).set_index("video_id")
    assert videos.loc["b", "p_fake"] == pytest.approx(0.4)
    assert videos.loc["b", ["label", "frames", "method"]].tolist() == [1, 2, "DF"]
    assert len(videos) == 2


@pytest.mark.parametrize("column", ["method", "compression", "dataset"])
def test_videos_of_one_folder_name_are_never_collapsed(column):
    df = pd.DataFrame({"video_id": "033_097", "label": 1, "p_fake": [0.2, 0.4, 0.9], column: ["x", "x", "y"]})
    assert sorted(frame_to_video(df)["p_fake"]) == pytest.approx([0.3, 0.9])


def test_rows_without_a_method_are_not_lost():
    df = pd.DataFrame({"video_id": ["a", "b"], "label": [0, 1], "p_fake": [0.2, 0.9], "method": [None, "DF"]})
    assert len(frame_to_video(df)) == 2


def test_video_with_two_labels_is_refused():
    df = pd.DataFrame(
        {"video_id": ["a", "b", "b"], "label": [0, 0, 1], "p_fake": 0.5, "method": ["real", "real", "DF"]}
    )
    with pytest.raises(DataError, match="video 'b'"):
        frame_to_video(df)


def test_missing_columns_and_ids_are_named():
    with pytest.raises(DataError, match="no column video_id"):
        frame_to_video(pd.DataFrame({"label": [0], "p_fake": [0.1]}))
    with pytest.raises(DataError, match="row 1: video_id is empty"):
        frame_to_video(pd.DataFrame({"label": [0, 1], "p_fake": [0.1, 0.2], "video_id": ["a", None]}))


def test_no_frames_give_no_videos():
    df = pd.DataFrame({"video_id": [], "label": [], "p_fake": []})
    assert frame_to_video(df).empty
    assert all(math.isnan(low) for low, _ in bootstrap_intervals(df).values())


# The bootstrap


def test_weighted_metrics_equal_the_libraries_on_copied_out_frames():
    rng = np.random.default_rng(2)
    df = clustered(rng, videos=30, frames=7)
    df["p_fake"] = df["p_fake"].round(2)  # with ties, and with the edges of the calibration bins
    df.loc[:3, "p_fake"] = [0.0, 1.0, 0.5, 0.2]
    video = df["video_id"].str[1:].astype(int).to_numpy()
    weighted = _WeightedMetrics(df["label"].to_numpy(), df["p_fake"].to_numpy(), video)
    drawn = rng.integers(0, 4, size=(8, 30))
    results = weighted(drawn)
    for sample, counts in enumerate(drawn):
        copied = df.loc[np.repeat(df.index, counts[video])]
        expected = compute_metrics(copied["label"], copied["p_fake"])
        for name in METRICS:
            assert results[name][sample] == pytest.approx(expected[name], abs=1e-6), name


def test_interval_covers_the_truth_and_is_wider_than_one_over_frames():
    shift = 1.0
    # a frame's score is N(0, 1 + 0.09) and a fake's is shifted: AUC = Phi(shift / sqrt(2 * 1.09))
    truth = 0.5 * (1 + math.erf(shift / math.sqrt(2 * 1.09) / math.sqrt(2)))
    covered = covered_by_frames = 0
    for seed in range(40):
        df = clustered(np.random.default_rng(seed), shift=shift)
        low, high = bootstrap_intervals(df, level="frame", samples=300, seed=seed)["auc"]
        alone = df.assign(video_id=[str(i) for i in range(len(df))])
        low_frames, high_frames = bootstrap_intervals(alone, level="frame", samples=300, seed=seed)["auc"]
        assert high - low > 1.5 * (high_frames - low_frames)
        covered += low <= truth <= high
        covered_by_frames += low_frames <= truth <= high_frames
    assert covered >= 34
    assert covered_by_frames < 30


def test_video_interval_holds_the_estimate_and_both_classes_are_always_drawn():
    rng = np.random.default_rng(3)
    df = clustered(rng, videos=40)
    df = df[(df["label"] == 1) | (df["video_id"] < "v2")]  # a handful of reals among many fakes
    intervals = bootstrap_intervals(df, samples=200)
    videos = frame_to_video(df)
    metrics = compute_metrics(videos["label"], videos["p_fake"])
    assert set(intervals) == set(METRICS)
    for name in ("auc", "bacc", "acc", "ap"):
        low, high = intervals[name]
        assert low <= metrics[name] <= high
        assert 0 <= low < high <= 1


def test_seed_decides_and_the_size_of_a_chunk_does_not(monkeypatch):
    df = clustered(np.random.default_rng(4), videos=20, frames=3)
    first = bootstrap_intervals(df, level="frame", samples=50, seed=5)
    assert first == bootstrap_intervals(df, level="frame", samples=50, seed=5)
    assert first != bootstrap_intervals(df, level="frame", samples=50, seed=6)
    monkeypatch.setattr("sficonv.evaluation.metrics._CHUNK_CELLS", 7 * len(df))
    for name, interval in bootstrap_intervals(df, level="frame", samples=50, seed=5).items():
        assert interval == pytest.approx(first[name])


def test_one_class_has_no_interval_where_there_is_no_value():
    df = clustered(np.random.default_rng(6), videos=20)
    intervals = bootstrap_intervals(df[df["label"] == 1], samples=20)
    assert all(math.isnan(intervals[name][0]) for name in NEED_BOTH)
    assert math.isfinite(intervals["acc"][0])


def test_arguments_are_checked():
    df = clustered(np.random.default_rng(7), videos=4)
    with pytest.raises(ValueError, match="level"):
        bootstrap_intervals(df, level="clip")
    with pytest.raises(ValueError, match="samples"):
        bootstrap_intervals(df, samples=-1)
    assert math.isnan(bootstrap_intervals(df, samples=0)["auc"][0])
