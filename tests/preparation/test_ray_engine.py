"""The Ray engine on a real Ray of two processors: the same bytes as the local one, and the same losses."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sficonv.datasets.layouts import read_source
from sficonv.errors import SficonvError
from sficonv.preparation.options import PrepareOptions
from sficonv.preparation.prepare import prepare
from sficonv.preparation.ray_engine import run_items_on_ray

ray = pytest.importorskip("ray", reason="needs the extra [ray]")

OPTIONS = PrepareOptions(frames=2, size=64, timeout=4)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_an_address_where_nobody_is(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where clusters of this machine are looked for
    with pytest.raises(SficonvError, match="no Ray cluster at 'auto'"):
        prepare(photos, tmp_path / "out", size=64, engine="ray", address="auto")


def test_the_same_bytes_as_the_local_engine(ffpp: Path, tmp_path: Path, cluster: None) -> None:
    on_ray = prepare(ffpp, tmp_path / "ray", frames=2, size=64, engine="ray")
    local = prepare(ffpp, tmp_path / "local", frames=2, size=64, workers=1)
    assert on_ray.crops == local.crops == 10 and on_ray.manifest_hash == local.manifest_hash
    files = [path for path in (tmp_path / "local").rglob("*") if path.is_file()]
    assert len(files) > 10
    for file in files:
        twin = tmp_path / "ray" / file.relative_to(tmp_path / "local")
        assert twin.read_bytes() == file.read_bytes(), file
    assert ray.is_initialized()  # a cluster that was there before is left running


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_hanging_and_failing_files_cost_no_other(photos: Path, tmp_path: Path, cluster: None) -> None:
    items = {item.path.name: item for item in read_source(photos).items}
    os.mkfifo(tmp_path / "sequence.tar")  # blocks whoever opens it
    real = items["real0.png"]
    hanging = replace(real, path=tmp_path / "sequence.tar", name="hanging", members=("a/1.png",))
    missing = replace(real, path=photos / "missing.png", name="missing")
    items = {"hanging": hanging, "missing": missing, **items}
    parts = {p.source: p for p in run_items_on_ray(items, tmp_path / "out", OPTIONS)}
    assert {name: part.reason for name, part in parts.items() if part.reason} == {
        "hanging": "timeout",
        "missing": "unreadable",
    }
    assert set(parts) == set(items)


def test_the_output_cannot_be_written(photos: Path, tmp_path: Path, cluster: None) -> None:
    items = {item.path.name: item for item in read_source(photos).items}
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="out"):
        list(run_items_on_ray(items, tmp_path / "out", OPTIONS))
