"""The whole road as the README prints it: a folder of videos, prepare, train, evaluate, and then a scan."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, programs

from sficonv.cli.app import main

ROAD = list(programs(PAGES["README.md"].partition("## Train your own\n\n```bash\n")[2].partition("```")[0]))
FEW_STEPS = ["--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "4", "--image-size", "128"]
FEW_STEPS += ["--workers", "0", "--accelerator", "cpu"]


def in_own_process(words: Sequence[str]) -> tuple[str, str]:
    """Standard output and error of a command, as a shell starts it."""
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=240, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


PLAIN = ("real/{i}.mp4", "fake/{i}.mp4")
FFPP = (
    "original_sequences/youtube/c23/videos/00{i}.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/00{i}_10{i}.mp4",
)
CELEBDF = ("Celeb-real/id{i}_0000.mp4", "Celeb-synthesis/id{i}_id1{i}_0000.mp4")


@pytest.fixture
def folder_of(clips_of_people, tmp_path, monkeypatch):
    """Makes `my_videos` in the current folder, the clips under the names of a layout."""
    monkeypatch.chdir(tmp_path)

    def make(real: str, fake: str) -> Path:
        for (label, i), clip in clips_of_people.items():
            path = tmp_path / "my_videos" / {"real": real, "fake": fake}[label].format(i=i)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, path)
        return tmp_path / "my_videos"

    return make


def test_the_readme_prints_the_road():
    assert [words[:2] for words in ROAD] == [
        ["sficonv", "prepare"],
        ["sficonv", "train"],
        ["sficonv", "evaluate"],
    ]


@pytest.mark.slow
def test_from_a_plain_folder_to_a_verdict(folder_of, tmp_path):
    folder_of(*PLAIN)
    prepare, train, evaluate = ROAD

    prepared, said = in_own_process(prepare)
    assert "split by identity" in prepared + said

    trained, said = in_own_process([*train, *FEW_STEPS])
    told = trained + said
    assert "start: the shipped detector" in told and "neither a model nor weights were given" in told
    assert "recipe: finetune" in told
    assert "validation has 1 real and 1 fake videos: with fewer than 10" in told
    assert "run/weights.safetensors" in told

    measured, said = in_own_process(evaluate)
    assert "figures with 95 % intervals over videos" in measured
    assert (tmp_path / "report.html").is_file()

    scan = [
        "sficonv",
        "scan",
        "my_videos/fake/0.mp4",
        "--weights",
        "run/weights.safetensors",
        "--every",
        "0.1",
    ]
    answer, _ = in_own_process([*scan, "--report", "scan.html", "--json"])
    (result,) = json.loads(answer)
    p_fake = result["p_fake"]
    judged = "real" if p_fake < 0.35 else "fake" if p_fake > 0.65 else "uncertain"  # it is not calibrated
    assert result["verdict"] == (judged if result["tracks"][0]["decides"] else "uncertain")
    assert result["error"] is None
    shown = (tmp_path / "scan.html").read_text(encoding="utf-8")
    assert "Score over time" in shown
    (number,) = re.findall(r"<small>P\(fake\)</small>([\d.]+)<", shown)
    assert float(number) == pytest.approx(p_fake, abs=0.0051)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "lists"),
    [
        pytest.param(FFPP, {}, id="FaceForensics++ without its lists"),
        pytest.param(
            CELEBDF,
            {
                "List_of_testing_videos.txt": "1 Celeb-real/id3_0000.mp4\n"
                "0 Celeb-synthesis/id3_id13_0000.mp4\n1 Celeb-real/id59_0000.mp4\n"
            },
            id="Celeb-DF",
        ),
    ],
)
def test_a_part_of_a_published_data_set_goes_the_same_way(layout, lists, folder_of, capsys):
    source = folder_of(*layout)
    for name, text in lists.items():
        (source / name).write_text(text)
    prepare, train, evaluate = ROAD

    assert main(prepare[1:]) == 0, capsys.readouterr().err
    assert main([*train[1:], *FEW_STEPS]) == 0, capsys.readouterr().err
    told = "".join(capsys.readouterr())
    assert "start: the shipped detector" in told and "recipe: finetune" in told
    assert "with fewer than 10 of either" in told

    assert main(evaluate[1:]) == 0, capsys.readouterr().err
    told = "".join(capsys.readouterr())
    assert "2 videos (1 real, 1 fake)" in told
    assert "95 % intervals" in told
