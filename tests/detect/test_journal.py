"""A scan that is stopped keeps what it has judged, and the same command goes on where it stopped."""

import os
import signal
import subprocess
import sys
import time
from itertools import count

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sficonv.detect import parquet
from sficonv.detect.journal import Journal
from sficonv.detect.scan import scan
from sficonv.errors import SficonvError
from sficonv.models import create_model
from sficonv.models.checkpoint import save_weights


@pytest.fixture
def folder(tmp_path, striped):
    """Six crops of different brightness."""
    (tmp_path / "crops").mkdir()
    for i in range(6):
        Image.fromarray(striped(20 + 40 * i)).save(tmp_path / "crops" / f"{i}.png")
    return tmp_path / "crops"


@pytest.fixture
def stop_at(monkeypatch):
    """Interrupts the reading of the n-th file from now on; `None` lets everything pass."""
    import sficonv.media.images as images

    read = images.read_picture

    def stop(n):
        number = count(1)

        def read_picture(path, **limits):
            if next(number) == n:
                raise KeyboardInterrupt
            return read(path, **limits)

        monkeypatch.setattr(images, "read_picture", read_picture if n else read)

    return stop


def test_what_was_judged_is_kept_and_the_rest_is_judged_by_the_same_call(
    detector, folder, tmp_path, stop_at, capsys
):
    detector.batch_size = 1
    whole = scan(folder, detector=detector, crops=True, csv=tmp_path / "whole.csv")
    stop_at(4)
    with pytest.raises(KeyboardInterrupt):
        scan(folder, detector=detector, crops=True, csv=tmp_path / "a.csv", report=tmp_path / "a.html")
    assert list(pd.read_csv(tmp_path / "a.csv")["p_fake"]) == [round(r.p_fake, 4) for r in whole[:3]]
    assert len(pd.read_json(tmp_path / "a.csv.part", lines=True)) == 4  # its first line says what made it
    assert "The scan was interrupted" in (tmp_path / "a.html").read_text()
    assert "stopped after 3 files" in capsys.readouterr().err

    stop_at(None)
    before = len(detector.torch.model.batches)
    again = scan(folder, detector=detector, crops=True, csv=tmp_path / "a.csv")
    assert len(detector.torch.model.batches) - before == 3
    assert again == whole
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"crops", "whole.csv", "a.csv", "a.html"}
    assert "3 files are judged already" in capsys.readouterr().err


def test_a_report_of_a_continued_scan_shows_every_face(detector, folder, tmp_path, stop_at):
    detector.batch_size = 1
    stop_at(4)
    with pytest.raises(KeyboardInterrupt):
        scan(folder, detector=detector, crops=True, csv=tmp_path / "a.csv")
    stop_at(None)
    scan(folder, detector=detector, crops=True, csv=tmp_path / "a.csv", report=tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text().count("The face</h3>") == 6


def test_a_finished_scan_is_made_anew(detector, folder, tmp_path, striped):
    for level in (10, 200):
        Image.fromarray(striped(level)).save(folder / "0.png")
        results = scan(folder, detector=detector, crops=True, csv=tmp_path / "a.csv")
    assert results[0].p_fake == pytest.approx(200 / 255, abs=1e-3)


@pytest.mark.parametrize("changed", ["option", "file", "detector", "cut"])
def test_what_would_be_judged_otherwise_now_is_judged_again(
    detector, folder, tmp_path, stop_at, striped, changed
):
    detector.batch_size = 1
    stop_at(4)
    with pytest.raises(KeyboardInterrupt):
        scan(folder, detector=detector, crops=True, csv=tmp_path / "a.csv")
    stop_at(None)
    options, left = {"min_face": 40}, 6
    if changed == "option":
        options = {"min_face": 30}
    elif changed == "file":
        Image.fromarray(striped(250)).save(folder / "1.png")
        left = 4
    elif changed == "detector":
        detector.weights = folder / "0.png"
    else:
        part = tmp_path / "a.csv.part"
        part.write_bytes(part.read_bytes()[:-5])
        left = 4
    before = len(detector.torch.model.batches)
    results = scan(folder, detector=detector, crops=True, csv=tmp_path / "a.csv", **options)
    assert len(detector.torch.model.batches) - before == left
    assert [r.path.name for r in results] == [f"{i}.png" for i in range(6)]
    if changed == "file":
        assert results[1].verdict == "fake"


def test_two_scans_cannot_write_one_table(detector, folder, tmp_path):
    with Journal(tmp_path / "a.csv", {}), pytest.raises(SficonvError, match="another scan is writing"):
        scan(folder, detector=detector, crops=True, csv=tmp_path / "a.csv")


def test_an_interrupted_parquet_scan_can_be_read_and_goes_on(
    detector, folder, tmp_path, stop_at, monkeypatch
):
    monkeypatch.setattr(parquet, "Detector", lambda: detector)
    detector.batch_size = 1
    from sficonv.detect.options import ScanOptions

    out = tmp_path / "a.parquet"
    stop_at(4)
    with pytest.raises(KeyboardInterrupt):
        parquet.scan_to_parquet(folder, out, ScanOptions(crops=True))
    assert len(pd.read_parquet(out)) == 3
    stop_at(None)
    before = len(detector.torch.model.batches)
    assert parquet.scan_to_parquet(folder, out, ScanOptions(crops=True)).files == 6
    assert len(detector.torch.model.batches) - before == 3
    assert sorted(pd.read_parquet(out)["path"]) == [str(folder / f"{i}.png") for i in range(6)]
    assert {path.name for path in tmp_path.iterdir()} == {"crops", "a.parquet"}


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_goes_on_where_it_stopped(tmp_path, blow):
    torch.manual_seed(0)
    weights = save_weights(tmp_path / "w", create_model("sfic_mobilenetv1", image_size=64))
    rng = np.random.default_rng(0)
    (tmp_path / "crops").mkdir()
    for i in range(300):
        crop = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(crop).save(tmp_path / "crops" / f"{i:03}.png")
    table = tmp_path / "scan.csv"
    command = ["-m", "sficonv", "scan", tmp_path / "crops", "--crops", "--batch-size", 1]
    command += ["--weights", weights, "--csv", table]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    while process.poll() is None and (not table.exists() or table.read_text().count("\n") < 5):
        time.sleep(0.01)
    process.send_signal(blow)
    process.wait()
    rows = table.read_text().count("\n") - 1
    assert 4 <= rows < 300
    results = scan(tmp_path / "crops", detector=weights, crops=True, csv=table, report=None)
    kept = pd.read_csv(table)
    assert list(kept["path"]) == [str(r.path) for r in results]
    assert len(kept) == 300
    np.testing.assert_allclose(kept["p_fake"], [r.p_fake for r in results], atol=1e-4)
