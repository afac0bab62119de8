"""The paper's tables of detection results, read from YAML: networks, data sets and printed figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

TABLE_NAMES = tuple(f"table{number}" for number in range(2, 10))


@dataclass(frozen=True)
class DataSet:
    """Crops that are trained or tested on.

    Args:
        name: As the tables call it.
        folder: Name of the prepared folder; of several parts, their names.
        compression: The only one used; "" for all.
        methods: The manipulations used; empty for all.
        tested_only: Never trained on.
        parts: The data sets that this one is put together from; each is split by itself.
    """

    name: str
    folder: str
    compression: str = ""
    methods: tuple[str, ...] = ()
    tested_only: bool = False
    parts: tuple[DataSet, ...] = ()


@dataclass(frozen=True)
class Column:
    """What a network is trained and tested on.

    Args:
        key: Short name, for `--cells`.
        title: As the paper says it.
        train, test: The data sets.
        extra: Not in the paper; run only where it is selected.
    """

    key: str
    title: str
    train: DataSet
    test: DataSet
    extra: bool = False


@dataclass(frozen=True)
class Row:
    """A network.

    Args:
        network: As the paper calls it.
        model: As `create_model` calls it.
        options: Its options.
        paper: For each column that is in the paper, AUC and BACC in percent as printed; `None` where it
            prints none.
        reported: Where the paper took its figures from; "" for those that it measured.
        recipe: What its training does otherwise than the others', by the names of `Recipe`.
    """

    network: str
    model: str
    options: dict[str, Any]
    paper: dict[str, tuple[float | None, float | None]]
    reported: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Short name, for `--cells` and for folders."""
        return "-".join([self.model, *(f"{k}{v}" for k, v in self.options.items())])


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper, see `load_table`."""

    name: str
    number: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    def cells(self, patterns: tuple[str, ...] = ()) -> list[tuple[Row, Column]]:
        """The cells that match a pattern, row by row; all of the paper's without patterns.

        Args:
            patterns: Shell patterns for the key of a row, of a column, or of both with a slash between.

        Raises:
            ValueError: A pattern matches nothing.

        Example:
            >>> [(row.key, column.key) for row, column in load_table("table3").cells(("vgg13/*",))]
            [('vgg13', 'c23'), ('vgg13', 'c40')]
        """
        pairs = [(row, column) for row in self.rows for column in self.columns]
        if not patterns:
            return [(row, column) for row, column in pairs if not column.extra]
        for pattern in patterns:
            if not any(_matches(row, column, pattern) for row, column in pairs):
                keys = sorted({row.key for row in self.rows}) + [column.key for column in self.columns]
                raise ValueError(f"{self.name} has no cell {pattern!r}; there are {', '.join(keys)}")
        return [cell for cell in pairs if any(_matches(*cell, pattern) for pattern in patterns)]


def load_table(name: str) -> PaperTable:
    """Read one of the paper's tables.

    Args:
        name: One of `TABLE_NAMES`.

    Raises:
        ValueError: There is no such table, or its file is wrong.

    Example:
        >>> table = load_table("table3")
        >>> table.rows[2].network, table.rows[2].paper["c23"]
        ('ResNet26', (87.66, 81.33))
    """
    if name not in TABLE_NAMES:
        raise ValueError(f"unknown table {name!r}; there are {', '.join(TABLE_NAMES)}")
    given = _read(f"{name}.yaml")
    try:
        columns = tuple(_column(entry) for entry in given["columns"])
        rows = tuple(_row(entry, columns) for entry in given["rows"])
        table = PaperTable(
            name, given["table"], given["title"], columns, rows, tuple(given.get("remarks", ()))
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name}.yaml: an entry is missing or of the wrong kind ({error})") from error
    keys = [row.key for row in rows] + [column.key for column in columns]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{name}.yaml: rows or columns repeat: {', '.join(keys)}")
    return table


@cache
def data_sets() -> dict[str, DataSet]:
    """The data sets of the tables by name."""
    found: dict[str, DataSet] = {}
    for name, entry in _read("sets.yaml").items():
        if "parts" in entry:
            parts = tuple(found[part] for part in entry["parts"])
            found[name] = DataSet(name, " and ".join(part.folder for part in parts), parts=parts)
        else:
            found[name] = DataSet(name, **{**entry, "methods": tuple(entry.get("methods", ()))})
    return found


def _matches(row: Row, column: Column, pattern: str) -> bool:
    if "/" in pattern:
        return fnmatchcase(f"{row.key}/{column.key}", pattern)
    return fnmatchcase(column.key, pattern) or (not column.extra and fnmatchcase(row.key, pattern))


def _read(file: str) -> Any:
    return yaml.safe_load((files("sficonv.paper.tables") / "recipes" / file).read_text(encoding="utf-8"))


def _column(entry: dict[str, Any]) -> Column:
    sets = {side: data_sets()[entry[side]] for side in ("train", "test")}
    if sets["train"].tested_only:
        raise ValueError(f"column {entry['key']}: {entry['train']} is only tested on")
    return Column(**{**entry, **sets})


def _row(entry: dict[str, Any], columns: tuple[Column, ...]) -> Row:
    printed = [column.key for column in columns if not column.extra]
    if len(entry["paper"]) != len(printed):
        raise ValueError(
            f"row {entry['network']}: {len(entry['paper'])} pairs of figures, not {len(printed)}"
        )
    paper = {key: (auc, bacc) for key, (auc, bacc) in zip(printed, entry["paper"], strict=True)}
    more = {name: entry[name] for name in ("reported", "recipe") if name in entry}
    return Row(entry["network"], entry["model"], entry.get("options", {}), paper, **more)
