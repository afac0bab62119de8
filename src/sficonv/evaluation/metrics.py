"""How good a set of scores is, and how sure one can be: pure functions over arrays and tables.

Fake is the positive class (label 1) and every score is P(fake), in [0, 1].

A metric that the rows cannot define is `nan` with its reason in `notes`: never an exception, never 0.
Scores that are not numbers are the opposite, an error that names the row: leaving them out silently
would flatter a detector that fails on hard inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
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
_CHUNK_CELLS = 1_000_000  # cells of one (samples x rows) table of weights: bounds the bootstrap's memory


class Metrics(dict[str, float]):
    """Metric name to value, with the reasons for every `nan` and every doubtful value in `notes`."""

    notes: dict[str, str]

    def __init__(self, values: dict[str, float], notes: dict[str, str]) -> None:
        super().__init__(values)
        self.notes = notes


def check_scores(labels: ArrayLike, p_fake: ArrayLike, names: Iterable[Any] | None = None) -> None:
    """Refuse labels other than 0 and 1 and scores that are not numbers in [0, 1].

    Args:
        labels: `(N,)`, 0 = real, 1 = fake.
        p_fake: `(N,)`, P(fake).
        names: What to call each row in the message; default: its position, from 0.

    Raises:
        DataError: If the lengths differ or a value is unusable; the message names the first such row.
    """
    y, p = np.asarray(labels, dtype=float), np.asarray(p_fake, dtype=float)
    if y.ndim != 1 or y.shape != p.shape:
        raise DataError(f"labels {y.shape} and p_fake {p.shape} must be two columns of one length")

    def refuse(bad: NDArray[np.bool_], values: NDArray[Any], what: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            name = row if names is None else list(names)[row]
            raise DataError(f"row {name}: {what}, got {values[row]} ({int(bad.sum())} such rows)")

    refuse(~np.isin(y, (0, 1)), y, "label must be 0 (real) or 1 (fake)")
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


def frame_to_video(df: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of each video's frames.

    Videos are told apart by `video_id`, which must be unique over the whole dataset. Rows that share an
    id and differ in `method`, `compression` or `dataset` are still kept apart: the four manipulations of
    FaceForensics++ use the same folder names, and averaging over them gives another, easier task.

    Args:
        df: One row per face crop: `label`, `video_id`, `p_fake`, and optionally `method`, `compression`,
            `dataset`.

    Returns:
        One row per video with the same columns, `p_fake` the mean, and `frames`, how many it is the mean of.

    Raises:
        DataError: If a column is missing, a score is unusable, or a video has two labels.

    Example:
        >>> frames = pd.DataFrame({"video_id": list("aab"), "label": [0, 0, 1], "p_fake": [0.1, 0.3, 0.8]})
        >>> frame_to_video(frames)[["video_id", "p_fake", "frames"]].values.tolist()
        [['a', 0.2, 2], ['b', 0.8, 1]]
    """
    keys = _video_keys(df)
    groups = df.groupby(keys, sort=True, dropna=False, observed=True)
    videos = groups.agg(label=("label", "first"), p_fake=("p_fake", "mean"), frames=("p_fake", "size"))
    return videos.reset_index()


def _video_keys(df: pd.DataFrame) -> list[str]:
    """Check the table and name the columns that tell its videos apart."""
    missing = [column for column in ("label", "video_id", "p_fake") if column not in df.columns]
    if missing:
        raise DataError(f"the scores have no column {', '.join(missing)}")
    check_scores(df["label"], df["p_fake"])
    if df["video_id"].isna().any():
        raise DataError(f"row {int(np.argmax(df['video_id'].isna()))}: video_id is empty")
    labels = df.groupby("video_id", observed=True)["label"].nunique()
    if (labels > 1).any():
        raise DataError(
            f"video {labels.idxmax()!r} has frames labelled real and frames labelled fake: "
            "video_id must name one source video of one class"
        )
    return ["video_id", *(c for c in ("method", "compression", "dataset") if c in df.columns)]


def bootstrap_intervals(
    df: pd.DataFrame, *, level: Literal["video", "frame"] = "video", samples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals by resampling videos.

    Frames of one video resemble each other, so the video is what is drawn, at both levels: `"frame"`
    judges all frames of the drawn videos. Reals and fakes are drawn separately, each as many as there
    are, so that every sample holds both classes.

    Args:
        df: As for `frame_to_video`.
        level: Judge the mean score per video, or every frame.
        samples: How many times to resample; 0 gives `nan` intervals.
        seed: The same seed gives the same intervals.

    Returns:
        For each name in `METRICS` the 2.5 % and 97.5 % points, `(nan, nan)` where it is undefined.

    Raises:
        DataError: As for `frame_to_video`.
        ValueError: If `level` or `samples` is not one of the above.

    Example:
        >>> df = pd.DataFrame({"video_id": list("abcdef"), "label": [0, 0, 0, 1, 1, 1],
        ...                    "p_fake": [0.1, 0.4, 0.6, 0.3, 0.7, 0.9]})
        >>> low, high = bootstrap_intervals(df, samples=200)["auc"]
        >>> 0 <= low < high <= 1
        True
    """
    if level not in ("video", "frame"):
        raise ValueError(f"level must be 'video' or 'frame', got {level!r}")
    if samples < 0:
        raise ValueError(f"samples must be 0 or more, got {samples}")
    keys = _video_keys(df)
    rows = frame_to_video(df) if level == "video" else df
    if not samples or rows.empty:
        return dict.fromkeys(METRICS, (math.nan, math.nan))
    video = rows.groupby(keys, sort=True, dropna=False, observed=True).ngroup().to_numpy().astype(np.int64)
    labels, scores = rows["label"].to_numpy(np.int64), rows["p_fake"].to_numpy(np.float64)
    judge = _WeightedMetrics(labels, scores, video)

    label_of = np.zeros(video.max() + 1, dtype=np.int64)
    label_of[video] = labels
    classes = [np.flatnonzero(label_of == label) for label in (0, 1)]
    # One stream per class: the draws then do not depend on the size of a chunk.
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2)]
    chunk = max(1, _CHUNK_CELLS // len(rows))
    parts: list[dict[str, NDArray[np.float64]]] = []
    for start in range(0, samples, chunk):
        drawn = np.zeros((min(chunk, samples - start), len(label_of)), dtype=np.int64)
        for members, rng in zip(classes, streams, strict=True):
            if n := len(members):
                drawn[:, members] = rng.multinomial(n, np.full(n, 1 / n), size=len(drawn))
        parts.append(judge(drawn))
    intervals = {}
    for name in METRICS:
        low, high = np.percentile(np.concatenate([part[name] for part in parts]), (2.5, 97.5))
        intervals[name] = (float(low), float(high))
    return intervals


class _WeightedMetrics:
    """Every metric for many resamplings at once, each given by how often it drew each video.

    The libraries judge one sample at a time and would need its frames copied out. Here the rows are
    sorted once and a sample is a row of weights, so that the ROC curve of each is a running sum. The
    definitions are those of `compute_metrics` (the tests hold the two against each other).

    Args:
        labels: `(N,)`.
        scores: `(N,)`.
        video: `(N,)`, the index of each row's video, 0 to V-1.
    """

    def __init__(
        self, labels: NDArray[np.int64], scores: NDArray[np.float64], video: NDArray[np.int64]
    ) -> None:
        order = np.argsort(-scores, kind="stable")
        self.fake, self.video = labels[order] == 1, video[order]
        ranked = scores[order]
        # A threshold stands between different scores only: rows with equal scores move together.
        self.ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        n_videos = video.max() + 1

        def per_video(values: NDArray[Any]) -> NDArray[np.float64]:
            return np.bincount(video, weights=values, minlength=n_videos).astype(np.float64)

        right = (scores >= THRESHOLD) == (labels == 1)
        self.right = np.stack([per_video(right & (labels == c)) for c in (0, 1)], axis=1)
        self.count = np.stack([per_video(labels == c) for c in (0, 1)], axis=1)
        # As in torchmetrics: bins closed on the left, and P(fake) = 1 in a bin of its own.
        bins = np.digitize(scores, np.linspace(0, 1, ECE_BINS + 1)) - 1
        gap = scores - labels
        self.gap = np.stack([per_video(gap * (bins == b)) for b in range(ECE_BINS + 1)], axis=1)

    def __call__(self, drawn: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """`drawn`: `(S, V)`, how often each sample holds each video. Returns `(S,)` per metric."""
        weights = drawn[:, self.video]
        tp = np.cumsum(weights * self.fake, axis=1)[:, self.ends].astype(np.float64)
        fp = np.cumsum(weights * ~self.fake, axis=1)[:, self.ends].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # one class only: 0 / 0 = nan, as it should be
            called = tp + fp
            precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
            tpr, fpr = tp / tp[:, -1:], fp / fp[:, -1:]
            both = np.isfinite(tpr[:, -1] + fpr[:, -1])
            step_tpr, step_fpr = np.diff(tpr, axis=1, prepend=0), np.diff(fpr, axis=1, prepend=0)
            closest = np.argmin(np.abs(fpr - (1 - tpr)), axis=1)[:, None]
            right, count = drawn @ self.right, drawn @ self.count
            result = {
                "auc": (step_fpr * (tpr - step_tpr / 2)).sum(axis=1),
                "bacc": (right / count).mean(axis=1),
                "eer": (np.take_along_axis(fpr + 1 - tpr, closest, axis=1) / 2)[:, 0],
                "ap": (step_tpr * precision).sum(axis=1),
            }
            for name, level in FPR_LEVELS.items():
                result[name] = np.where(fpr <= level, tpr, 0).max(axis=1)
            result = {name: np.where(both, value, np.nan) for name, value in result.items()}
            result["acc"] = right.sum(axis=1) / count.sum(axis=1)
            result["ece"] = np.abs(drawn @ self.gap).sum(axis=1) / count.sum(axis=1)
        return result
