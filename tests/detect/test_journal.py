"""A scan that is stopped keeps what it has judged, and the same command continues where it stopped."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
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


@pytest.mark.parametrize("changed", ["option", "file", "detector", "cut", "zeros", "other"])
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
        header, *lines = part.read_bytes().splitlines(keepends=True)
        damaged = {"cut": lines[2][:-5], "zeros": bytes(len(lines[2])) + b"\n", "other": b"\xff[]\n[]\n"}
        part.write_bytes(b"".join([header, *lines[:2], damaged[changed]]))
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


def test_a_full_disk_stops_a_scan_that_names_the_file_and_then_goes_on(
    detector, striped, tmp_path, tiny_disk
):
    detector.batch_size = 1
    crops, table, filler = tmp_path / "crops", tiny_disk / "a.csv", tiny_disk / "filler"
    crops.mkdir()
    for i in range(40):
        Image.fromarray(striped(20 + 5 * i)).save(crops / f"{i:02}.png")
    whole = scan(crops, detector=detector, crops=True)
    judged = []
    for pages in (0, 1, 2):
        filler.write_bytes(bytes(shutil.disk_usage(tiny_disk).free - 4096 * pages))
        before = len(detector.torch.model.batches)
        with pytest.raises(OSError, match=r"No space left on device: .*a\.csv"):
            scan(crops, detector=detector, crops=True, csv=table)
        filler.unlink()
        judged.append(len(detector.torch.model.batches) - before)
    assert judged[0] == 0 < sum(judged)
    assert {path.name for path in tiny_disk.iterdir()} == {"a.csv", "a.csv.part"}
    before = len(detector.torch.model.batches)
    assert scan(crops, detector=detector, crops=True, csv=table) == whole
    assert 40 - sum(judged) <= len(detector.torch.model.batches) - before < 40
    assert len(pd.read_csv(table)) == 40
    assert list(tiny_disk.iterdir()) == [table]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Weights, and 300 small crops."""
    folder = tmp_path_factory.mktemp("many")
    torch.manual_seed(0)
    weights = save_weights(folder / "w", create_model("sfic_mobilenetv1", image_size=64))
    rng = np.random.default_rng(0)
    (folder / "crops").mkdir()
    for i in range(300):
        crop = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(crop).save(folder / "crops" / f"{i:03}.png")
    return weights, folder / "crops"


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("blow", "workers"),
    [(signal.SIGKILL, 1), (signal.SIGTERM, 1), (signal.SIGKILL, 2), (signal.SIGTERM, 2), (signal.SIGINT, 2)],
)
def test_a_command_killed_at_a_random_moment_goes_on_where_it_stopped(
    many, tmp_path, interruptible, blow, workers
):
    weights, crops = many
    table = tmp_path / "scan.csv"
    command = ["-m", "sficonv", "scan", crops, "--crops", "--batch-size", 1, "--workers", workers]
    command += ["--weights", weights, "--csv", table]
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed of the moment: {seed}")  # shown by pytest where the test fails
    enough = random.Random(seed).randint(5, 60)
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=interruptible,
    )
    part = tmp_path / "scan.csv.part"
    while process.poll() is None and (not part.exists() or part.read_text().count("\n") < enough):
        time.sleep(0.01)
    (process.send_signal if blow != signal.SIGINT else partial(os.killpg, process.pid))(blow)
    _, err = process.communicate(timeout=60)
    until = time.monotonic() + 120
    while alive(process.pid) and time.monotonic() < until:  # its workers end with it
        time.sleep(0.05)
    assert not alive(process.pid)
    assert "Traceback" not in err
    if blow != signal.SIGKILL:
        assert process.returncode == 128 + blow
        assert "the same command continues there" in err
        assert {path.name for path in tmp_path.glob("*scan.csv*")} == {"scan.csv", "scan.csv.part"}
    assert table.read_text().count("\n") <= part.read_text().count("\n") < 301
    results = scan(crops, detector=weights, crops=True, csv=table)
    kept = pd.read_csv(table)
    assert list(kept["path"]) == [str(r.path) for r in results]
    assert len(kept) == 300
    np.testing.assert_allclose(kept["p_fake"], [r.p_fake for r in results], atol=1e-4)
    whole = scan(crops, detector=weights, crops=True)
    assert [r.verdict for r in results] == [r.verdict for r in whole]
    np.testing.assert_allclose([r.p_fake for r in results], [r.p_fake for r in whole], atol=1e-6)
