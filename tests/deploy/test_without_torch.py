"""What the core installs is enough to scan, with nothing else to import; the rest says what it needs."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from importlib.metadata import distribution, requires
from pathlib import Path

import httpx
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


def closure(extra: str = "") -> set[str]:
    """The distributions that the package brings, with an extra, and what they bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    waiting = [Requirement(text) for text in wanted]
    seen: set[tuple[str, str]] = set()
    while waiting:
        need = waiting.pop()
        for of_it in {"", *need.extras} - {extra for name, extra in seen if name == need.name}:
            seen.add((need.name, of_it))
            further = map(Requirement, requires(need.name) or [])
            waiting += [n for n in further if n.marker is None or n.marker.evaluate({"extra": of_it})]
    return {name for name, _ in seen}


def linked(site: Path, names: set[str]) -> dict[str, str]:
    """An environment with links to the files of distributions, to be used without site-packages (`-S`)."""
    for name in names:
        installed = distribution(name)
        parts = {path.parts[0] for path in installed.files or []} - {"..", "__pycache__"}
        for part in parts:
            if not (site / part).exists():
                (site / part).symlink_to(installed.locate_file(part))
    (site / "sficonv").symlink_to(Path(sficonv.__file__).parent)
    return os.environ | {"PYTHONPATH": str(site)}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Runs Python where the core is installed and nothing else."""
    inside = linked(tmp_path_factory.mktemp("core"), closure())

    def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
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
    program = "from sficonv.detect.results import ScanResults; ScanResults().to_pandas()"
    done = environment("-c", program, cwd=tmp_path)
    assert "MissingPackage: to_pandas needs pandas: pip install 'sficonv[tables]'" in done.stderr


@pytest.mark.slow
def test_the_service_judges(tmp_path):
    folder, site = tmp_path / "service", tmp_path / "site"
    site.mkdir()
    Image.fromarray(photograph()).save(tmp_path / "photo.jpg")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "sficonv", "serve", "--port", str(port), "--folder", str(folder)]
    inside = linked(site, closure("serve"))
    with subprocess.Popen([sys.executable, "-S", *command], env=inside, cwd=tmp_path) as service:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                until(
                    lambda: client.get("/api/health").status_code == 200 if service.poll() is None else None
                )
                answer = client.post("/api/scan", files={"file": (tmp_path / "photo.jpg").open("rb")})
                assert answer.json()["verdict"] in ("real", "uncertain")
        finally:
            service.terminate()


def until(there: Callable[[], bool | None]) -> None:
    """Wait until something is there; `None` says that it never will be."""
    for _ in range(1200):
        try:
            if (found := there()) is not False:
                assert found
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come")
