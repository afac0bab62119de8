"""Scanning in several processes: the answers of one, and processes that end cost no answer."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from sficonv.detect import processes
from sficonv.detect.options import ScanOptions
from sficonv.detect.parquet import scan_to_parquet
from sficonv.detect.scan import scan
from sficonv.models import create_model
from sficonv.models.checkpoint import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    return save_weights(
        tmp_path_factory.mktemp("weights") / "w", create_model("sfic_mobilenetv1", image_size=64)
    )


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Thirty crops, of which one is no image."""
    folder, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    for number in range(30):
        crop = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(crop).save(folder / f"{number:02}.png")
    (folder / "07.png").write_text("no image")
    return folder


def assert_same(found, expected):
    assert [r.path for r in found] == [r.path for r in expected]
    assert [(r.verdict, r.error, len(r.faces)) for r in found] == [
        (r.verdict, r.error, len(r.faces)) for r in expected
    ]
    a, b = ([r.p_fake if r.p_fake is not None else -1.0 for r in results] for results in (found, expected))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_several_processes_give_the_answers_of_one_in_the_same_order(
    weights, crops, media, tmp_path, monkeypatch
):
    monkeypatch.setattr(processes, "LARGE_FILE", (media / "clip.mp4").stat().st_size - 1)
    sources, given = [media, tmp_path / "gone.jpg"], {"every": 1.0, "detector": weights}
    one = scan(sources, **given, csv=tmp_path / "one.csv", report=tmp_path / "one.html")
    two = scan(sources, **given, csv=tmp_path / "two.csv", report=tmp_path / "two.html", workers=2)
    assert_same(two, one)
    assert (tmp_path / "two.csv").read_text() == (tmp_path / "one.csv").read_text()
    faces = [(tmp_path / name).read_text().count("The face</h3>") for name in ("one.html", "two.html")]
    assert faces[0] == faces[1] > 0
    assert_same(
        scan(crops, detector=weights, crops=True, workers=2), scan(crops, detector=weights, crops=True)
    )


def test_a_parquet_scan_in_several_processes(weights, crops, tmp_path):
    summary = scan_to_parquet(
        crops, tmp_path / "a.parquet", ScanOptions(crops=True), workers=2, weights=weights
    )
    assert summary.files == 30
    assert summary.verdicts["error"] == 1


ENDING = """
import os, signal
from pathlib import Path
from sficonv.detect.processes import _judge as judge_soundly

def judge(files, *more):
    for file in files:
        ends = file.path.with_suffix(".ends")
        if ends.exists() and ends.stat().st_size:
            ends.write_text(ends.read_text()[1:])
            os.kill(os.getpid(), signal.SIGKILL)
    return judge_soundly(files, *more)
"""


@pytest.fixture
def ending(tmp_path, monkeypatch, crops):
    """Crops, and a way to say how often the process that gets one of them is killed."""
    (tmp_path / "ending_judge.py").write_text(ENDING)
    monkeypatch.syspath_prepend(tmp_path)
    import ending_judge

    monkeypatch.setattr(processes, "_judge", ending_judge.judge)
    files = []
    for path in sorted(crops.iterdir())[8:20]:
        files.append(tmp_path / path.name)
        files[-1].write_bytes(path.read_bytes())

    def kill(number, times):
        files[number].with_suffix(".ends").write_text("x" * times)

    yield files, kill
    sys.modules.pop("ending_judge")


def test_files_whose_process_is_killed_are_judged_again_and_not_blamed(ending, weights):
    files, kill = ending
    kill(2, 1)
    kill(9, 1)
    expected = scan(files, detector=weights, crops=True)
    assert_same(scan(files, detector=weights, crops=True, workers=2), expected)


def test_a_file_whose_process_always_ends_costs_only_itself(ending, weights, tmp_path):
    files, kill = ending
    kill(2, 100)
    found = scan(files, detector=weights, crops=True, workers=2, csv=tmp_path / "a.csv")
    assert [r.path for r in found if r.verdict == "error"] == [files[2]]
    assert str(files[2]) in found[2].error
    assert "ended 2 times (exit code -9)" in found[2].error
    assert len(found) == 12


def test_what_cannot_be_shared_is_refused(detector, crops, weights):
    with pytest.raises(ValueError, match="workers=1"):
        scan(crops, detector=detector, crops=True, workers=2)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        scan(crops, detector=weights, crops=True, workers=0)


def test_scripts_without_a_main_guard_are_told_so(weights, crops, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        f"from sficonv import scan\nscan({str(crops)!r}, detector={str(weights)!r}, crops=True, workers=2)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert 'put the call below if __name__ == "__main__": or use workers=1' in done.stderr
