"""Two detectors on the same videos: which ranks better, by how much, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sficonv.errors import DataError
from sficonv.estimate import Estimate
from sficonv.evaluation.bootstrap import resampled
from sficonv.evaluation.delong import delong_test
from sficonv.evaluation.evaluate import Split, evaluate
from sficonv.evaluation.judge import FEW_VIDEOS, exclusions
from sficonv.evaluation.matching import by_path, by_video
from sficonv.evaluation.result import EvaluationResult, remarks
from sficonv.evaluation.score_table import ROW_KEYS, VIDEO_KEYS, ScoreTable, score_file, table_in_memory
from sficonv.evaluation.scores import Scores, read_scores
from sficonv.shipped import DEFAULT

if TYPE_CHECKING:
    from rich.console import Group

Source = str | Path | pd.DataFrame | EvaluationResult


@dataclass(frozen=True)
class PairedAUC:
    """Two AUCs on the same rows.

    Args:
        real: Rows labelled real.
        fake: Rows labelled fake.
        a: AUC of the first detector, with its 95 % interval over videos.
        b: The same of the second.
        difference: a - b, with the 95 % interval of the paired bootstrap over videos.
        standard_error: Of the difference, by DeLong; `nan` for frames, which are not independent.
        p_value: Two-sided, of no difference, by DeLong; `nan` for frames.
    """

    real: int
    fake: int
    a: Estimate
    b: Estimate
    difference: Estimate
    standard_error: float = math.nan
    p_value: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        a: What the first scores are of.
        b: What the second are of.
        matched_by: "path" or "video".
        video: Over the mean scores of videos.
        frame: Over crops; `None` where crops cannot be matched.
        only_a: Rows (or videos, see `matched_by`) that only the first has; left out.
        only_b: Rows that only the second has; left out.
        ambiguous: Rows left out because several of one side have the same path.
        warnings: What was left out, with names, and what is in doubt.
        notes: What else a reader should know.
        settings: `bootstrap` and `seed`.
    """

    a: str
    b: str
    matched_by: str
    video: PairedAUC
    frame: PairedAUC | None
    only_a: int
    only_b: int
    ambiguous: int
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    settings: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain types; an estimate is `value`, `low` and `high`."""
        plain = asdict(self)
        for level in ("video", "frame"):
            if (pair := getattr(self, level)) is not None:
                estimates = {name: getattr(pair, name)._asdict() for name in ("a", "b", "difference")}
                plain[level] = {**plain[level], **estimates}
        return plain

    def summary(self) -> Group:
        """A table and remarks for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("level", "real", "fake", "AUC of A", "AUC of B", "A - B", "p (DeLong)")
        for level, pair in (("video", self.video), ("frame", self.frame)):
            if pair is not None:
                p = f"{pair.p_value:.3g}" if math.isfinite(pair.p_value) else "-"
                counts = (str(pair.real), str(pair.fake))
                table.add_row(level, *counts, str(pair.a), str(pair.b), str(pair.difference), p)
        return Group(Text(f"A: {self.a}"), Text(f"B: {self.b}"), table, *remarks(self.notes, self.warnings))


def compare(
    a: Source,
    b: Source,
    *,
    data: str | Path | None = None,
    split: Split = "test",
    bootstrap: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Comparison:
    """Compare two detectors on the same videos.

    Where both sides have paths, crops are matched by them (and by `frame` and `face`), and the score of a
    video is the mean over the crops that both have; otherwise videos are matched. What only one side has is
    left out, counted and named. The bootstrap draws the same videos for both sides, and DeLong's test takes
    their correlation into account: the intervals of two evaluations side by side know nothing of it.

    Args:
        a: Scores of the first detector: a CSV or Parquet file, a folder that `evaluate(out=...)` wrote, a
            table, an `EvaluationResult`; or, with `data`, a weights file.
        b: Scores of the second.
        data: Prepared folder to score weights files on.
        split: Which split of `data`.
        bootstrap: Resamplings of the videos; 0 for no intervals.
        seed: Seed of the resampling.
        **options: Passed to `evaluate` for weights files: `batch_size`, `device`, `workers`.

    Returns:
        AUCs, their difference, its interval and p-value.

    Raises:
        DataError: If a side cannot be used, nothing matches, or the sides contradict each other about a
            label.
        WeightsError: If weights cannot be loaded.
        ValueError: If weights are given without `data`, or an argument is out of range.

    Example:
        >>> table = pd.DataFrame({"video_id": list("abcd"), "label": [0, 0, 1, 1],
        ...                       "p_fake": [0.1, 0.4, 0.3, 0.9]})
        >>> compare(table, table.assign(p_fake=[0.1, 0.2, 0.3, 0.9]), bootstrap=0).video.difference.value
        -0.25
    """
    tables, names, warnings = [], [], []
    for side, source in (("A", a), ("B", b)):
        table, doubts = _table(source, data, split, options)
        warnings += [f"{side}: {doubt}" for doubt in doubts]
        tables.append(table)
        names.append(table.name)
    shared = [column for column in tables[0].columns if column in tables[1].columns]
    paths = "path" in shared
    if not paths and "video_id" not in shared:
        raise DataError(f"{names[0]} and {names[1]} share no column path or video_id to be matched by")
    # A column that only one side has tells nothing apart on the other.
    video_keys = [k for k in VIDEO_KEYS if k in shared or k == "video_id"]
    row_keys = [k for k in ROW_KEYS if k in shared]
    sides = []
    for side, table in zip("AB", tables, strict=True):
        scores, left_out = read_scores(table, video_keys=video_keys, row_keys=row_keys)
        warnings += [f"{side}: {text}" for text in exclusions(table, left_out)]
        sides.append(scores)
    matched = (by_path if paths else by_video)(sides, tables)
    videos = [scores.per_video() for scores in matched.pair]
    video, notes = _paired(videos, bootstrap, seed)
    error, p_value = delong_test(videos[0].label, videos[0].p_fake, videos[1].p_fake)
    frame = None
    if paths:
        frame, more = _paired(matched.pair, bootstrap, seed)
        notes += [note for note in more if note not in notes]
    else:
        notes.append(
            "without paths on both sides only videos are matched, whatever crops they were scored on"
        )
    notes += _doubts(video)
    return Comparison(
        a=names[0],
        b=names[1],
        matched_by="path" if paths else "video",
        video=replace(video, standard_error=error, p_value=p_value),
        frame=frame,
        only_a=matched.only[0],
        only_b=matched.only[1],
        ambiguous=matched.ambiguous,
        warnings=list(dict.fromkeys(warnings + matched.warnings)),
        notes=notes,
        settings={"bootstrap": bootstrap, "seed": seed},
    )


def compare_files(
    scores: Sequence[str],
    *,
    data: str | None = None,
    split: Split = "test",
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
    device: str | None = None,
    workers: int = 0,
) -> Comparison:
    """Compare two detectors on the same videos: AUCs, their difference, and how sure it is.

    Crops are matched by path where both sides have it, otherwise videos by video_id. What only one side has
    is left out, counted and named.

    Args:
        scores: Two of: a folder that evaluate --out wrote, a CSV or Parquet file of scores; with `data` also
            a weights file.
        data: Prepared folder to score weights files on.
        split: Which split of `data`.
        bootstrap: Resamplings of the videos; 0 for no intervals.
        seed: Seed of the resampling.
        batch_size: Crops per forward pass.
        device: `"cpu"`, `"cuda"`, ...; default: a GPU where there is one.
        workers: Processes that decode crops.

    Raises:
        ValueError: If there are not two of `scores`.
    """
    if len(scores) != 2:
        raise ValueError(f"compare takes two files or folders of scores, got {len(scores)}")
    options: dict[str, Any] = {"batch_size": batch_size, "device": device, "workers": workers}
    return compare(scores[0], scores[1], data=data, split=split, bootstrap=bootstrap, seed=seed, **options)


def _table(
    source: Source, data: str | Path | None, split: Split, options: dict[str, Any]
) -> tuple[ScoreTable, list[str]]:
    if isinstance(source, pd.DataFrame):
        return table_in_memory(source), []
    if isinstance(source, EvaluationResult):
        name = f"{source.model} ({source.weights})" if source.weights else source.model or source.data
        return replace(source.table, name=name), source.warnings
    if str(source) == DEFAULT or Path(source).suffix == ".safetensors":
        if data is None:
            raise ValueError(f"{source}: weights are compared on data: name a prepared folder")
        result = evaluate(source, data, split=split, bootstrap=0, **options)
        return replace(result.table, name=str(source)), result.warnings
    return score_file(source), _warnings_beside(Path(source))


def _warnings_beside(folder: Path) -> list[str]:
    """What an evaluation that wrote this folder had to warn of."""
    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a file of scores, or one that somebody has put there alone
        return []
    warnings = found.get("warnings") if isinstance(found, dict) else None
    return [str(warning) for warning in warnings] if isinstance(warnings, list) else []


def _doubts(video: PairedAUC) -> list[str]:
    """Why the difference may say little."""
    notes = [
        f"only {count} {kind} videos: too few for intervals and p-values to rely on"
        for kind, count in (("real", video.real), ("fake", video.fake))
        if count < FEW_VIDEOS
    ]
    if video.difference.low <= 0 <= video.difference.high:
        notes.append(
            "the interval of the difference contains 0: these videos do not tell the two detectors apart"
        )
    return notes


def _paired(pair: list[Scores], bootstrap: int, seed: int) -> tuple[PairedAUC, list[str]]:
    fakes = int(pair[0].label.sum())
    reals = len(pair[0]) - fakes
    if not reals or not fakes:
        nothing = Estimate(math.nan)
        what = "real" if not reals else "fake"
        return PairedAUC(reals, fakes, nothing, nothing, nothing), [
            f"no {what} rows match: AUCs are undefined"
        ]
    drawn, notes = resampled(pair, samples=bootstrap, seed=seed)
    values = [float(roc_auc_score(scores.label, scores.p_fake)) for scores in pair]
    samples = [sample["auc"] for sample in drawn] or [np.full(1, math.nan)] * 2

    def estimate(value: float, of: NDArray[np.float64]) -> Estimate:
        return Estimate(value, *(float(edge) for edge in np.percentile(of, (2.5, 97.5))))

    a, b = (estimate(value, of) for value, of in zip(values, samples, strict=True))
    return PairedAUC(reals, fakes, a, b, estimate(values[0] - values[1], samples[0] - samples[1])), notes
