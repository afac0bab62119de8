"""From scores to figures: what is left out, the metrics with intervals, and each manipulation on its own."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd
import sklearn
import torch

from sficonv.errors import DataError, first_few
from sficonv.estimate import Estimate
from sficonv.evaluation.bootstrap import score_intervals
from sficonv.evaluation.metrics import METRICS, THRESHOLD, at_threshold, compute_metrics
from sficonv.evaluation.pooled import Pooled, pooled
from sficonv.evaluation.result import EvaluationResult
from sficonv.evaluation.score_table import ROW_KEYS, ScoreTable, table_in_memory
from sficonv.evaluation.scores import GROUPS, LeftOut, Scores, first_paths, read_scores
from sficonv.version import __version__

Level = Literal["frame", "video"]
FEW_VIDEOS = 10


def judge(
    scored: pd.DataFrame | ScoreTable,
    *,
    weights: str | None = None,
    model: str | None = None,
    data: str = "scores",
    split: str = "all",
    bootstrap: int = 1000,
    seed: int = 0,
    threshold: float | None = None,
) -> EvaluationResult:
    """Figures for a table of scores: what `evaluate` does once every crop has its score.

    A `ScoreTable` of a file is read in batches, and what is kept of a row takes 21 bytes;
    `docs/evaluation.md` has the memory and time measured for ten million rows.

    Args:
        scored: `label`, `p_fake`, `video_id`, and optionally `method`, `compression`, `dataset`, `path`,
            `error`. Rows with a text in `error` are left out and counted.
        weights, model, data, split: What the scores are of, for the result.
        bootstrap: Resamplings of the videos; 0 for no intervals.
        seed: Seed of the resampling.
        threshold: Report the error rates at this threshold too, beside those at 0.5.

    Raises:
        DataError: If no row can be judged, a score is unusable, a crop has two scores, or a video two labels.

    Example:
        >>> rows = pd.DataFrame({"label": [0, 1], "p_fake": [0.2, 0.7], "video_id": ["a", "b"]})
        >>> judge(rows, bootstrap=10).video["auc"].value
        1.0
    """
    table = table_in_memory(scored, data) if isinstance(scored, pd.DataFrame) else scored
    frames, left_out = read_scores(table)
    _refuse_two_scores(frames, table)
    warnings = exclusions(table, left_out)
    if not len(frames):
        raise DataError(f"{data}: nothing to judge ({'; '.join(warnings) or 'no rows'})")
    levels: dict[Level, Scores] = {"frame": frames, "video": frames.per_video()}
    counts = {"unreadable": left_out.unreadable, "empty_videos": len(left_out.empty_videos)}
    counts |= _counts(levels)
    notes: list[str] = []
    figures: dict[Level, dict[str, Estimate]] = {}
    operating = []
    for level, scores in levels.items():
        values = compute_metrics(scores.label, scores.p_fake)
        found = score_intervals(scores, samples=bootstrap, seed=seed)
        figures[level] = {name: Estimate(values[name], *found[name]) for name in METRICS}
        notes += _by_reason(level, values.notes) + [f"{level}: {note}" for note in found.notes]
        for at in (THRESHOLD, threshold):
            if at is not None:
                operating.append({"level": level, **_operating(level, scores, at)})
    notes += _doubts(counts, figures["video"]["auc"])
    versions = {
        "sficonv": __version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
    }
    return EvaluationResult(
        weights=weights,
        model=model,
        data=data,
        split=split,
        counts=counts,
        frame=figures["frame"],
        video=figures["video"],
        per_method=_per_method(frames, bootstrap, seed),
        operating=operating,
        pooled=_pooled(levels, notes),
        table=table,
        warnings=warnings,
        notes=notes,
        provenance={"versions": versions, "bootstrap": bootstrap, "seed": seed},
    )


def _counts(levels: dict[Level, Scores]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for level, scores in levels.items():
        fakes = int(scores.label.sum())
        counts |= {
            f"{level}s": len(scores), f"real_{level}s": len(scores) - fakes, f"fake_{level}s": fakes
        }  # fmt: skip
    return counts


def _doubts(counts: dict[str, int], auc: Estimate) -> list[str]:
    """Why the figures may say little, or the opposite of what they seem to say."""
    notes = [
        f"only {n} {kind} videos: too few for intervals to rely on"
        for kind in ("real", "fake")
        if 0 < (n := counts[f"{kind}_videos"]) < FEW_VIDEOS
    ]
    if auc.high < 0.5:
        notes.append(
            "fakes score lower than reals: if the scores are P(real), or label 0 means fake, swap them "
            "(here a label is 0 for real and 1 for fake, and a score is P(fake))"
        )
    return notes


def _refuse_two_scores(frames: Scores, table: ScoreTable) -> None:
    """A crop that is in the table twice counts once; with two scores it is unclear with which."""
    ordered = np.sort(frames.key)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(twice):
        keys = [name for name in ROW_KEYS if name in table.columns]
        apart = " and ".join(name for name in ROW_KEYS if name not in keys)
        named = first_few(first_paths(table, twice[:3], keys))
        raise DataError(
            f"{table.name}: {len(twice)} crops have several scores: {named}; keep one of each"
            + (f", or if they are different crops, tell them apart by a column {apart}" if apart else "")
        )


def _pooled(levels: dict[Level, Scores], notes: list[str]) -> list[Pooled]:
    """One threshold for all sources, where there are several."""
    if levels["frame"].groups.get("dataset", pd.Series(dtype=str)).nunique() < 2:
        return []
    try:
        return [pooled(scores, level=level) for level, scores in levels.items()]
    except DataError as error:
        notes.append(f"there is no one threshold for all sources: {error}")
        return []


def exclusions(table: ScoreTable, left_out: LeftOut) -> list[str]:
    """What was left out of a table, in plain words."""
    warnings = []
    if left_out.repeated:
        warnings.append(f"{left_out.repeated} rows repeat another row and were left out")
    if "video_id" not in table.columns:
        warnings.append(
            "there is no column video_id: every row counts as a video of its own, and the intervals are too "
            "narrow if rows share a video"
        )
    if left_out.unreadable:
        warnings.append(
            f"{left_out.unreadable} of {left_out.rows - left_out.repeated} crops were left out, "
            f"the first: {left_out.first_error}"
        )
    if left_out.empty_videos:
        warnings.append(
            f"{len(left_out.empty_videos)} videos were left out, none of their crops could be scored: "
            f"{first_few(left_out.empty_videos)}"
        )
    return warnings


def _operating(level: Level, scores: Scores, threshold: float) -> dict[str, float]:
    rates = at_threshold(scores.label, scores.p_fake, threshold)
    if level == "frame":  # the frames of a video are not independent: an exact interval would be too narrow
        rates |= {f"{name}_{edge}": math.nan for name in ("fpr", "tpr") for edge in ("low", "high")}
    return rates


def _by_reason(level: str, notes: dict[str, str]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in notes.items():
        reasons.setdefault(reason, []).append(name)
    return [f"{level} {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _per_method(scores: Scores, bootstrap: int, seed: int) -> pd.DataFrame:
    """Each manipulation's fakes against all reals of the same compression."""
    keys = [name for name in GROUPS if name in scores.groups]
    compression = scores.groups["compression"].to_numpy()
    of_row = scores.group[scores.video]
    fake = scores.label == 1
    there = np.bincount(of_row[fake], minlength=len(compression)) > 0
    table = []
    for number, entry in scores.groups[there].sort_values(keys)[keys].iterrows():
        alike = np.flatnonzero(compression == entry["compression"])
        part = scores.select(np.where(fake, of_row == number, np.isin(of_row, alike)))
        videos = part.per_video()
        frame, video = (compute_metrics(s.label, s.p_fake) for s in (part, videos))
        low, high = score_intervals(videos, samples=bootstrap, seed=seed)["auc"]
        table.append(
            entry.to_dict()
            | {"fake_videos": int(video["n_fake"]), "real_videos": int(video["n_real"])}
            | {"fake_frames": int(frame["n_fake"]), "real_frames": int(frame["n_real"])}
            | {"video_auc": video["auc"], "video_auc_low": low, "video_auc_high": high}
            | {f"video_{name}": video[name] for name in ("bacc", "eer")}
            | {f"frame_{name}": frame[name] for name in ("auc", "bacc", "eer")}
        )
    return pd.DataFrame(table)
