"""What a comparison of attention found, as data, as JSON and as a table for a terminal."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sficonv.estimate import Estimate
from sficonv.files import atomic_file

if TYPE_CHECKING:
    from rich.console import Group

SHORT = {
    "p_fake": "P(fake)",
    "area_above_half": "area > 1/2",
    "entropy": "entropy",
    "centre_x": "centre x",
    "centre_y": "centre y",
    "inside_mask": "inside mask",
    "mask_area": "mask area",
}


@dataclass(frozen=True)
class AttentionReport:
    """Where detectors look in fakes.

    Args:
        labels: Name of the detector, and of the one it is compared with.
        weights: Their files.
        data: The prepared folder.
        split: The split the fakes are of, or "all".
        self_blend: Whether the fakes were made of its real faces.
        seed: What was drawn.
        images: Paths of the crops, in the order drawn: an average over n takes the first n.
        footage: How many different people's footage they show.
        numbers: One row for each figure: `map` ("FAM", "Grad-CAM", "AFAM", or "score" for P(fake)),
            `average_of` (fakes in one map), `number` (see `attention_numbers`), `fakes` (how many count),
            `value`, `low`, `high`, and with a second detector the same as `against_...` and, the first minus
            the second, `difference_...`. Of FAM, Grad-CAM and the score the limits are 95 % bootstrap
            intervals of the mean over footage. Of AFAM they hold the middle 95 % of the averages of
            equally many other fakes.
        figure: The picture.
        notes: What makes the figures doubtful.
        provenance: Hashes and settings that identify the run.
    """

    labels: list[str]
    weights: list[str]
    data: str
    split: str
    self_blend: bool
    seed: int
    images: list[str]
    footage: int
    numbers: pd.DataFrame
    figure: Path
    notes: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types, undefined figures as `None`."""
        records = [
            {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row}
            for row in (record.items() for record in self.numbers.to_dict("records"))
        ]
        return {**asdict(self), "numbers": records, "figure": str(self.figure)}

    def save(self, path: Path) -> None:
        """Write `to_dict` as JSON."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        with atomic_file(path) as file:
            file.write_text(text, encoding="utf-8")

    def get(self, kind: str, number: str, average_of: int = 1, column: str = "") -> Estimate:
        """One figure with its limits.

        Args:
            kind: A value of the column `map`.
            number: A value of the column `number`.
            average_of: How many fakes share a map.
            column: "", "against" or "difference".

        Raises:
            KeyError: If there is no such figure.
        """
        n = self.numbers
        rows = n[(n["map"] == kind) & (n["number"] == number) & (n["average_of"] == average_of)]
        prefix = f"{column}_" if column else ""
        if rows.empty or f"{prefix}value" not in rows.columns:
            raise KeyError((kind, number, average_of, column))
        return Estimate(*(float(rows.iloc[0][f"{prefix}{part}"]) for part in Estimate._fields))

    def summary(self) -> Group:
        """Table and remarks for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        made = "self-blended faces" if self.self_blend else "fakes"
        about = (
            f"{len(self.images)} {made} of {self.footage} people's footage, {self.data}, split {self.split}"
        )
        columns = ("", "against", "difference") if len(self.labels) > 1 else ("",)
        table = Table(
            "", *map(escape, [*self.labels, "difference"][: len(columns)]), box=None, pad_edge=False
        )
        shown = ""
        for row in self.numbers.to_dict("records"):
            kind, of, number = row["map"], int(row["average_of"]), row["number"]
            title = f"{kind} of {of}" if kind == "AFAM" else f"{kind} ({row['fakes']})"
            if title != shown:
                table.add_row(Text(title, style="bold"))
                shown = title
            table.add_row(SHORT[number], *(str(self.get(kind, number, of, column)) for column in columns))
        limits = Text(
            "limits: of means (over so many fakes) 95 % bootstrap intervals over footage, of AFAM the "
            "middle 95 % of averages over other fakes",
            style="dim",
        )
        notes = [Text(f"note: {note}", style="dim") for note in self.notes]
        return Group(Text(about, style="bold"), table, limits, *notes, Text(f"figure: {self.figure}"))
