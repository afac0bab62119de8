"""How stable a verdict is: how often a harmless edit of a face changes it, or makes a real one "fake"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sficonv.datasets.crops import read_crop, to_tensor
from sficonv.datasets.manifest import prepared_folder
from sficonv.errors import DataError, SficonvError
from sficonv.evaluation.metrics import share_in_words, share_interval
from sficonv.evaluation.result import remarks
from sficonv.evaluation.robustness_scores import NamedDetector
from sficonv.media.edits import EDITS, edit

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class EditEffect:
    """What one edit does to the verdicts on real or on fake videos.

    Args:
        edit: As in `EDITS`.
        label: 0 = real, 1 = fake.
        items: Number of videos and photographs.
        changed: How many have another verdict than without the edit.
        called_fake: How many are called fake after it.
        called_fake_before: How many were called fake without it.
    """

    edit: str
    label: int
    items: int
    changed: int
    called_fake: int
    called_fake_before: int

    def entry(self) -> dict[str, Any]:
        """The entry of a model card: shares, and Wilson's interval of the one that changed."""
        interval = share_interval(self.changed, self.items, "wilson")
        return {
            "items": self.items,
            "changed": round(self.changed / self.items, 4),
            "changed_95": [round(edge, 4) for edge in interval],
            "called_fake": round(self.called_fake / self.items, 4),
            "called_fake_before": round(self.called_fake_before / self.items, 4),
        }


@dataclass(frozen=True)
class BenignResult:
    """The effects of all edits on one detector.

    Args:
        model: Its name.
        data: The prepared folder.
        split: The split, or `"all"`.
        effects: One per edit and label.
        warnings: What was left out.
    """

    model: str
    data: str
    split: str
    effects: tuple[EditEffect, ...]
    warnings: list[str] = field(default_factory=list)

    def entry(self) -> dict[str, dict[str, Any]]:
        """The entry `benign` of a model card: what edits do to the verdicts on real faces."""
        return {effect.edit: effect.entry() for effect in self.effects if effect.label == 0}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        effects = [{"edit": e.edit, "label": ("real", "fake")[e.label], **e.entry()} for e in self.effects]
        about = {name: getattr(self, name) for name in ("model", "data", "split", "warnings")}
        return {**about, "effects": effects}

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def summary(self) -> Group:
        """A table for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.table import Table

        table = Table("edit", "faces", "verdict changed [95 %]", "called fake", "without the edit",
                      title=f"verdicts of {self.model} on {self.data}, split {self.split}")  # fmt: skip
        for e in self.effects:
            before, after = (f"{n / e.items:.1%}" for n in (e.called_fake_before, e.called_fake))
            changed = share_in_words(e.changed, e.items)
            table.add_row(e.edit, ("real", "fake")[e.label], changed, after, before)
        return Group(table, *remarks([], self.warnings))


def judge_edits(
    detector: NamedDetector, rows: pd.DataFrame, data: str | Path, *, split: str, batch_size: int = 32
) -> BenignResult:
    """Edit each crop in every way of `EDITS` and count how many verdicts change.

    A video has the mean score of its crops. The crops are edited, not the pictures they were cut from, so the
    face search plays no part.

    Args:
        detector: The detector, with the calibration of its card.
        rows: Manifest rows.
        data: The prepared folder.
        split: Which rows they are, for the result.
        batch_size: Crops per forward pass.

    Raises:
        DataError: If no crop can be read.
    """
    scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ("", *EDITS)}
    kept: list[int] = []
    warnings: list[str] = []
    for numbers, crops in _batches(rows, data, batch_size, warnings):
        kept += numbers
        for name, parts in scores.items():
            images = [to_tensor(edit(crop, name) if name else crop) for crop in crops]
            parts.append(detector(images))
    if not kept:
        raise DataError(f"{data}: nothing to judge ({'; '.join(warnings) or 'no rows'})")
    read = rows.iloc[kept]
    videos = pd.DataFrame({name: np.concatenate(parts) for name, parts in scores.items()}, index=read.index)
    videos = videos.groupby([read["label"], read["video_id"]]).mean()
    verdicts = videos.apply(lambda column: column.map(detector.calibration.verdict))
    effects = []
    for name in EDITS:
        for label, part in verdicts.groupby(level="label"):
            before, after = part[""], part[name]
            counts = (before != after).sum(), (after == "fake").sum(), (before == "fake").sum()
            effects.append(EditEffect(name, int(label), len(part), *map(int, counts)))
    if warnings:
        warnings[:] = [f"{len(warnings)} crops were left out, the first: {warnings[0]}"]
    return BenignResult(detector.name, str(data), split, tuple(effects), warnings)


def _batches(
    rows: pd.DataFrame, data: str | Path, size: int, unreadable: list[str]
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    root = prepared_folder(data)
    numbers: list[int] = []
    crops: list[np.ndarray] = []
    for number, path in enumerate(rows["path"]):
        try:
            crops.append(read_crop(root / path))
        except (SficonvError, OSError) as error:
            unreadable.append(str(error))
            continue
        numbers.append(number)
        if len(numbers) == size:
            yield numbers, crops
            numbers, crops = [], []
    if numbers:
        yield numbers, crops
