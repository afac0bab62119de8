"""Face crops in tar shards (the WebDataset format): for storage that serves large files best.

The folder `shards` is a prepared folder of its own: `manifest.parquet`, and instead of crops tar files of
about equal length whose samples are named by the number of their row. Which crop lies where is mixed, so
that the frames of one video are not read one after the other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sficonv.datasets.manifest import (
    MANIFEST_NAME,
    manifest_file,
    manifest_hash,
    prepared_folder,
    read_manifest,
    read_protocol,
    write_manifest,
)
from sficonv.datasets.source import text_hash
from sficonv.errors import DataError, first_few
from sficonv.extras import require
from sficonv.files import atomic_file, sha256_of

SHARDS_NAME = "shards"
_INDEX_NAME = "shards.json"
_FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """One tar file: its name, split, number of crops, size and hash."""

    file: str
    split: str
    crops: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """What lies in a folder of shards.

    Attributes:
        folder: Where.
        manifest_hash: Of the manifest whose crops they hold.
        shards: The tar files, by split and number.
    """

    folder: Path
    manifest_hash: str
    shards: list[Shard]

    def of_split(self, split: str) -> list[Shard]:
        """The shards of a split, "" for crops without one."""
        return [shard for shard in self.shards if shard.split == split]


def write_shards(data: str | Path, *, shards: int, out: str | Path | None = None) -> Path:
    """Write the crops of a manifest into tar shards.

    The same manifest and crops give the same bytes. An interrupted call leaves no index and is begun again.

    Args:
        data: A prepared folder, or one of its manifests, such as one that `split` wrote.
        shards: Tar files per split; at most one per crop is written. To stream on several devices, take a
            multiple of devices times loader processes.
        out: Folder to write. Default: `shards` in the prepared folder; `shards-NAME` for the manifest
            `manifest-NAME.parquet`.

    Returns:
        The folder; give it as `data` to train.

    Raises:
        DataError: A crop is missing or not the one in the manifest; `out` holds something else.
        MissingPackage: The package webdataset is missing.
        ValueError: `shards` is not positive.

    Example:
        >>> write_shards("prepared/ffpp", shards=16)  # doctest: +SKIP
        PosixPath('prepared/ffpp/shards')
    """
    if shards < 1:
        raise ValueError(f"shards must be at least 1, got {shards}")
    df, root = read_manifest(data), prepared_folder(data)
    suffix = manifest_file(data).stem.removeprefix(Path(MANIFEST_NAME).stem)
    folder = root / f"{SHARDS_NAME}{suffix}" if out is None else Path(out)
    fingerprint = manifest_hash(df)
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MANIFEST_NAME).is_file():
            raise DataError(f"{folder} is not empty and holds no shards; choose another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # First of all: it says whose folder this is, should the rest be interrupted.
    write_manifest(folder, df, protocol=read_protocol(data))
    options = root / "prepare.json"  # how the crops were cut: scans have to cut alike
    if options.is_file():
        shutil.copyfile(options, folder / options.name)
    order = [text_hash(str(path)) for path in df["path"]]
    mixed = df.assign(_order=order).sort_values("_order")
    written: list[Shard] = []
    for split in sorted(set(df["split"])):
        rows = mixed[mixed["split"] == split]
        count = min(shards, len(rows))
        for number in range(count):
            name = f"{split or 'none'}-{number:06d}.tar"
            written.append(_write_shard(folder / name, split, rows.iloc[number::count], root))
    index = {"format": _FORMAT, "manifest_hash": fingerprint, "shards": [vars(shard) for shard in written]}
    with atomic_file(folder / _INDEX_NAME) as temporary:
        temporary.write_text(json.dumps(index, indent=1), encoding="utf-8")
    return folder


def read_index(data: str | Path) -> ShardIndex | None:
    """What lies in a folder of shards; `None` where the folder holds crops as files.

    Raises:
        DataError: The index is damaged, or a shard is missing or has another size than it says.
    """
    folder = prepared_folder(data)
    file = folder / _INDEX_NAME
    if not file.is_file():
        if any(folder.glob("*-[0-9][0-9][0-9][0-9][0-9][0-9].tar")):
            raise DataError(f"{file}: missing: writing the shards was not finished; write them again")
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        shards = [Shard(**entry) for entry in stored["shards"]]
        fingerprint = str(stored["manifest_hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: damaged ({error}); write the shards again") from error
    wrong = [s.file for s in shards if _size(folder / s.file) != s.bytes]
    if wrong:
        raise DataError(f"{folder}: shards are missing or cut off: {first_few(wrong)}; write them again")
    return ShardIndex(folder, fingerprint, shards)


def check_shards(index: ShardIndex) -> list[str]:
    """Names of the shards whose content is not what the index says (every byte is read)."""
    return [s.file for s in index.shards if sha256_of(index.folder / s.file) != s.sha256]


def _write_shard(file: Path, split: str, rows: pd.DataFrame, root: Path) -> Shard:
    require("shards", "webdataset", what="writing shards")
    from webdataset import TarWriter

    with atomic_file(file) as temporary:
        # Names are numbers, and times fixed: the same crops give the same bytes.
        with temporary.open("wb") as stream, TarWriter(stream, encoder=False, mtime=0) as tar:
            for row in rows.itertuples():
                tar.write({"__key__": f"{row.Index:09d}", "png": _read_crop(root, row), "json": _about(row)})
        size, digest = temporary.stat().st_size, sha256_of(temporary)
    return Shard(file.name, split, len(rows), size, digest)


def _read_crop(root: Path, row: Any) -> bytes:
    try:
        content = (root / row.path).read_bytes()
    except OSError as error:
        raise DataError(f"{root / row.path}: this face crop cannot be read ({error})") from error
    if row.sha256 and hashlib.sha256(content).hexdigest() != row.sha256:
        raise DataError(f"{root / row.path}: changed since the manifest was written; prepare the data again")
    return content


def _about(row: Any) -> bytes:
    """What goes with a picture, for whoever reads the shards without this library."""
    keys = (
        "path",
        "label",
        "dataset",
        "method",
        "compression",
        "video_id",
        "source_ids",
        "split",
        "frame",
        "face",
    )
    about = {"row": int(row.Index), **{key: getattr(row, key) for key in keys}, "sha256": row.sha256}
    return json.dumps(about, sort_keys=True).encode()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1
