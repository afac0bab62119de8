"""`reproduce`: one of the paper's tables, beside the figures of this library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sficonv.evaluation.tables.complexity import complexity_table

TABLES: dict[str, Callable[[], Any]] = {"complexity": complexity_table}
"""Name to the function that reproduces it."""


def reproduce(table: str = "complexity") -> Any:
    """Reproduce one of the paper's tables.

    Args:
        table: "complexity": parameters and FLOPs of Tables II, III and V. Nothing is trained or downloaded.

    Returns:
        The table: the printed figures, ours, and the difference.

    Raises:
        ValueError: If there is no such table.

    Example:
        >>> reproduce("complexity").rows[0].network
        'ResNet26'
    """
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}; there are {', '.join(TABLES)}")
    return TABLES[table]()
