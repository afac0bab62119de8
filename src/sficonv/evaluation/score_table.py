"""Rows of scores that are gone through in batches, from a table in memory or from a file of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sficonv.errors import DataError
from sficonv.files import atomic_file

BATCH = 2**18
"""Rows that are in memory at once as a table, with their texts."""
VIDEO_KEYS = ("video_id", "method", "compression", "dataset")
"""Columns that tell videos apart."""
ROW_KEYS = ("path", "frame", "face")
"""Columns that tell the crops of a table apart."""

_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("path", "dataset", "method", "compression", "video_id")),
        ("frame", pa.float64()),
        ("face", pa.float64()),
        ("label", pa.int8()),
        ("p_fake", pa.float64()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores: `label` and `p_fake`, and whatever of the other known columns it has.

    Args:
        name: What to call it in messages.
        columns: The known columns that it has.
        batches: Goes through the rows from the start, at most `BATCH` at a time.
        whole: Gives all rows as one table; where they are in memory, with all of its columns.
        in_memory: Whether they are.
    """

    name: str
    columns: tuple[str, ...]
    batches: Callable[[], Iterator[pd.DataFrame]]
    whole: Callable[[], pd.DataFrame]
    in_memory: bool = False

    def save(self, file: Path) -> None:
        """Write the rows to a Parquet file, those of a file batch by batch and its known columns only."""
        if self.in_memory:
            with atomic_file(file) as temporary:
                self.whole().to_parquet(temporary, index=False)
            return
        schema = pa.schema([field for field in _SCHEMA if field.name in self.columns])
        with atomic_file(file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for batch in self.batches():
                batch = batch[schema.names]
                writer.write_table(pa.Table.from_pandas(batch, schema=schema, preserve_index=False))


def table_in_memory(df: pd.DataFrame, name: str = "scores") -> ScoreTable:
    """A table of scores that is there already.

    Args:
        df: At least `label` and `p_fake`.
        name: What to call it in messages.

    Raises:
        DataError: If a column is missing.
    """
    df = df.reset_index(drop=True)
    columns = _known(list(df.columns), name)

    def batches() -> Iterator[pd.DataFrame]:
        for start in range(0, len(df), BATCH):
            yield df.iloc[start : start + BATCH][list(columns)]

    return ScoreTable(name, columns, batches, lambda: df, in_memory=True)


def score_file(path: str | Path, *, real_label: int = 0) -> ScoreTable:
    """A file of scores, read in batches.

    Args:
        path: A CSV or Parquet file with `label` and `p_fake`, or a folder that `evaluate(out=...)` wrote.
        real_label: Which label, 0 or 1, means real in this file.

    Raises:
        DataError: If it is missing, of another kind, unreadable, or lacks a column. What is wrong further
            down in the file is raised where it is read.

    Example:
        >>> score_file("run/test").columns                 # doctest: +SKIP
        ('label', 'p_fake', 'video_id', 'method', 'path')
    """
    if real_label not in (0, 1):
        raise ValueError(f"real_label must be 0 or 1, got {real_label}")
    file = Path(path)
    if file.is_dir():
        file = file / "predictions.parquet"
    if not file.is_file():
        raise DataError(f"{file}: no such file of scores")
    if file.suffix.lower() not in _READERS:
        raise DataError(f"{file}: scores must be a .csv or .parquet file")
    names, read = _READERS[file.suffix.lower()]
    try:
        there = names(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file}: not a readable table ({_first_line(error)})") from error
    columns = _known(there, str(file))

    def batches() -> Iterator[pd.DataFrame]:
        try:
            for batch in read(file, list(columns)):
                label = numbers(batch["label"], str(file))
                changed: dict[str, Any] = {"label": 1 - label if real_label else label}
                yield batch.assign(**changed, p_fake=numbers(batch["p_fake"], str(file)))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{file}: not a readable table ({_first_line(error)})") from error

    def whole() -> pd.DataFrame:
        parts = list(batches())
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))

    return ScoreTable(str(file), columns, batches, whole)


def numbers(column: pd.Series, table: str) -> pd.Series:
    """A column as floating-point numbers, `nan` where it is empty; `DataError` where it holds text."""
    try:
        return pd.to_numeric(column).astype(float)
    except (TypeError, ValueError) as error:
        raise DataError(f"{table}: column {column.name} must hold numbers ({error})") from error


def has_text(column: pd.Series) -> pd.Series:
    """Where a column is not empty."""
    return column.notna() & (column.astype(str) != "")


def _known(there: list[Any], name: str) -> tuple[str, ...]:
    if missing := {"label", "p_fake"} - set(there):
        have = ", ".join(map(str, there))
        raise DataError(f"{name}: no column {' and '.join(sorted(missing))}; it has {have}")
    return tuple(column for column in _SCHEMA.names if column in set(there))


def _csv_names(file: Path) -> list[str]:
    names = list(pd.read_csv(file, nrows=0).columns)
    for separator, words in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in str(names[0]):
            raise DataError(f"{file}: its columns are separated by {words}; save it with commas between them")
    return names


def _csv_batches(file: Path, columns: list[str]) -> Iterator[pd.DataFrame]:
    texts = {field.name: "string" for field in _SCHEMA if pa.types.is_string(field.type)}  # 000 is no number
    with pd.read_csv(file, usecols=columns, dtype=texts, chunksize=BATCH) as reader:
        yield from reader


def _parquet_names(file: Path) -> list[str]:
    return list(pq.read_schema(file).names)


def _parquet_batches(file: Path, columns: list[str]) -> Iterator[pd.DataFrame]:
    # Neither buffered ahead nor mapped: both would keep more of the file in memory than a batch.
    with pq.ParquetFile(file, pre_buffer=False) as parquet:
        for batch in parquet.iter_batches(BATCH, columns=columns):
            yield batch.to_pandas()


_READERS: dict[str, tuple[Callable[..., list[str]], Callable[..., Iterator[pd.DataFrame]]]] = {
    ".csv": (_csv_names, _csv_batches),
    ".parquet": (_parquet_names, _parquet_batches),
}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
