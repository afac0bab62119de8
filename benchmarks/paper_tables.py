"""Four of the paper's tables on small real data: trains every cell, and writes
benchmarks/measured/small_budgets.md.

    python benchmarks/paper_tables.py PREPARED --out runs/tables

PREPARED holds the prepared folders `ffpp` and `celebdf` (README of this folder: how they are made). It can be
interrupted, run again with more seeds, and for some of the tables only. Everything is done by
`sficonv reproduce`; this script chooses the budget and counts how often the paper's claim holds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from document import write_between
from sficonv import reproduce
from sficonv.paper.tables.claim import claims
from sficonv.paper.tables.options import ReproduceOptions
from sficonv.paper.tables.render import markdown

BUDGET: dict[str, Any] = {
    "protocol": "identity",
    "fractions": (0.5, 0.2, 0.3),
    "epochs": 1,
    "batch_size": 16,
    "lr": 1e-3,
    "frames": 4,
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


def main() -> None:
    """Reproduce the tables one by one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--document", type=Path, default=Path("benchmarks/measured/small_budgets.md"))
    parser.add_argument("--tables", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--seeds", default="7")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--dry-run", action="store_true", help="show the plans and stop")
    args = parser.parse_args()
    for name in args.tables:
        options = ReproduceOptions(
            **BUDGET, seeds=args.seeds, steps_per_epoch=args.steps, image_size=args.image_size
        )
        answer = reproduce(
            name,
            options,
            data=args.prepared,
            out=args.out,
            cells=CELLS[name],
            skip_missing=True,
            dry_run=args.dry_run,
        )
        if args.dry_run:
            from rich.console import Console

            Console().print(answer.summary())
            continue
        write_between(args.document, marks(name), [markdown(answer, level=3).rstrip(), "", *claims(answer)])


if __name__ == "__main__":
    main()
