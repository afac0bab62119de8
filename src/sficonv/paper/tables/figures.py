"""A table of the paper beside our figures: the data, and what can be said of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sficonv.paper.tables.plan import Plan
from sficonv.paper.tables.recipe import Column, Row

State = Literal["done", "missing", "failed", "waiting", "not selected"]
Metric = Literal["auc", "bacc"]
Level = Literal["frame", "video"]


@dataclass(frozen=True)
class Figure:
    """One of our figures, in percent.

    Args:
        value: The figure; the mean over seeds.
        low, high: Of one seed: the 95 % interval over videos.
        sd: Of several seeds: their standard deviation.
    """

    value: float
    low: float | None = None
    high: float | None = None
    sd: float | None = None

    @property
    def spread(self) -> str:
        """How sure it is, for people."""
        if self.sd is not None:
            return f"± {self.sd:.2f}"
        return "" if self.low is None or self.high is None else f"[{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class Cell:
    """A network on a test set.

    Args:
        row, column: Of the table.
        state: "done", "missing" (its data is not there), "failed", "waiting" (not run yet) or "not
            selected".
        reason: Why it is missing, or failed.
        runs: For each seed what `run_training` gives.
    """

    row: Row
    column: Column
    state: State
    reason: str = ""
    runs: tuple[dict[str, Any], ...] = ()

    def printed(self, metric: Metric) -> float | None:
        """The paper's figure in percent, if it prints one."""
        return self.row.paper.get(self.column.key, (None, None))[("auc", "bacc").index(metric)]

    def figure(self, metric: Metric, level: Level = "frame") -> Figure | None:
        """Ours; `None` where there is none, or where it is undefined."""
        found = [run[level][metric] for run in self.runs]
        values = [100 * f["value"] for f in found if f["value"] is not None]
        if not values or len(values) < len(found):
            return None
        if len(values) > 1:
            return Figure(statistics.fmean(values), sd=statistics.stdev(values))
        ends = (found[0]["low"], found[0]["high"])
        low, high = (None if end is None else 100 * end for end in ends)
        return Figure(values[0], low, high)

    def difference(self, metric: Metric) -> float | None:
        """Ours less the paper's, in points."""
        printed, ours = self.printed(metric), self.figure(metric)
        return None if printed is None or ours is None else ours.value - printed

    def to_dict(self) -> dict[str, Any]:
        """For programs; figures in percent."""
        found: dict[str, Any] = {
            "row": self.row.key,
            "network": self.row.network,
            "options": self.row.options,
            "column": self.column.key,
            "train": self.column.train.name,
            "test": self.column.test.name,
            "state": self.state,
            "reason": self.reason,
            "reported": self.row.reported,
        }
        metrics: tuple[Metric, ...] = ("auc", "bacc")
        levels: tuple[Level, ...] = ("frame", "video")
        for metric in metrics:
            ours = {level: self.figure(metric, level) for level in levels}
            found[metric] = {
                "paper": self.printed(metric),
                "difference": self.difference(metric),
                **{level: None if figure is None else figure.__dict__ for level, figure in ours.items()},
            }
        return {**found, "runs": list(self.runs)}


@dataclass(frozen=True)
class TableFigures:
    """One of the paper's tables, as printed and as found.

    Args:
        plan: What was to be done.
        cells: All cells of the table, row by row.
        files: Where the table was written.
    """

    plan: Plan
    cells: tuple[Cell, ...]
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether a cell that was to be run could not be."""
        return any(cell.state == "failed" for cell in self.cells)

    @property
    def done(self) -> list[Cell]:
        """The cells with figures."""
        return [cell for cell in self.cells if cell.state == "done"]

    @property
    def machines(self) -> list[str]:
        """Where the trainings were done, and with what versions."""
        found: dict[str, None] = {}
        for cell in self.done:
            for run in cell.runs:
                trained = run["training"]
                machine = {key: v for key, v in trained["machine"].items() if key not in ("date", "torch")}
                words = [f"{key} {value}" for key, value in {**machine, **trained["versions"]}.items()]
                found[", ".join(words)] = None
        return list(found)

    @property
    def warnings(self) -> list[str]:
        """What makes the figures doubtful, each thing once."""
        counts: dict[str, int] = {}
        for cell in self.done:
            for warning in dict.fromkeys(text for run in cell.runs for text in run["warnings"]):
                if not warning.startswith("splits by "):  # the plan states them
                    counts[warning] = counts.get(warning, 0) + 1
        own = [f"{text} ({n} of {len(self.done)} cells)" for text, n in counts.items()]
        return [*self.plan.warnings, *own]

    def to_dict(self) -> dict[str, Any]:
        """The table for programs."""
        return {
            **self.plan.to_dict(),
            "title": self.plan.title,
            "machines": self.machines,
            "warnings": self.warnings,
            "cells": [cell.to_dict() for cell in self.cells],
            "files": {kind: str(file) for kind, file in self.files.items()},
        }
