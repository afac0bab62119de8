"""Where a measuring script puts its figures: rows into `measured/`, a table between marks of a document."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

MEASURED = Path(__file__).parent / "measured"


def keep_rows(name: str, rows: pd.DataFrame | Iterable[dict[str, Any]]) -> None:
    """Write what was measured, a row each, before anything is averaged: `measured/NAME.csv`."""
    pd.DataFrame(rows).to_csv(MEASURED / f"{name}.csv", index=False, float_format="%.6g")


def write_between(document: Path, marks: tuple[str, str], lines: list[str]) -> None:
    """Replace what stands between two marks of a document."""
    text = document.read_text(encoding="utf-8") if document.is_file() else "\n".join(marks)
    before, _, rest = text.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    document.write_text(
        before + "\n".join([marks[0], *lines]).rstrip() + "\n" + marks[1] + after, encoding="utf-8"
    )
