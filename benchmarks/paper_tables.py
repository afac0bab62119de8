"""Four of the paper's tables on small real data: trains every cell, and writes docs/results.md.

    python benchmarks/paper_tables.py PREPARED --out runs/tables

PREPARED holds the prepared folders `ffpp` and `celebdf` (README of this folder: how they are made). It can be
interrupted, run again with more seeds, and for some of the tables only. Everything is done by
`sficonv reproduce`; this script chooses the budget and counts how often the paper's claim holds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

from document import write_between
from sficonv import reproduce
from sficonv.paper.tables.render import markdown
from sficonv.paper.tables.result import Cell, TableResult

BUDGET: dict[str, Any] = {
    "protocol": "identity",
    "fractions": (0.5, 0.2, 0.3),
    "epochs": 1,
    "batch_size": 16,
    "lr": 1e-3,
    "frames": 4,
    "skip_missing": True,
}
CELLS = {
    "table2": None,
    "table3": None,
    "table4": None,
    "table6": "c23-c40,c40-c23,c23-celebdf,c40-celebdf",
}


def marks(name: str) -> tuple[str, str]:
    """What stands around the block of a table."""
    return f"<!-- {name}: written by benchmarks/paper_tables.py -->", f"<!-- end of {name} -->"


def claim(table: TableResult) -> list[str]:
    """For each column, how often a network with SFIConv is above the vanilla one, or above the others."""
    lines = []
    for column in table.plan.table.columns:
        cells = [cell for cell in table.done if cell.column.key == column.key]
        for kind, base in (("the vanilla network", _vanilla), ("the best network without SFIConv", _best)):
            pairs = [(cell, other) for cell in cells if (other := base(cell, cells)) is not None]
            if not pairs:
                continue
            found = [_auc(cell) - _auc(other) for cell, other in pairs]
            printed = [
                a - b
                for cell, other in pairs
                if (a := cell.printed("auc")) is not None and (b := other.printed("auc")) is not None
            ]
            text = (
                f"- {column.title}: with SFIConv above {kind} in {sum(d > 0 for d in found)} of {len(found)} "
                f"rows, AUC {fmean(found):+.1f} points on average"
            )
            if printed:
                text += (
                    f"; in the paper {sum(d > 0 for d in printed)} of {len(printed)}, {fmean(printed):+.1f}"
                )
            lines.append(text + ".")
            break
    return lines


def _auc(cell: Cell) -> float:
    figure = cell.figure("auc")
    assert figure is not None, "a test set has both labels"
    return figure.value


def _vanilla(cell: Cell, cells: list[Cell]) -> Cell | None:
    name = cell.row.model.removeprefix("sfic_")
    if name == cell.row.model:
        return None
    return next((other for other in cells if other.row.model == name), None)


def _best(cell: Cell, cells: list[Cell]) -> Cell | None:
    others = [other for other in cells if not other.row.model.startswith("sfic_")]
    if not cell.row.model.startswith("sfic_") or not others:
        return None
    return max(others, key=_auc)


def main() -> None:
    """Reproduce the tables one by one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--document", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--tables", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--seeds", default="7")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--dry-run", action="store_true", help="show the plans and stop")
    args = parser.parse_args()
    for name in args.tables:
        options = {
            **BUDGET,
            "data": args.prepared,
            "out": args.out,
            "cells": CELLS[name],
            "seeds": args.seeds,
            "steps_per_epoch": args.steps,
            "image_size": args.image_size,
        }
        answer = reproduce(name, **options, dry_run=args.dry_run)
        if args.dry_run:
            from rich.console import Console

            Console().print(answer.summary())
            continue
        write_between(args.document, marks(name), [markdown(answer, level=3).rstrip(), "", *claim(answer)])


if __name__ == "__main__":
    main()
