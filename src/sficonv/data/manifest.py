"""The manifest: one row per face crop, the only thing that training and evaluation read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sficonv.errors import DataError

MANIFEST_NAME = "manifest.parquet"
SPLITS = ("train", "val", "test", "")

SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # POSIX, relative to the folder of the manifest
        ("label", pa.int8()),  # 0 = real, 1 = fake
        ("dataset", pa.string()),
        ("method", pa.string()),  # "real" for real
        ("compression", pa.string()),
        ("video_id", pa.string()),  # unique source video over the whole dataset
        ("source_ids", pa.string()),  # identities, separated by commas
        ("split", pa.string()),  # train, val, test or empty
        ("frame", pa.int32()),
        ("time", pa.float32()),  # seconds
        ("face", pa.int16()),  # 0 = largest of its frame
        ("box", pa.list_(pa.float32(), 4)),  # x0, y0, x1, y1 in pixels of the source frame
        ("landmarks", pa.list_(pa.float32(), 10)),  # five (x, y) in pixels of the crop, NaN if unknown
        ("sha256", pa.string()),  # of the crop file
    ]
)
COLUMNS = tuple(SCHEMA.names)


def write_manifest(folder: str | Path, df: pd.DataFrame) -> Path:
    """Write `manifest.parquet` into a folder: the old file or the new one is there, never half of one.

    Args:
        folder: An existing folder.
        df: A table with `COLUMNS`; columns beyond those are kept.

    Returns:
        The file written.

    Raises:
        DataError: Columns are missing or hold values that do not fit.

    Example:
        >>> import tempfile
        >>> write_manifest(tempfile.mkdtemp(), pd.DataFrame(columns=COLUMNS)).name
        'manifest.parquet'
    """
    file = Path(folder) / MANIFEST_NAME
    _check_columns(df.columns, file)
    extra = [name for name in df.columns if name not in COLUMNS]
    try:
        table = pa.Table.from_pandas(df[list(COLUMNS)], schema=SCHEMA, preserve_index=False)
        for name in extra:
            table = table.append_column(name, pa.array(df[name], from_pandas=True))
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise DataError(f"{file}: the table cannot be written: {error}") from error
    _check_values(df, file)
    with atomic_file(file) as temporary:
        pq.write_table(table, temporary)
    return file


def read_manifest(folder: str | Path) -> pd.DataFrame:
    """Read the manifest of a prepared folder.

    Args:
        folder: The folder that `prepare` wrote, or its `manifest.parquet`.

    Returns:
        A table with `COLUMNS` (and any further ones), one row per crop.

    Raises:
        DataError: No manifest, not a Parquet file, missing columns, or values that make no sense.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = write_manifest(folder, pd.DataFrame(columns=COLUMNS))
        >>> len(read_manifest(folder))
        0
    """
    file = Path(folder)
    if file.is_dir():
        file = file / MANIFEST_NAME
    if not file.is_file():
        raise DataError(
            f"{file}: no such file; prepare the data first: sficonv prepare SOURCE --out {folder}"
        )
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file}: not a readable Parquet file ({error}); prepare the data again") from error
    _check_columns(table.column_names, file)
    try:
        known = table.select(list(COLUMNS)).cast(SCHEMA)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{file}: a column has another type than expected ({error})") from error
    for name in table.column_names:
        if name not in COLUMNS:
            known = known.append_column(name, table[name])
    df = known.to_pandas()
    _check_values(df, file)
    return df


def manifest_hash(df: pd.DataFrame) -> str:
    """A fingerprint of a manifest's content, whatever the order of its rows and columns.

    Args:
        df: A table with `COLUMNS`; further columns do not count.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> len(manifest_hash(pd.DataFrame(columns=COLUMNS)))
        64
    """
    texts = ["path", "dataset", "method", "compression", "video_id", "source_ids", "split", "sha256"]
    numbers = ["label", "frame", "face"]
    floats = ["time", "box", "landmarks"]
    rows = []
    for row in df[texts + numbers + floats].itertuples(index=False, name=None):
        words = [*map(str, row[: len(texts)]), *(str(int(x)) for x in row[len(texts) : -len(floats)])]
        words += [np.asarray(x, np.float32).tobytes().hex() for x in row[-len(floats) :]]
        rows.append("\t".join(words))
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def check_manifest(df: pd.DataFrame) -> list[str]:
    """Look for leaks between splits and for splits that cannot be used.

    Args:
        df: A manifest, or several concatenated.

    Returns:
        Findings in plain words; empty if there are none.

    Example:
        >>> check_manifest(pd.DataFrame(columns=COLUMNS))
        []
    """
    findings: list[str] = []
    named = df[df["split"] != ""]
    crossing = _values_in_several_splits(named["video_id"], named["split"])
    if crossing:
        findings.append(f"{len(crossing)} videos are in more than one split: {_some(crossing)}")
    ids = named[["dataset", "source_ids", "split"]].drop_duplicates()
    ids = ids.assign(one=ids["source_ids"].str.split(",")).explode("one")
    ids = ids[ids["one"].fillna("") != ""]
    people = ids["dataset"] + "/" + ids["one"]  # person 134 of two datasets is two people
    crossing = _values_in_several_splits(people, ids["split"])
    if crossing:
        findings.append(
            f"{len(crossing)} source identities are in more than one split: {_some(crossing)}; "
            "figures on these splits are too good"
        )
    copies = df[df.duplicated("sha256", keep=False)].groupby("sha256")
    if len(copies):
        across_splits = copies["split"].nunique() > 1
        across_labels = copies["label"].nunique() > 1
        first = copies["path"].first()
        if across_splits.any():
            paths = first[across_splits].tolist()
            findings.append(f"{len(paths)} identical crops are in more than one split: {_some(paths)}")
        if across_labels.any():
            paths = first[across_labels].tolist()
            findings.append(f"{len(paths)} identical crops are both real and fake: {_some(paths)}")
    for split, labels in named.groupby("split")["label"]:
        if labels.nunique() == 1:
            missing = "fake" if labels.iloc[0] == 0 else "real"
            findings.append(f"split {split!r} has no {missing} crops: AUC is undefined there")
    return findings


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that takes its place when the block ends without an error."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_columns(columns: Iterable[str], file: Path) -> None:
    missing = [name for name in COLUMNS if name not in set(columns)]
    if missing:
        raise DataError(f"{file}: columns are missing: {', '.join(missing)}")


def _check_values(df: pd.DataFrame, file: Path) -> None:
    required = [name for name in COLUMNS if name not in ("box", "landmarks")]
    empty = [name for name in required if df[name].isna().any() and name != "time"]
    if empty:
        raise DataError(f"{file}: empty cells in {', '.join(empty)}")
    if not df["label"].isin([0, 1]).all():
        raise DataError(f"{file}: label must be 0 (real) or 1 (fake)")
    if wrong := sorted(set(df["split"]) - set(SPLITS)):
        raise DataError(f"{file}: split must be train, val, test or empty, not {_some(wrong)}")
    if df["path"].duplicated().any():
        raise DataError(
            f"{file}: paths occur twice: {_some(df.loc[df['path'].duplicated(), 'path'].tolist())}"
        )
    outside = [p for p in df["path"] if p.startswith("/") or "\\" in p or ".." in p.split("/")]
    if outside:
        raise DataError(f"{file}: paths must be relative, with /, inside the folder: {_some(outside)}")


def _values_in_several_splits(values: pd.Series, splits: pd.Series) -> list[str]:
    counts = splits.groupby(values).nunique()
    return sorted(counts.index[counts > 1].tolist())


def _some(values: list[str], most: int = 3) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more
