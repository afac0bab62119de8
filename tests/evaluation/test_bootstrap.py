"""Intervals by resampling videos: right, the same for every size of a chunk, and honest where simplified."""

import math

import numpy as np
import pandas as pd
import pytest

from sficonv.evaluation.bootstrap import WeightedMetrics, bootstrap_intervals, score_intervals
from sficonv.evaluation.metrics import METRICS, NEED_BOTH, compute_metrics
from sficonv.evaluation.scores import frame_to_video, scores_of


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


def test_weighted_metrics_equal_the_libraries_on_copied_out_frames():
    rng = np.random.default_rng(2)
    df = clustered(rng, videos=30, frames=7)
    df["p_fake"] = df["p_fake"].round(2)  # with ties, and with the edges of the calibration bins
    df.loc[:3, "p_fake"] = [0.0, 1.0, 0.5, 0.2]
    video = df["video_id"].str[1:].astype(int).to_numpy()
    labels, scores = df["label"].to_numpy(), df["p_fake"].to_numpy()
    weighted = WeightedMetrics(labels, scores, video, np.unique(-scores, return_inverse=True)[1])
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
    monkeypatch.setattr("sficonv.evaluation.bootstrap._CHUNK_CELLS", 7 * len(df))
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


# Large tables


def test_merged_classes_give_the_exact_intervals_within_what_is_stated(monkeypatch):
    rng = np.random.default_rng(8)
    df = clustered(rng, videos=200, frames=60)
    exact = {level: bootstrap_intervals(df, level=level, samples=60, seed=1) for level in ("frame", "video")}
    assert exact["frame"].notes == []
    monkeypatch.setattr("sficonv.evaluation.bootstrap.EXACT", 1000)
    monkeypatch.setattr("sficonv.evaluation.bootstrap._CLASSES", 256)
    merged = bootstrap_intervals(df, level="frame", samples=60, seed=1)
    (note,) = merged.notes
    assert "12000 different scores were merged into" in note
    most = float(note.split()[-1])
    assert 0 < most < 0.01
    for name in METRICS:
        tolerance = most if name == "auc" else 1e-9 if name in ("acc", "bacc", "ece") else 0.02
        assert merged[name] == pytest.approx(exact["frame"][name], abs=tolerance), name


def test_videos_of_one_class_are_drawn_together(monkeypatch):
    # every row a video: the draws are others than the exact ones, the distribution is the same
    rng = np.random.default_rng(9)
    label = rng.integers(0, 2, 4000)
    p = 1 / (1 + np.exp(-rng.normal(size=4000) - 0.5 * label))
    df = pd.DataFrame({"video_id": range(4000), "label": label, "p_fake": p})
    scores = scores_of(df.astype({"video_id": str}))
    exact = score_intervals(scores, samples=2000)
    monkeypatch.setattr("sficonv.evaluation.bootstrap.EXACT", 100)
    monkeypatch.setattr("sficonv.evaluation.bootstrap._CLASSES", 1024)
    merged = score_intervals(scores, samples=2000)
    for name in METRICS:
        width = exact[name][1] - exact[name][0]
        assert merged[name] == pytest.approx(exact[name], abs=0.15 * width), name


def test_fewer_samples_where_there_are_too_many_videos(monkeypatch):
    df = clustered(np.random.default_rng(10), videos=50, frames=2)
    monkeypatch.setattr("sficonv.evaluation.bootstrap.MOST_DRAWS", 50 * 120)
    few = bootstrap_intervals(df, samples=1000)
    assert few.notes == ["120 instead of 1000 resamplings, for 50 videos"]
    assert few == bootstrap_intervals(df, samples=120)
