"""What a robustness suite found: as data, JSON and a table for a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sficonv.estimate import Estimate
from sficonv.evaluation.result import plain, remarks
from sficonv.files import atomic_file
from sficonv.media.corruptions import CORRUPTIONS

if TYPE_CHECKING:
    from rich.console import Group

CLEAN = "clean"


@dataclass(frozen=True)
class JudgedModel:
    """One detector of the suite.

    Args:
        name: What its cells are called by: a letter and the model.
        model: The model's name.
        weights: Its weights file.
        sha256: Of that file.
    """

    name: str
    model: str
    weights: str
    sha256: str


@dataclass(frozen=True)
class RobustnessCell:
    """One detector on one kind of damage at one level.

    Args:
        kind: As in `CORRUPTIONS`, or "clean".
        level: 1 (slight) to 5 (severe), 0 for the clean data.
        strength: The number behind the level, in the unit of the kind; `None` for the clean data.
        model: `JudgedModel.name`.
        auc: Video AUC with its 95 % interval over videos.
    """

    kind: str
    level: int
    strength: float | None
    model: str
    auc: Estimate


@dataclass(frozen=True)
class RobustnessResult:
    """The video AUC of one or two detectors over kinds and levels of damage.

    The intervals are those of each figure alone. Both models are judged on the same videos, so intervals that
    overlap do not show that two models are alike.

    Args:
        models: The detectors.
        data: The prepared folder.
        split: The split, or `"all"`.
        videos: Number of videos.
        frames: Number of crops judged in each cell.
        cells: Clean first, then by kind and level; of each the models in order.
        warnings: What makes the figures doubtful.
        notes: What could not be checked.
        provenance: Versions, hashes and settings that identify the run.
    """

    models: tuple[JudgedModel, ...]
    data: str
    split: str
    videos: int
    frames: int
    cells: tuple[RobustnessCell, ...]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """The kinds of damage, in order."""
        return [kind for kind in dict.fromkeys(cell.kind for cell in self.cells) if kind != CLEAN]

    def rows(self) -> list[tuple[str, int, str, list[Estimate]]]:
        """Kind, level, strength in words and the figure of every model, for tables."""
        found: dict[tuple[str, int], list[RobustnessCell]] = {}
        for cell in self.cells:
            found.setdefault((cell.kind, cell.level), []).append(cell)
        return [
            (kind, level, _strength(cells[0]), [cell.auc for cell in cells])
            for (kind, level), cells in found.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON types, undefined figures as `None`."""
        cells = [{**asdict(cell), "auc": cell.auc._asdict()} for cell in self.cells]
        return plain(
            {**{name: getattr(self, name) for name in _PLAIN}, "models": self._models(), "cells": cells}
        )

    def _models(self) -> list[dict[str, Any]]:
        return [asdict(model) for model in self.models]

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def save(self, out: str | Path) -> Path:
        """Write `robustness.json` into a folder; returns the folder."""
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        with atomic_file(out / "robustness.json") as file:
            file.write_text(self.to_json() + "\n", encoding="utf-8")
        return out

    def summary(self) -> Group:
        """A table and remarks for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.table import Column, Table
        from rich.text import Text

        title = f"video AUC on {self.data}, split {self.split}: {self.videos} videos, {self.frames} crops"
        names = [Column(Text(model.name), no_wrap=True) for model in self.models]
        table = Table("corruption", "level", "strength", *names, title="with 95 % intervals over videos")
        last = CLEAN
        for kind, level, strength, aucs in self.rows():
            if kind != last:
                table.add_section()
            table.add_row(kind, str(level or "-"), strength, *map(str, aucs))
            last = kind
        return Group(Text(title, style="bold"), table, *remarks(self.notes, self.warnings))


_PLAIN = ("data", "split", "videos", "frames", "warnings", "notes", "provenance")


def _strength(cell: RobustnessCell) -> str:
    if cell.strength is None:
        return ""
    unit = CORRUPTIONS[cell.kind].unit.partition(" (")[0]
    return f"{unit} {cell.strength:g}"
