"""Several processes that train together, for real: gloo on the CPU, started by torchrun and by Lightning."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.datasets.shards import write_shards
from sficonv.models import load_weights, registry, to_input
from sficonv.training.data import load_training_data, val_loader
from sficonv.training.module import ValidationMetrics
from sficonv.training.recipes import Recipe

Make = Callable[..., Path]
PROGRAM = str(Path(__file__).with_name("tiny_program.py"))
ALONE = [sys.executable, PROGRAM]
OPTIONS = [
    *("--model", "tiny_detector", "--image-size", "32", "--epochs", "3", "--lr", "0.01"),
    *("--workers", "0", "--accelerator", "cpu", "--recipe", "paper"),
]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detectors of the program in this process too, for one test."""
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    runpy.run_path(PROGRAM)


def torchrun(processes: int, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"),
        *(options or ("--standalone",)),
        PROGRAM,
    ]


def begin(command: list[str], data: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    words = [*command, "train", "--data", str(data), "--out", str(out), "--json", *OPTIONS, *options]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )


def end(process: subprocess.Popen[str]) -> str:
    try:
        out, err = process.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, err
    return out


def start(command: list[str], data: Path, out: Path, *options: str) -> dict:
    return json.loads(end(begin(command, data, out, *options)))  # one answer, not one of each process


def read_history(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "history.csv", float_precision="round_trip")


def assert_same_run(a: Path, b: Path) -> None:
    """Same draws, same mean of the loss: only the order of the sums differs."""
    pd.testing.assert_frame_equal(read_history(a), read_history(b), rtol=1e-5, atol=1e-6)
    first, second = (load_file(folder / "weights.safetensors") for folder in (a, b))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-5, atol=1e-5)


def judged(out: Path, data: Path) -> dict[str, float]:
    """The validation metrics of the saved weights, computed by one process that reads the files."""
    model, card = load_weights(out / "weights.safetensors")
    rows = load_training_data([data])
    metrics = ValidationMetrics(rows.val)
    plan = Recipe.named("paper", batch_size=card["recipe"]["batch_size"], image_size=32)
    with torch.no_grad():
        for images, _, indices in val_loader(rows, plan, workers=0):
            metrics.update(model(to_input(images, model.config)), indices)  # type: ignore[arg-type]
    return pytest.approx({name: float(value) for name, value in metrics.compute().items()}, rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_as_one_with_twice_the_batch(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(
        frames=5
    )  # 20 rows to train on and to validate on, batches of 2 x 4 and 8: some short
    one = start(ALONE, data, tmp_path / "one", "--batch-size", "8", "--devices", "1")
    for name, command, more in (
        ("torchrun", torchrun(2), []),
        ("lightning", ALONE, ["--devices", "2"]),
    ):
        two = start(command, data, tmp_path / name, "--batch-size", "4", *more)
        assert two["card"]["training"]["speed"]["devices"] == 2
        assert two["card"]["metrics"] == pytest.approx(one["card"]["metrics"], rel=1e-5)
        assert_same_run(tmp_path / "one", tmp_path / name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_machines_and_an_uneven_validation_set(make_prepared: Make, tmp_path: Path) -> None:
    """Two launchers on one machine take the part of two machines. Batch norm makes the devices exchange
    buffers in every step of the validation as well, so they must take equally many."""
    data = make_prepared(videos=3, frames=3)  # 18 rows each
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out, options = (
        tmp_path / "run",
        ["--model", "tiny_with_batch_norm", "--batch-size", "3", "--save-every", "2"],
    )
    nodes = [
        begin(
            torchrun(
                1, "--nnodes=2", f"--node-rank={rank}", "--master-addr=127.0.0.1", f"--master-port={port}"
            ),
            data,
            out,
            *options,
        )
        for rank in (0, 1)
    ]
    answers = [end(node) for node in nodes]
    assert json.loads(answers[0])["card"]["training"]["speed"]["devices"] == 2
    assert answers[1] == ""
    assert len(read_history(out)) == 3
    assert judged(out, data) == json.loads(answers[0])["card"]["metrics"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shards", [1, 3])
def test_two_processes_read_shards(make_prepared: Make, tmp_path: Path, shards: int) -> None:
    pytest.importorskip("webdataset", reason="needs the extra [shards]")
    folder = make_prepared(videos=3, frames=3)
    write_manifest(folder, read_manifest(folder).assign(sha256=""))
    data = write_shards(folder, shards=shards)
    options = ["--devices", "2", "--workers", "2", "--batch-size", "2"]
    answer = start(ALONE, data, tmp_path / "run", *options)
    assert judged(tmp_path / "run", folder) == answer["card"]["metrics"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_killed_processes_go_on_together(make_prepared: Make, tmp_path: Path) -> None:
    data, out = make_prepared(), tmp_path / "killed"
    options = ["--devices", "2", "--batch-size", "2", "--epochs", "10", "--save-every", "1"]
    options += ["--recipe", "finetune"]
    process = begin(ALONE, data, out, *options)
    while not (out / "checkpoints/last.ckpt").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "weights.safetensors").exists()
    alone = begin(ALONE, data, out, *options, "--devices", "1")
    assert "started by 2 device(s), not by 1 device(s)" in alone.communicate(timeout=280)[1]
    start(ALONE, data, out, *options)
    start(ALONE, data, tmp_path / "whole", *options)
    assert (out / "weights.safetensors").read_bytes() == (tmp_path / "whole/weights.safetensors").read_bytes()
    pd.testing.assert_frame_equal(read_history(out), read_history(tmp_path / "whole"), check_exact=True)
