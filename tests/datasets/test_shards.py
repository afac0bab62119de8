"""Tar shards: the same content as the files, and streams that give every crop its turn."""

import hashlib
import json
import pickle
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from sficonv.datasets.crops import FaceCrops
from sficonv.datasets.manifest import Protocol, manifest_hash, read_manifest, read_protocol, write_manifest
from sficonv.datasets.shards import check_shards, read_index, write_shards
from sficonv.errors import DataError
from sficonv.evaluation.evaluate import evaluate
from sficonv.files import sha256_of
from sficonv.preparation.prepare import prepare
from sficonv.splits.check import check
from sficonv.training.shard_stream import ShardPart, ShardStream

wds = pytest.importorskip("webdataset", reason="needs the extra [shards]")


@pytest.fixture
def prepared(tmp_path: Path, crop_row: Callable[..., dict[str, object]]) -> Path:
    """24 crops of training, 6 of validation; each has a colour of its own."""
    folder, rows = tmp_path / "prepared", []
    for i in range(30):
        path = folder / f"crops/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((16, 16, 3), 8 * i, np.uint8))
        told = {"label": int(i % 4 > 0), "method": "swap" if i % 4 else "real", "time": float("nan")}
        split, sha256 = "val" if i % 5 == 4 else "train", sha256_of(path)
        rows.append(crop_row(i, split=split, sha256=sha256, **told))
    write_manifest(folder, pd.DataFrame(rows), protocol=Protocol("own", "every fifth"))
    return folder


def parts_of(folder: Path, split: str) -> list[ShardPart]:
    index = read_index(folder)
    assert index is not None
    return [ShardPart(folder / s.file, 0, s.crops) for s in index.of_split(split)]


def stream(folder: Path, split: str = "train", **options: object) -> ShardStream:
    return ShardStream(parts_of(folder, split), np.arange(30), **options)  # type: ignore[arg-type]


def indices(items: object) -> list[int]:
    return [int(index) for _, _, index in items]  # type: ignore[attr-defined]


def test_the_shards_hold_what_the_files_hold(prepared: Path) -> None:
    folder = write_shards(prepared, shards=4)
    assert folder == prepared / "shards"
    index, df = read_index(folder), read_manifest(prepared)
    assert index is not None and index.manifest_hash == manifest_hash(df)
    assert manifest_hash(read_manifest(folder)) == manifest_hash(df)
    assert read_protocol(folder) == read_protocol(prepared)
    names = [(s.file, s.crops) for s in index.of_split("train")]
    assert names == [(f"train-{i:06d}.tar", 6) for i in range(4)]
    assert [s.crops for s in index.of_split("val")] == [2, 2, 1, 1]
    seen = {}
    for shard in index.shards:
        assert shard.bytes == (folder / shard.file).stat().st_size
        assert shard.sha256 == hashlib.sha256((folder / shard.file).read_bytes()).hexdigest()
        with tarfile.open(folder / shard.file) as tar:
            content = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        for name in (name for name in content if name.endswith(".json")):
            about = json.loads(content[name])
            row = df.iloc[about["row"]]
            assert name == f"{about['row']:09d}.json" and row["split"] == shard.split
            assert all(about[key] == row[key] for key in about if key != "row")
            assert content[name.replace("json", "png")] == (prepared / about["path"]).read_bytes()
            seen[about["row"]] = name
    assert len(seen) == len(df)
    assert check(folder).findings == [] and check_shards(index) == []


def test_other_readers_of_the_format_understand_them(prepared: Path) -> None:
    folder = write_shards(prepared, shards=1)
    samples = list(wds.WebDataset(str(folder / "train-000000.tar"), shardshuffle=False).decode("rgb8"))
    assert len(samples) == 24 and samples[0]["png"].shape == (16, 16, 3)
    labels = read_manifest(prepared)["label"]
    assert [s["json"]["label"] for s in samples] == [labels[s["json"]["row"]] for s in samples]


def test_the_same_crops_give_the_same_bytes(prepared: Path) -> None:
    first = {p.name: p.read_bytes() for p in write_shards(prepared, shards=3).glob("*.tar")}
    second = {p.name: p.read_bytes() for p in write_shards(prepared, shards=3).glob("*.tar")}
    assert first == second and len(first) == 6


def test_damages_are_found(prepared: Path) -> None:
    folder = write_shards(prepared, shards=2)
    file = folder / "train-000001.tar"
    whole = file.read_bytes()
    file.write_bytes(whole[:-512] + b"x" * 512)
    assert [f.kind for f in check(folder).findings] == ["shard_changed"]
    file.write_bytes(whole[:2000])
    with pytest.raises(DataError, match="missing or cut off: train-000001.tar"):
        read_index(folder)
    file.write_bytes(whole)
    index = (folder / "shards.json").read_text()
    (folder / "shards.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_index(folder)
    (folder / "shards.json").unlink()
    with pytest.raises(DataError, match="was not finished"):
        read_index(folder)
    (folder / "shards.json").write_text(index)
    write_manifest(folder, read_manifest(folder).iloc[1:])
    assert [f.kind for f in check(folder).findings] == ["outdated_shards"]
    assert read_index(prepared) is None


def test_a_changed_crop_goes_into_no_shard(prepared: Path) -> None:
    (prepared / "crops/3.png").write_bytes(b"other")
    with pytest.raises(DataError, match=r"3\.png: changed since the manifest"):
        write_shards(prepared, shards=2)
    (prepared / "crops/3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png: this face crop cannot be read"):
        write_shards(prepared, shards=2)
    (prepared / "mine").mkdir()
    (prepared / "mine/file").touch()
    with pytest.raises(DataError, match="holds no shards"):
        write_shards(prepared, shards=2, out=prepared / "mine")
    with pytest.raises(ValueError, match="at least 1"):
        write_shards(prepared, shards=0)


def test_a_pass_gives_every_crop_once_as_the_files_do(prepared: Path) -> None:
    folder, df = write_shards(prepared, shards=3), read_manifest(prepared)
    crops = FaceCrops(df, prepared)
    for split, count in (("train", 24), ("val", 6)):
        for workers in (0, 2):
            items = list(DataLoader(stream(folder, split), batch_size=None, num_workers=workers))
            assert sorted(indices(items)) == df.index[df["split"] == split].tolist() and len(items) == count
            for image, label, index in items:
                assert torch.equal(image, crops[index][0]) and label == crops[index][1]


def test_the_order_depends_on_seed_and_epoch(prepared: Path) -> None:
    folder = write_shards(prepared, shards=3)
    options = {"batches": 6, "batch_size": 4, "buffer": 8}
    one, same = stream(folder, seed=1, **options), stream(folder, seed=1, **options)
    first, second = indices(one), indices(one)
    assert first == indices(same) and second == indices(same) and first != second
    assert sorted(first) == sorted(second) and len(set(first)) == 24  # as many as there are: each once
    assert first != indices(stream(folder, seed=2, **options))
    resumed = stream(folder, seed=1, **options)
    resumed.epoch = 1
    assert indices(resumed) == second
    assert len(one) == 24


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_epoch_has_as_many_full_batches_as_asked_for(prepared: Path, workers: int) -> None:
    folder = write_shards(prepared, shards=2)  # fewer than three processes: they share
    loader = DataLoader(stream(folder, batches=7, batch_size=4), batch_size=4, num_workers=workers)
    batches = list(loader)
    assert [len(labels) for _, labels, _ in batches] == [4] * 7 and len(loader) == 7
    seen = Counter(indices(zip(*(torch.cat(column) for column in zip(*batches, strict=True)), strict=True)))
    assert len(seen) > 15  # 28 draws of 24 crops, begun again after each pass over a process's own


@pytest.mark.parametrize(("devices", "shards"), [(2, 4), (3, 2)])
def test_devices_read_different_crops(
    prepared: Path, devices: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(prepared, shards=shards)
    read = []
    for device in range(devices):
        monkeypatch.setattr("sficonv.training.shard_stream.device_number", lambda device=device: device)
        read.append(set(indices(stream(folder, batches=24 // devices, batch_size=1, devices=devices))))
    assert len(set.union(*read)) == sum(map(len, read))
    assert len(set.union(*read)) == 24 or shards < devices  # these have unequal shares, and begin again


def test_weights_balance_the_labels(prepared: Path) -> None:
    df = read_manifest(prepared)
    weights = np.where(df["label"] == 0, 3.0, 1.0)
    drawn = indices(stream(write_shards(prepared, shards=3), batches=150, batch_size=4, weights=weights))
    assert len(drawn) == 600
    assert 0.42 < np.mean(df["label"].to_numpy()[drawn] == 0) < 0.58  # a quarter of the crops


def test_a_transform_draws_from_the_seed(prepared: Path) -> None:
    folder = write_shards(prepared, shards=3)

    def noise(image: torch.Tensor) -> torch.Tensor:
        return torch.rand(3)

    options = {"batches": 5, "batch_size": 4, "transform": noise, "seed": 3}
    a, b = ([image for image, _, _ in stream(folder, **options)] for _ in range(2))
    assert torch.equal(torch.stack(a), torch.stack(b)) and len({float(x[0]) for x in a}) == 20


def test_a_shard_that_is_cut_off_while_it_is_read(prepared: Path) -> None:
    folder = write_shards(prepared, shards=1)
    with pytest.raises(DataError, match="no shards of this split"):
        stream(folder, "test")
    items = stream(folder)
    file = folder / "train-000000.tar"
    file.write_bytes(file.read_bytes()[:9_000])
    with pytest.raises(DataError, match=r"train-000000\.tar"):
        list(items)


def test_evaluation_asks_for_the_files(prepared: Path) -> None:
    folder = write_shards(prepared, shards=1)
    with pytest.raises(DataError, match="holds shards, which only training reads"):
        evaluate("default", folder, split="val")


def test_prepare_writes_shards(photos: Path, tmp_path: Path) -> None:
    report = prepare(photos, tmp_path / "out", size=64, workers=0, shards=2)
    assert report.shards == tmp_path / "out/shards" and report.to_dict()["shards"] == str(report.shards)
    index = read_index(report.shards)
    assert index is not None and index.manifest_hash == report.manifest_hash
    assert sum(shard.crops for shard in index.shards) == report.crops == 6
    again = prepare(photos, tmp_path / "out", size=64, workers=0, shards=2)
    assert again.resumed == 6 and read_index(report.shards) == index


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_an_epoch_from_shards_goes_on_where_it_was_left(prepared: Path, workers: int) -> None:
    folder, options = write_shards(prepared, shards=3), {"batches": 7, "batch_size": 4, "seed": 1}
    whole = list(DataLoader(stream(folder, **options), batch_size=4, num_workers=workers))
    for skip in (1, 2, 6):
        rest = stream(folder, **options)
        rest.skip = skip
        for (a, _, x), (b, _, y) in zip(
            whole[skip:], DataLoader(rest, batch_size=4, num_workers=workers), strict=True
        ):
            assert torch.equal(a, b) and torch.equal(x, y)


@pytest.mark.parametrize(("devices", "shards", "workers"), [(2, 4, 0), (2, 3, 2), (4, 1, 2), (7, 2, 1)])
def test_devices_validate_in_equally_many_batches(
    prepared: Path, devices: int, shards: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(prepared, shards=shards)
    sizes, seen = [], Counter()
    for device in range(devices):
        monkeypatch.setattr("sficonv.training.shard_stream.device_number", lambda device=device: device)
        whole = stream(folder, "val", devices=devices)
        batches = list(DataLoader(whole, batch_size=2, num_workers=workers))
        sizes.append([len(labels) for _, labels, _ in batches])
        seen.update(index for _, _, indices in batches for index in indices.tolist())
    assert all(size == sizes[0] for size in sizes)
    assert len(seen) == 6
    assert sum(seen.values()) < 6 + devices * max(1, workers)


def test_a_loader_process_that_is_not_forked_knows_its_device(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shards(prepared, shards=4)
    monkeypatch.setattr("sficonv.training.shard_stream.device_number", lambda: 1)
    whole = stream(folder, batches=12, batch_size=1, devices=2)
    copy = pickle.loads(pickle.dumps(whole))
    mine = indices(whole)
    monkeypatch.setattr("sficonv.training.shard_stream.device_number", lambda: 0)
    assert indices(copy) == mine
