"""What an evaluation found, as data, as JSON and as tables for a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sficonv.estimate import Estimate
from sficonv.evaluation.metrics import METRICS
from sficonv.evaluation.pooled import Pooled
from sficonv.evaluation.score_table import ScoreTable
from sficonv.files import atomic_file

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text


@dataclass(frozen=True)
class EvaluationResult:
    """What was judged, how well it did, how sure that is, and what to doubt.

    Args:
        weights: The weights file; `None` for scores from elsewhere.
        model: The model's name, or the file of a predictor; `None` for a file of scores.
        data: The prepared folder, or the file of scores.
        split: The evaluated split, or `"all"`.
        counts: `frames`, `videos`, each also `real_` and `fake_`; `unreadable` rows and `empty_videos` (none
            of whose rows could be scored) were left out.
        frame: For each name in `METRICS` the figure over face crops. Intervals resample videos.
        video: The same over videos: the mean score of a video's crops against its label.
        per_method: One row per manipulation: its fakes against all reals of the same compression.
        operating: Error rates with a threshold, at 0.5 and at that of the model card where it has one: one
            entry per `level` and `threshold` with `acc`, `bacc`, `tpr` and `fpr`, at video level with exact
            95 % intervals (`_low`, `_high`).
        pooled: One threshold for all sources (`dataset`), per level; empty where there is only one.
        table: The rows that were judged and left out, in memory or still in their file.
        warnings: What makes the figures doubtful: leaks, splits used for selection, rows left out.
        notes: Why a figure is undefined or says less than its name.
        provenance: Versions, hashes and settings that identify the run.
    """

    weights: str | None
    model: str | None
    data: str
    split: str
    counts: dict[str, int]
    frame: dict[str, Estimate]
    video: dict[str, Estimate]
    per_method: pd.DataFrame
    operating: list[dict[str, Any]]
    pooled: list[Pooled]
    table: ScoreTable = field(repr=False)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def predictions(self) -> pd.DataFrame:
        """All rows with `p_fake` (`nan` and a reason in `error` where unreadable).

        Those of a file of scores are read again, all at once: of a large one go through `table.batches()`.
        """
        return self.table.whole()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the predictions as plain JSON types, undefined figures as `None`."""
        figures = {"frame": self.frame, "video": self.video}
        return plain(
            {
                **{name: getattr(self, name) for name in ("weights", "model", "data", "split", "counts")},
                **{level: {m: e._asdict() for m, e in values.items()} for level, values in figures.items()},
                "per_method": self.per_method.to_dict("records"),
                "pooled": [one.to_dict() for one in self.pooled],
                **{n: getattr(self, n) for n in ("operating", "warnings", "notes", "provenance")},
            }
        )

    def to_json(self) -> str:
        """`to_dict` as JSON text; undefined figures are `null`."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def save(self, out: str | Path) -> Path:
        """Write `metrics.json` and `predictions.parquet` into a folder; returns the folder."""
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        with atomic_file(out / "metrics.json") as file:
            file.write_text(self.to_json() + "\n", encoding="utf-8")
        self.table.save(out / "predictions.parquet")
        return out

    def summary(self) -> Group:
        """Tables and remarks for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.table import Column, Table
        from rich.text import Text

        c = self.counts
        judged = f"{self.model} ({self.weights})" if self.weights else self.model or "scores"
        title = f"{judged} on {self.data}, split {self.split}"
        rows = (
            f"{c['videos']} videos ({c['real_videos']} real, {c['fake_videos']} fake), "
            f"{c['frames']} face crops ({c['real_frames']} real, {c['fake_frames']} fake)"
        )
        figures = Table("metric", "video", "frame", title="figures with 95 % intervals over videos")
        for name in METRICS:
            figures.add_row(name, str(self.video[name]), str(self.frame[name]))
        rates = Table("threshold", "level", "fakes called fake", "reals called fake", "BACC", "ACC")
        for rate in self.operating:
            tpr, fpr = (
                Estimate(*(rate[f"{name}{edge}"] for edge in ("", "_low", "_high")))
                for name in ("tpr", "fpr")
            )
            shares = (str(Estimate(rate[name])) for name in ("bacc", "acc"))
            rates.add_row(f"{rate['threshold']:.4g}", rate["level"], str(tpr), str(fpr), *shares)
        methods = Table(
            "method",
            "compression",
            "fake videos",
            "real videos",
            Column("video AUC", no_wrap=True),
            "frame AUC",
        )
        for row in self.per_method.to_dict("records"):
            counts = (str(row["fake_videos"]), str(row["real_videos"]))
            video = Estimate(row["video_auc"], row["video_auc_low"], row["video_auc_high"])
            frame = Estimate(row["frame_auc"])
            methods.add_row(row["method"], row["compression"] or "-", *counts, str(video), str(frame))
        pooled = [_one_threshold(one) for one in self.pooled]
        return Group(
            Text(title, style="bold"),
            Text(rows),
            figures,
            rates,
            methods,
            *pooled,
            *remarks(self.notes, self.warnings),
        )


def remarks(notes: Sequence[str], warnings: Sequence[str]) -> list[Text]:
    """The lines below the tables of a result in a terminal."""
    from rich.text import Text

    said = [Text(f"note: {note}", style="dim") for note in notes]
    return said + [Text(f"warning: {warning}", style="yellow") for warning in warnings]


def _one_threshold(pooled: Pooled) -> Table:
    """False alarms and detections of every source at the threshold that the worst of them allows."""
    from rich.table import Table

    table = Table(
        "source", "reals called fake", "method", "fakes caught",
        title=pooled.title,
    )  # fmt: skip
    for row in pooled.rows():
        table.add_row(*row)
    table.add_section()
    table.add_row("all", "", "", pooled.caught_overall)
    return table


def plain(value: Any) -> Any:
    """A value as plain JSON types: no numpy numbers, and `None` for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(entries: dict[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested dictionaries with their names joined by blanks.

    Example:
        >>> list(flat({"versions": {"torch": "2.15"}, "seed": 0}))
        [('versions torch', '2.15'), ('seed', 0)]
    """
    for key, value in entries.items():
        label = f"{name} {key}".strip().replace("_", " ")
        if isinstance(value, dict):
            yield from flat(value, label)
        elif value is not None:
            yield label, value
