"""How sure a figure is: the bootstrap over videos, for a hundred rows as for ten million."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sficonv.evaluation.metrics import ECE_BINS, FPR_LEVELS, METRICS, THRESHOLD
from sficonv.evaluation.scores import Scores, scores_of

EXACT = 50_000
"""Different scores up to which none are merged."""
MOST_DRAWS = 500_000_000
"""Most drawn videos, over all samples: beyond it fewer samples are drawn, and a note says so."""
FEWEST_SAMPLES = 100

_CLASSES = 8192
_CHUNK_CELLS = 2_000_000  # cells of one table of samples: bounds the memory


class Intervals(dict[str, tuple[float, float]]):
    """Metric name to interval, with what was simplified in `notes`."""

    notes: list[str]

    def __init__(self, values: dict[str, tuple[float, float]], notes: Sequence[str] = ()) -> None:
        super().__init__(values)
        self.notes = list(notes)


def bootstrap_intervals(
    df: pd.DataFrame, *, level: Literal["video", "frame"] = "video", samples: int = 1000, seed: int = 0
) -> Intervals:
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
        For each name in `METRICS` the 2.5 % and 97.5 % points, `(nan, nan)` where it is undefined. What was
        simplified on a large table (see `score_intervals`) is in `.notes`.

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
    scores = scores_of(df)
    return score_intervals(scores.per_video() if level == "video" else scores, samples=samples, seed=seed)


def score_intervals(scores: Scores, *, samples: int = 1000, seed: int = 0) -> Intervals:
    """`bootstrap_intervals` of scores as they are: of frames, or of videos by `Scores.per_video`.

    Up to `EXACT` different scores nothing is simplified. Beyond, scores are sorted into some 8000 classes and
    those of one class count as equal, for the resampling only; by how much that can move an AUC at most is
    computed and stated. Classes are cut at quantiles of the reals and of the fakes, finest among the highest
    reals, where the detection rates at low false-alarm rates are read.
    """
    drawn, notes = resampled([scores], samples=samples, seed=seed)
    if not drawn:
        return Intervals(dict.fromkeys(METRICS, (math.nan, math.nan)))
    found = {}
    for name in METRICS:
        low, high = np.percentile(drawn[0][name], (2.5, 97.5))
        found[name] = (float(low), float(high))
    return Intervals(found, notes)


def resampled(
    several: Sequence[Scores], *, samples: int, seed: int
) -> tuple[list[dict[str, NDArray[np.float64]]], list[str]]:
    """Every metric of every sample, for several sets of scores of the same videos with the same draws.

    Args:
        several: They share their videos, so that a sample holds the same ones of each.
        samples: How many times to resample.
        seed: Seed of the draws.

    Returns:
        For each of `several` an array `(samples,)` per metric (nothing without samples or rows), and what was
        simplified.

    Raises:
        ValueError: If `samples` is negative.
    """
    if samples < 0:
        raise ValueError(f"samples must be 0 or more, got {samples}")
    if not samples or not len(several[0]):
        return [], []
    classes = [_score_classes(scores) for scores in several]
    notes = [note for _, note in classes if note]
    sizes = None
    if len(several) == 1 and notes and len(several[0].videos) == len(several[0]):
        # Videos of one class and label are alike: how many of them a sample holds is one draw, not many.
        merged, of_class, sizes = _merged(several[0], classes[0][0])
        several, classes = [merged], [(of_class, "")]
    label_of = np.zeros(len(several[0].videos), dtype=np.int64)
    label_of[several[0].video] = several[0].label
    if len(label_of) * samples > MOST_DRAWS and samples > FEWEST_SAMPLES:
        wanted, samples = samples, max(FEWEST_SAMPLES, MOST_DRAWS // len(label_of))
        notes.append(f"{samples} instead of {wanted} resamplings, for {len(label_of)} videos")
    judges = [
        WeightedMetrics(scores.label, scores.p_fake, scores.video, of_class)
        for scores, (of_class, _) in zip(several, classes, strict=True)
    ]
    chunk = max(1, _CHUNK_CELLS // max(len(label_of), *(judge.classes for judge in judges)))
    parts = [
        [judge(drawn) for judge in judges] for drawn in _draws(label_of, sizes, samples, seed, chunk=chunk)
    ]
    joined = [
        {m: np.concatenate([part[i][m] for part in parts]) for m in METRICS} for i in range(len(judges))
    ]
    return joined, notes


def _draws(
    label_of: NDArray[np.int64], sizes: NDArray[np.int64] | None, samples: int, seed: int, *, chunk: int
) -> Iterator[NDArray[np.int32]]:
    """`(S, V)`: how often each sample holds each video (or member of a class of `sizes` videos)."""
    sizes = np.ones(len(label_of), dtype=np.int64) if sizes is None else sizes
    of_label = [np.flatnonzero(label_of == label) for label in (0, 1)]
    # One stream per label: the draws then do not depend on the size of a chunk.
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2)]
    for start in range(0, samples, chunk):
        drawn = np.zeros((min(chunk, samples - start), len(label_of)), dtype=np.int32)
        for members, rng in zip(of_label, streams, strict=True):
            if n := int(sizes[members].sum()):
                drawn[:, members] = rng.multinomial(n, sizes[members] / n, size=len(drawn))
        yield drawn


def _score_classes(scores: Scores) -> tuple[NDArray[np.int32], str]:
    """The class of each row, highest scores first, and a note where different scores share one."""
    different, of_row = np.unique(scores.p_fake, return_inverse=True)
    if len(different) > EXACT:
        # Nothing that counts rows over a fixed score may be split by a class.
        fixed = [THRESHOLD, *np.linspace(0, 1, ECE_BINS + 1)]
        even, tail = np.linspace(0, 1, _CLASSES // 2 + 1), 1 - np.logspace(-1, -6, _CLASSES // 8)
        cuts = [
            np.quantile(scores.p_fake[scores.label == label], at, method="higher")
            for label, at in ((0, np.append(even, tail)), (1, even))
            if (scores.label == label).any()
        ]
        edges = np.unique(np.concatenate([*cuts, fixed]))
        of_different = np.searchsorted(edges, different, side="right")
        used, of_different = np.unique(of_different, return_inverse=True)
        of_row = of_different[of_row]
        note = _merging(scores, of_row, np.bincount(of_different))
        return (len(used) - 1 - of_row).astype(np.int32), note
    return (len(different) - 1 - of_row).astype(np.int32), ""


def _merging(scores: Scores, of_row: NDArray[Any], different: NDArray[Any]) -> str:
    """What it may do to the AUC that the pairs within one class count as ties."""
    shares = [np.bincount(of_row[scores.label == label], minlength=len(different)) for label in (0, 1)]
    pairs = float(shares[0].sum()) * float(shares[1].sum())
    tied = float((shares[0].astype(float) * shares[1])[different > 1].sum()) / pairs if pairs else 0.0
    return (
        f"for the intervals, {int(different.sum())} different scores were merged into {len(different)} "
        f"classes, which moves an AUC by at most {tied / 2:.1g}"
    )


def _merged(
    scores: Scores, of_class: NDArray[np.int32]
) -> tuple[Scores, NDArray[np.int32], NDArray[np.int64]]:
    """One row for all videos of one class and label, with how many they are."""
    cell = of_class.astype(np.int64) * 2 + scores.label
    cells, of_row = np.unique(cell, return_inverse=True)
    sizes = np.bincount(of_row)
    mean = np.bincount(of_row, weights=scores.p_fake) / sizes
    merged = replace(
        scores,
        label=(cells % 2).astype(np.int8),
        p_fake=mean,
        video=np.arange(len(cells), dtype=np.int32),
        videos=pd.DataFrame(index=range(len(cells))),
    )
    return merged, (cells // 2).astype(np.int32), sizes


class WeightedMetrics:
    """Every metric for many resamplings at once, each given by how often it drew each video.

    The libraries judge one sample at a time and would need its frames copied out. Here rows are counted by
    class of score and video, so that the ROC curves of many samples are one sparse product and a running
    sum. The definitions are those of `compute_metrics` (the tests hold the two against each other).

    Args:
        labels: `(N,)`.
        scores: `(N,)`.
        video: `(N,)`, the index of each row's video, 0 to V-1.
        of_class: `(N,)`, 0 for the highest scores; rows of one class count as ties.
    """

    def __init__(
        self, labels: NDArray[Any], scores: NDArray[Any], video: NDArray[Any], of_class: NDArray[Any]
    ) -> None:
        n_videos, self.classes = int(video.max()) + 1, int(of_class.max()) + 1

        def per_video(rows: NDArray[Any], weights: NDArray[Any] | None = None) -> NDArray[np.float64]:
            return np.bincount(video[rows], weights=weights, minlength=n_videos).astype(np.float64)

        def counts(label: int) -> csr_array:
            rows = labels == label
            ones = np.ones(int(rows.sum()), dtype=np.int32)
            return csr_array((ones, (of_class[rows], video[rows])), shape=(self.classes, n_videos))

        self.real, self.fake = counts(0), counts(1)
        right = (scores >= THRESHOLD) == (labels == 1)
        self.right = np.stack([per_video(right & (labels == c)) for c in (0, 1)], axis=1)
        self.count = np.stack([per_video(labels == c) for c in (0, 1)], axis=1)
        # As in torchmetrics: bins closed on the left, and P(fake) = 1 in a bin of its own.
        bins = (np.digitize(scores, np.linspace(0, 1, ECE_BINS + 1)) - 1).astype(np.int8)
        gaps = []
        for b in range(ECE_BINS + 1):
            rows = np.flatnonzero(bins == b)
            gaps.append(per_video(rows, scores[rows] - labels[rows]))
        self.gap = np.stack(gaps, axis=1)

    def __call__(self, drawn: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """`drawn`: `(S, V)`, how often each sample holds each video. Returns `(S,)` per metric."""
        weights = np.ascontiguousarray(drawn.T, dtype=np.int32)
        tp = np.cumsum(self.fake @ weights, axis=0, dtype=np.float64)
        fp = np.cumsum(self.real @ weights, axis=0, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # one class only: 0 / 0 = nan, as it should be
            called = tp + fp
            precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
            tpr, fpr = tp / tp[-1:], fp / fp[-1:]
            both = np.isfinite(tpr[-1] + fpr[-1])
            step_tpr, step_fpr = np.diff(tpr, axis=0, prepend=0), np.diff(fpr, axis=0, prepend=0)
            closest = np.argmin(np.abs(fpr - (1 - tpr)), axis=0)[None]
            right, count = drawn @ self.right, drawn @ self.count
            result = {
                "auc": (step_fpr * (tpr - step_tpr / 2)).sum(axis=0),
                "bacc": (right / count).mean(axis=1),
                "eer": (np.take_along_axis(fpr + 1 - tpr, closest, axis=0) / 2)[0],
                "ap": (step_tpr * precision).sum(axis=0),
            }
            for name, level in FPR_LEVELS.items():
                result[name] = np.where(fpr <= level, tpr, 0).max(axis=0)
            result = {name: np.where(both, value, np.nan) for name, value in result.items()}
            result["acc"] = right.sum(axis=1) / count.sum(axis=1)
            result["ece"] = np.abs(drawn @ self.gap).sum(axis=1) / count.sum(axis=1)
        return result
