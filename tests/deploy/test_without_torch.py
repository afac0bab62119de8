"""What the core installs is enough to scan, with nothing else to import; the rest says what it needs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

import sficonv
from sficonv.cli.verbs import VERBS
from sficonv.detect.demo import pan, photograph, write_video
from sficonv.detect.detector import Detector
from sficonv.extras import EXTRAS
from sficonv.shipped import shipped

ROOT = Path(__file__).resolve().parents[2]


def core() -> set[str]:
    """The distributions that the package brings without an extra, and what they bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        need = waiting.pop()
        for extra in {"", *need.extras} - {extra for name, extra in seen if name == need.name}:
            seen.add((need.name, extra))
            further = map(Requirement, requires(need.name) or [])
            waiting += [n for n in further if n.marker is None or n.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Runs Python where the core is installed and nothing else: links to its files, and no site-packages."""
    site = tmp_path_factory.mktemp("core")
    for name in core():
        installed = distribution(name)
        for part in {
            path.parts[0] for path in installed.files or [] if path.parts[0] not in ("..", "__pycache__")
        }:
            if not (site / part).exists():
                (site / part).symlink_to(installed.locate_file(part))
    (site / "sficonv").symlink_to(Path(sficonv.__file__).parent)

    def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        inside = os.environ | {"PYTHONPATH": str(site)}
        return subprocess.run(
            [sys.executable, "-S", *map(str, command)], cwd=cwd, env=inside, capture_output=True, text=True
        )

    return run


def test_nothing_but_the_core_is_there(environment, tmp_path):
    names = sorted({name for packages in EXTRAS.values() for name in packages} - {"onnxruntime"})
    program = f"import importlib.util as u; print(*[n for n in {names} if u.find_spec(n)])"
    assert environment("-c", program, cwd=tmp_path).stdout.split() == []


def test_an_image_and_a_video_are_scanned_and_reported(environment, tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "photo.jpg")
    write_video(tmp_path / "clip.mp4", pan(photograph(), frames=20))
    outputs = ["--csv", "scan.csv", "--report", "report.html", "--annotate", "marked"]
    done = environment("-m", "sficonv", "scan", "photo.jpg", "clip.mp4", *outputs, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "scan.csv").open() as file:
        scores = [float(row["p_fake"]) for row in csv.DictReader(file)]
    expected = [
        Detector(shipped(), device="cpu")(tmp_path / name).p_fake for name in ("photo.jpg", "clip.mp4")
    ]
    assert scores == pytest.approx(expected, abs=1e-3)
    assert "in ONNX Runtime" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_demonstration_runs(environment, tmp_path):
    done = environment("-m", "sficonv", "demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["cases"]) == 6
    assert (tmp_path / answer["report"]).is_file()


def test_doctor_finds_all_well_and_says_what_computes(environment, tmp_path):
    done = environment("-m", "sficonv", "doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PyTorch is not installed: scans run in ONNX Runtime" in done.stdout
    assert "all is well" in done.stdout


PROGRAM = """
import contextlib, io, json, sys
from sficonv.cli.app import main
answers = {}
for words in json.loads(sys.argv[1]):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        answers[words[0]] = main(words), err.getvalue()
import sficonv
for name in sficonv.__all__:
    try:
        getattr(sficonv, name)
    except ImportError as error:
        answers[f"sficonv.{name}"] = 1, str(error)
print(json.dumps(answers))
"""
WORDS = {  # what a verb has to be given at least
    "complexity": ["resnet26"],
    "convert-report": ["resnet18"],
    "explain": ["."],
    "attention": ["."],
    "inspect": ["."],
    "prepare": [".", "--out", "faces"],
    "split": [".", "--protocol", "leave-one-out"],
    "check": ["."],
    "train": ["."],
    "evaluate": ["--data", "."],
    "robustness": ["--data", ".", "--out", "out"],
    "compare": [".", "."],
    "calibrate": ["--data", ".", "--weights", "default"],
    "export": ["--out", "a.onnx"],
    "bench": ["--model", "resnet26"],
    "reproduce": ["complexity"],
}
FREE = {"scan", "serve", "demo", "doctor", "models"}
"""Verbs that do without PyTorch."""


def test_what_needs_pytorch_says_so_in_one_line(environment, tmp_path):
    assert WORDS.keys() == VERBS.keys() - FREE
    commands = [[verb, *words] for verb, words in WORDS.items()]
    commands.append(["scan", ".", "--weights", str(shipped())])
    done = environment("-c", PROGRAM, json.dumps(commands), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    offered = {name for name in answers if name.startswith("sficonv.")}
    assert {"sficonv.convert", "sficonv.train", "sficonv.create_model"} <= offered
    assert not offered & {f"sficonv.{name}" for name in ("Detector", "scan", "iter_scan", "demo", "serve")}
    for name, (code, said) in answers.items():
        assert code == 1, name
        assert "pip install 'sficonv[torch]'" in said, name
        assert len(said.strip().splitlines()) == 1, said


def test_a_table_for_many_files_names_its_own_extra(environment, tmp_path):
    done = environment("-m", "sficonv", "scan", ".", "--parquet", "a.parquet", cwd=tmp_path)
    assert done.returncode == 1
    assert "--parquet a.parquet needs pandas, pyarrow: pip install 'sficonv[tables]'" in done.stderr
