"""The paper's claim, counted: how often a network with SFIConv is above the one it is compared with.

A network stands beside its own vanilla form where the table has that, else beside the best network without
SFIConv. The paper's figures are compared with the paper's own baseline, ours with ours: which network is the
best one may differ between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from sficonv.paper.tables.figures import TableFigures
from sficonv.paper.tables.recipe import Column, Row

Baseline = Literal["the vanilla network", "the best network without SFIConv"]
Figures = Callable[[Row], float | None]


@dataclass(frozen=True)
class Claim:
    """Rows with SFIConv beside their baseline, in one column and by one set of figures.

    Args:
        baseline: What they are compared with.
        gains: AUC above it, in points, one number per row.
    """

    baseline: Baseline
    gains: tuple[float, ...]

    @property
    def above(self) -> int:
        """In how many rows SFIConv is ahead."""
        return sum(gain > 0 for gain in self.gains)

    def __str__(self) -> str:
        return f"{self.above} of {len(self.gains)}, {fmean(self.gains):+.1f}"


def count_claim(rows: Sequence[Row], figure: Figures) -> Claim | None:
    """Compare the rows with SFIConv with their baseline.

    Args:
        rows: Of one table; those without a figure are left out.
        figure: AUC of a row in percent.

    Returns:
        `None` where there is nothing to compare.

    Example:
        >>> from sficonv.paper.tables.recipe import load_table
        >>> str(count_claim(load_table("table3").rows, lambda row: row.paper["c23"][0]))
        '7 of 7, +5.5'
    """
    found = {row.key: (row, value) for row in rows if row.model and (value := figure(row)) is not None}
    with_sfic = [(row, value) for row, value in found.values() if row.model.startswith("sfic_")]
    vanilla = {row.model: value for row, value in found.values() if not row.model.startswith("sfic_")}
    own = [(value, vanilla.get(row.model.removeprefix("sfic_"))) for row, value in with_sfic]
    if pairs := [(value, other) for value, other in own if other is not None]:
        return Claim("the vanilla network", tuple(value - other for value, other in pairs))
    if with_sfic and vanilla:
        best = max(vanilla.values())
        return Claim("the best network without SFIConv", tuple(value - best for _, value in with_sfic))
    return None


def printed(column: Column) -> Figures:
    """The paper's AUC of a row."""
    return lambda row: row.paper.get(column.key, (None, None))[0]


def _ours(table: TableFigures, column: Column) -> Figures:
    found = {cell.row.key: cell.figure("auc") for cell in table.done if cell.column.key == column.key}
    return lambda row: None if (figure := found.get(row.key)) is None else figure.value


def claims(table: TableFigures) -> list[str]:
    """For each column that was run a line of Markdown: our count beside the paper's."""
    lines = []
    for column in table.plan.table.columns:
        found = count_claim(table.plan.table.rows, _ours(table, column))
        if found is None:
            continue
        text = f"- {column.title}: with SFIConv above {found.baseline} in {found} points of AUC"
        paper = count_claim(table.plan.table.rows, printed(column))
        lines.append(f"{text}; in the paper {paper}." if paper else f"{text}.")
    return lines
