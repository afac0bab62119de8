"""The whole road through the real command line, on data made here: prepare, train, evaluate, scan."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from sficonv.detect.demo import forge, pan, write_video


def sficonv(*arguments: str | Path) -> dict | list:
    command = [sys.executable, "-m", "sficonv", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six real and six forged videos, half a second each, in train, val and test."""
    root = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("real", "fake"):
            (root / split / label).mkdir(parents=True)
            for i in range(2):
                gain = rng.uniform(0.7, 1.1, 3)
                photo = np.clip(astronaut() * gain, 0, 255).astype(np.uint8)
                image = photo if label == "real" else forge(photo, seed=i)
                write_video(root / split / label / f"{split}_{label}_{i}.mp4", pan(image, frames=13, seed=i))
    return root


@pytest.mark.slow
def test_from_videos_to_a_verdict(source, tmp_path):
    faces, run_folder = tmp_path / "faces", tmp_path / "run"
    report = sficonv("prepare", source, "--out", faces, "--frames", "4", "--workers", "0")
    assert report["problems"] == []
    assert report["crops"] == 48

    trained = sficonv(
        *("train", "--data", faces, "--model", "sfic_efficientnet_lite0", "--recipe", "finetune"),
        *("--out", run_folder, "--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "4"),
        *("--image-size", "128", "--workers", "0", "--accelerator", "cpu"),
    )
    weights = Path(trained["weights"])
    assert weights.is_file()

    measured = sficonv(
        "evaluate", "--weights", weights, "--data", faces, "--split", "test", "--bootstrap", "50"
    )
    assert measured["counts"]["videos"] == 4

    video = source / "test" / "fake" / "test_fake_0.mp4"
    page = tmp_path / "report.html"
    (result,) = sficonv("scan", video, "--weights", weights, "--every", "0.1", "--report", page)
    p_fake = result["p_fake"]
    judged = "real" if p_fake < 0.35 else "fake" if p_fake > 0.65 else "uncertain"  # it is not calibrated
    assert result["verdict"] == (judged if result["tracks"][0]["decides"] else "uncertain")
    assert result["error"] is None
    shown = page.read_text(encoding="utf-8")
    assert "Score over time" in shown
    (number,) = re.findall(r"<small>P\(fake\)</small>([\d.]+)<", shown)
    assert float(number) == pytest.approx(p_fake, abs=0.0051)
