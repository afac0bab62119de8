"""The manifest on disk, its protocol and its fingerprint."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from sficonv.datasets import manifest as manifest_module
from sficonv.datasets.manifest import (
    COLUMNS,
    Protocol,
    manifest_hash,
    read_manifest,
    read_protocol,
    write_manifest,
)
from sficonv.errors import DataError


def test_round_trip(tmp_path: Path, df: pd.DataFrame) -> None:
    assert write_manifest(tmp_path, df) == tmp_path / "manifest.parquet"
    back = read_manifest(tmp_path)
    assert tuple(back.columns) == COLUMNS
    assert back["label"].dtype == np.int8 and back["frame"].dtype == np.int32
    assert back["time"].dtype == np.float32 and np.isnan(back["time"][2])
    assert np.asarray(back["landmarks"][1]) == pytest.approx(np.arange(10) / 3)
    assert np.isnan(np.asarray(back["landmarks"][2], np.float32)).all()
    assert back["path"].tolist() == df["path"].tolist()
    assert read_manifest(tmp_path / "manifest.parquet").equals(back)
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.parquet"]


def test_further_columns_are_kept(tmp_path: Path, df: pd.DataFrame) -> None:
    write_manifest(tmp_path, df.assign(p_fake=0.25))
    assert read_manifest(tmp_path)["p_fake"].tolist() == [0.25] * 4


def test_the_hash_is_of_the_content(tmp_path: Path, df: pd.DataFrame) -> None:
    reference = manifest_hash(df)
    write_manifest(tmp_path, df)
    assert manifest_hash(read_manifest(tmp_path)) == reference
    assert manifest_hash(df.iloc[::-1][list(COLUMNS)[::-1]]) == reference
    assert manifest_hash(df.assign(note="x")) == reference
    changes = {"label": 0, "split": "val", "sha256": "0", "time": 9.0, "source_ids": "x", "frame": 7}
    for column, value in changes.items():
        changed = df.copy()
        changed.loc[3, column] = value
        assert manifest_hash(changed) != reference, column
    changed = df.copy()
    changed.at[3, "landmarks"] = [0.0] * 10
    assert manifest_hash(changed) != reference


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 2}, "label must be 0"),
        ({"split": "dev"}, "split must be"),
        ({"path": "crops/0.png"}, "duplicate paths"),
        ({"path": "../secret.png"}, "inside the folder"),
        ({"path": "/etc/passwd"}, "inside the folder"),
        ({"mask": "../secret.png"}, "every mask must be a relative path inside"),
        ({"mask": "/etc/passwd"}, "every mask must be a relative path inside"),
        ({"path": "crops\\1.png"}, "inside the folder"),
        ({"video_id": None}, "empty cells in video_id"),
        ({"box": [1.0]}, "cannot be written"),
        ({"frame": "many"}, "cannot be written"),
    ],
)
def test_values_that_make_no_sense(
    tmp_path: Path, df: pd.DataFrame, changes: dict[str, object], message: str, crop_row
) -> None:
    bad = pd.DataFrame([*df.to_dict("records"), crop_row(9, **changes)])
    with pytest.raises(DataError, match=message):
        write_manifest(tmp_path, bad)
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_manifest(tmp_path: Path, df: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="sficonv prepare"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.parquet").write_text("text")
    with pytest.raises(DataError, match="not a readable Parquet"):
        read_manifest(tmp_path)
    write_manifest(tmp_path, df)
    whole = (tmp_path / "manifest.parquet").read_bytes()
    (tmp_path / "manifest.parquet").write_bytes(whole[:200])
    with pytest.raises(DataError, match="not a readable Parquet"):
        read_manifest(tmp_path)
    df[["path", "label"]].to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(DataError, match="columns are missing: dataset, method"):
        read_manifest(tmp_path)
    df.assign(label="real").to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(DataError, match="unexpected type"):
        read_manifest(tmp_path)
    df.assign(split="dev").to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(DataError, match="split must be"):
        read_manifest(tmp_path)


def test_a_failed_write_leaves_the_old_manifest(
    tmp_path: Path, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path, df)

    def disk_full(table: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(manifest_module.pq, "write_table", disk_full)
    with pytest.raises(OSError, match="no space"):
        write_manifest(tmp_path, df.head(1))
    monkeypatch.undo()
    assert len(read_manifest(tmp_path)) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.parquet"]


def test_the_parquet_file_has_the_documented_types(tmp_path: Path, df: pd.DataFrame) -> None:
    write_manifest(tmp_path, df)
    assert pq.read_schema(tmp_path / "manifest.parquet").equals(manifest_module.SCHEMA)


def test_the_protocol_travels_with_the_table(tmp_path: Path, df: pd.DataFrame) -> None:
    protocol = Protocol("paper", "drawn at random", leaky=True, seed=7, drawn_from="abc")
    write_manifest(tmp_path, df, protocol=protocol, name="manifest-paper.parquet")
    assert read_protocol(tmp_path / "manifest-paper.parquet") == protocol
    assert str(protocol) == "LEAKY protocol 'paper': drawn at random"
    assert manifest_hash(read_manifest(tmp_path / "manifest-paper.parquet")) == manifest_hash(df)
    assert read_protocol(tmp_path) is None  # no such file
    write_manifest(tmp_path, df)
    assert read_protocol(tmp_path) is None
    df.to_parquet(tmp_path / "manifest.parquet")
    assert read_protocol(tmp_path) is None
