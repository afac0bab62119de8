"""The manifest: one row per face crop, the only thing that training and evaluation read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sficonv.errors import DataError, first_few
from sficonv.files import atomic_file

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
# `prepare` writes more columns, which tables from elsewhere need not have, among them `phash` (16 hexadecimal
# digits, see `near_duplicates.py`) and `official_split` (of the published lists, or empty).

_METADATA = b"sficonv"


@dataclass(frozen=True)
class Protocol:
    """What the split column of a manifest means; it is stored in the Parquet file and travels with it.

    Attributes:
        name: "official", "identity", "paper", "leave-one-out", or how `prepare` came by the splits.
        statement: The rule, in a sentence or two for people.
        leaky: Whether the same footage lies in several splits: by the rule itself, as in the paper, or
            because near duplicates were found in them. Figures on such splits are too good.
        seed: Seed of what was drawn at random; `None` where nothing was.
        drawn_from: `manifest_hash` of the manifest that was split again; "" for one of `prepare`.
    """

    name: str
    statement: str
    leaky: bool = False
    seed: int | None = None
    drawn_from: str = ""

    def __str__(self) -> str:
        return f"{'LEAKY ' if self.leaky else ''}protocol {self.name!r}: {self.statement}"


def write_manifest(
    folder: str | Path, df: pd.DataFrame, *, protocol: Protocol | None = None, name: str = MANIFEST_NAME
) -> Path:
    """Write a manifest into a folder: the old file or the new one is there, never half of one.

    Args:
        folder: An existing folder.
        df: A table with `COLUMNS`; columns beyond those are kept.
        protocol: What the split column means; stored with the table.
        name: File name.

    Returns:
        The file written.

    Raises:
        DataError: Columns are missing or hold values that do not fit.

    Example:
        >>> import tempfile
        >>> write_manifest(tempfile.mkdtemp(), pd.DataFrame(columns=COLUMNS)).name
        'manifest.parquet'
    """
    file = Path(folder) / name
    _check_columns(df.columns, file)
    extra = [name for name in df.columns if name not in COLUMNS]
    try:
        table = pa.Table.from_pandas(df[list(COLUMNS)], schema=SCHEMA, preserve_index=False)
        for column in extra:
            table = table.append_column(column, pa.array(df[column], from_pandas=True))
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise DataError(f"{file}: the table cannot be written: {error}") from error
    _check_values(df, file)
    if protocol is not None:
        stored = json.dumps({"protocol": asdict(protocol)})
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _METADATA: stored})
    with atomic_file(file) as temporary:
        pq.write_table(table, temporary)
    return file


def read_manifest(folder: str | Path) -> pd.DataFrame:
    """Read the manifest of a prepared folder.

    Args:
        folder: The folder that `prepare` wrote, or one of its manifests, such as one that `split` wrote.

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
    file = manifest_file(folder)
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
        raise DataError(f"{file}: a column has an unexpected type ({error})") from error
    for name in table.column_names:
        if name not in COLUMNS:
            known = known.append_column(name, table[name])
    df = known.to_pandas()
    _check_values(df, file)
    return df


def read_protocol(data: str | Path) -> Protocol | None:
    """What the split column of a manifest means, as far as whoever wrote it has said so.

    Args:
        data: A prepared folder, or one of its manifests.

    Returns:
        The protocol, or `None` for a manifest from elsewhere.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> table = pd.DataFrame(columns=COLUMNS)
        >>> _ = write_manifest(folder, table, protocol=Protocol("official", "the published lists"))
        >>> print(read_protocol(folder))
        protocol 'official': the published lists
    """
    try:
        metadata = pq.read_schema(manifest_file(data)).metadata or {}
        stored: dict[str, Any] = json.loads(metadata[_METADATA])["protocol"]
        return Protocol(**stored)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError):
        return None


def manifest_file(data: str | Path) -> Path:
    """The manifest that `data` names: the file itself, or that of a prepared folder."""
    return Path(data) / MANIFEST_NAME if Path(data).is_dir() else Path(data)


def prepared_folder(data: str | Path) -> Path:
    """The folder that the paths of a manifest are relative to."""
    return manifest_file(data).parent


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


def identities(df: pd.DataFrame) -> list[frozenset[str]]:
    """Who is seen in each row: `dataset/id` for every source identity, else the video itself."""
    rows = df[["dataset", "source_ids", "video_id"]].itertuples(index=False, name=None)
    return [
        frozenset(f"{dataset}/{one}" for one in ids.split(",")) if ids else frozenset([video])
        for dataset, ids, video in rows
    ]


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
        raise DataError(f"{file}: split must be train, val, test or empty, not {first_few(wrong)}")
    if df["path"].duplicated().any():
        raise DataError(
            f"{file}: duplicate paths: {first_few(df.loc[df['path'].duplicated(), 'path'].tolist())}"
        )
    for column in ("path", "mask"):  # both name files that are opened
        texts: list[str] = df[column].fillna("").astype(str).tolist() if column in df else []
        outside = [p for p in texts if p.startswith("/") or "\\" in p or ".." in p.split("/")]
        if outside:
            raise DataError(
                f"{file}: every {column} must be a relative path inside the folder, written with /, unlike "
                f"{first_few(outside)}"
            )
