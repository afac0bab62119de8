"""Runs ended by SIGKILL at some moment, and continued: they end with the weights of an uninterrupted run."""

import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.datasets.shards import write_shards
from sficonv.errors import DataError, SficonvError
from sficonv.training import train
from sficonv.training.recipes import Recipe

Make = Callable[..., Path]
Run = Callable[..., None]
Begin = Callable[..., multiprocessing.process.BaseProcess]
PROGRAM = str(Path(__file__).with_name("killed_program.py"))
STEPS = 5  # in each of three epochs
SMALL = {
    **{
        "recipe": "paper",
        "epochs": 3,
        "batch_size": 4,
        "image_size": 32,
        "lr": 0.01,
        "steps_per_epoch": STEPS,
    },
    **{"accelerator": "cpu", "devices": 1},
}


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that start quickly and have never computed a gradient: torch refuses to fork after that."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sficonv.training.train"])
    return context


@pytest.fixture
def begin(processes: multiprocessing.context.ForkServerContext, tmp_path: Path) -> Begin:
    """Begin to train in a process of its own, and maybe kill it at some moment."""

    def start(data: Path, out: str | Path, **options: Any) -> multiprocessing.process.BaseProcess:
        work = {"data": data, "out": tmp_path / out, "kill": None, **SMALL, **options}
        process = processes.Process(target=runpy.run_path, args=(PROGRAM, {"work": work}, "__main__"))
        process.start()
        return process

    return start


@pytest.fixture
def run(begin: Begin) -> Run:
    """Train in a process of its own to the end, or until it is killed."""

    def start(data: Path, out: str | Path, *, kill: tuple[str, int] | None = None, **options: Any) -> None:
        process = begin(data, out, kill=kill, **options)
        process.join(120)
        assert process.exitcode == (-signal.SIGKILL if kill else 0)

    return start


def read_history(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "history.csv", float_precision="round_trip")


def assert_same(a: Path, b: Path) -> None:
    """The same weights and averages, optimiser, schedule, counters and history, to the bit."""
    last = [torch.load(out / "checkpoints/last.ckpt", weights_only=True) for out in (a, b)]
    for key in (
        "state_dict",
        "current_model_state",
        "optimizer_states",
        "lr_schedulers",
        "global_step",
        "epoch",
    ):
        assert_equal(last[0].get(key), last[1].get(key), key)
    pd.testing.assert_frame_equal(read_history(a), read_history(b), check_exact=True)
    assert (a / "weights.safetensors").read_bytes() == (b / "weights.safetensors").read_bytes()


def assert_equal(a: object, b: object, where: str) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where  # type: ignore[arg-type]
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert isinstance(b, list | tuple) and len(a) == len(b), where
        for number, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}[{number}]")
    else:
        assert a == b, where


MOMENTS = [
    ("on_train_batch_start", 7),  # in the middle of the second epoch
    ("on_train_batch_end", 10),  # after its last step, before it is validated
    ("on_validation_batch_start", 10),
    ("on_save_checkpoint", 10),
    ("on_train_epoch_start", 10),  # between two epochs
]


@pytest.mark.parametrize("save_every", [None, 1, 3])
@pytest.mark.parametrize("recipe", ["paper", "finetune"])
def test_killed_at_any_moment(
    run: Run, make_prepared: Make, tmp_path: Path, recipe: str, save_every: int | None
) -> None:
    """`finetune` averages weights, balances the labels and blends faces itself."""
    data, options = make_prepared(), {"recipe": recipe, "workers": 0}
    run(data, "whole", **options)
    for moment in MOMENTS:
        out = f"killed {moment[0]}"
        run(data, out, kill=moment, save_every=save_every, **options)
        assert not (tmp_path / out / "weights.safetensors").exists()
        run(data, out, save_every=save_every, **options)
        assert_same(tmp_path / "whole", tmp_path / out)


def test_killed_again_and_again_with_loader_processes(run: Run, make_prepared: Make, tmp_path: Path) -> None:
    data, options = make_prepared(), {"recipe": "finetune", "workers": 2}
    run(data, "whole", **options)
    for step in (2, 4, 6, 11):
        run(data, "killed", kill=("on_train_batch_start", step), save_every=2, **options)
    run(data, "killed", save_every=2, **options)
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_killed_while_it_reads_shards(
    run: Run, make_prepared: Make, tmp_path: Path, workers: int, sampling: str
) -> None:
    pytest.importorskip("webdataset", reason="needs the extra [shards]")
    folder = make_prepared(frames=3)
    write_manifest(folder, read_manifest(folder).assign(sha256=""))
    data, options = write_shards(folder, shards=3), {"sampling": sampling, "workers": workers}
    run(data, "whole", **options)
    for step in (3, 8):
        run(data, "killed", kill=("on_train_batch_start", step), save_every=1, **options)
    run(data, "killed", save_every=1, **options)
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_a_step_is_saved_and_not_repeated(run: Run, make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    run(data, "run", kill=("on_train_batch_start", 7), save_every=3, workers=0)
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 6
    run(data, "run", kill=("on_train_batch_start", 6), save_every=3, workers=0)
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 6


def test_patience_is_counted_over_the_parts_of_a_run(run: Run, make_prepared: Make, tmp_path: Path) -> None:
    data, options = make_prepared(), {"epochs": 20, "lr": 1e-12, "patience": 3, "workers": 0}
    run(data, "whole", **options)
    assert len(read_history(tmp_path / "whole")) == 4  # the first epoch, and three that are no better
    for epoch in (2, 3):
        run(data, "killed", kill=("on_train_epoch_start", epoch * STEPS), **options)
    run(data, "killed", **options)
    assert_same(tmp_path / "whole", tmp_path / "killed")
    run(data, "killed", **options)  # it had stopped
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_another_number_of_readers_of_shards_is_refused(
    tiny: str, make_prepared: Make, tmp_path: Path
) -> None:
    pytest.importorskip("webdataset", reason="needs the extra [shards]")
    folder = make_prepared()
    write_manifest(folder, read_manifest(folder).assign(sha256=""))
    plan = Recipe.named("paper", epochs=1, batch_size=4, image_size=32)
    where = {"out": tmp_path / "run", "accelerator": "cpu", "devices": 1}
    shards = write_shards(folder, shards=2)
    train(shards, model=tiny, recipe=plan, workers=0, **where)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"started by 1 device\(s\), not by 1 device\(s\) with workers=1"):
        train(shards, model=tiny, recipe=plan, workers=1, **where)  # type: ignore[arg-type]


def test_killed_while_a_checkpoint_is_written_to_another_disk(
    run: Run, make_prepared: Make, other_disk: Path, tmp_path: Path
) -> None:
    data, out = make_prepared(), other_disk / "run"
    run(data, "whole", workers=0)
    for step in (3, 5, 9):
        run(data, out, kill=("writing", step), save_every=1, workers=0)
        for name in ("last.ckpt", "best.ckpt"):
            if (file := out / "checkpoints" / name).exists():
                torch.load(file, weights_only=True)
    run(data, out, save_every=1, workers=0)
    assert_same(tmp_path / "whole", out)


def test_killed_anywhen_on_another_disk(
    begin: Begin, run: Run, make_prepared: Make, other_disk: Path, tmp_path: Path
) -> None:
    data, out, draw = make_prepared(), other_disk / "run", random.Random(7)
    run(data, "whole", workers=0)
    for _ in range(8):
        process = begin(
            data, out, kill=("anywhen", draw.randrange(20, 400)), save_every=1, workers=draw.choice([0, 1])
        )
        process.join(120)
        assert process.exitcode in (0, -signal.SIGKILL)
    run(data, out, save_every=1, workers=0)
    assert_same(tmp_path / "whole", out)


def test_a_full_disk_stops_a_run_that_then_continues(
    tiny: str, make_prepared: Make, tiny_disk: Path, tmp_path: Path
) -> None:
    data, options = make_prepared(), {**SMALL, "model": tiny, "workers": 0}
    whole = train(data, tmp_path / "whole", **options)  # type: ignore[arg-type]
    filler = tiny_disk / "filler"
    for room in (0, 12_000, 22_000, 30_000):  # for no checkpoint, and for some
        filler.write_bytes(bytes(64_000 - room))
        with pytest.raises((SficonvError, OSError), match="No space left"):
            train(data, tiny_disk / "run", save_every=1, **options)  # type: ignore[arg-type]
        filler.unlink()
        assert not [
            file
            for file in (tiny_disk / "run").rglob("*")
            if file.is_file() and not file.stat().st_size and file.name != ".lock"
        ]
    again = train(data, tiny_disk / "run", save_every=1, **options)  # type: ignore[arg-type]
    assert whole.weights.read_bytes() == again.weights.read_bytes()
    pd.testing.assert_frame_equal(whole.history, again.history, check_exact=True)


def test_two_trainings_do_not_share_a_folder(
    begin: Begin, tiny: str, make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared()
    first = begin(data, "run", kill=("on_train_epoch_start", STEPS), signal=signal.SIGSTOP, workers=1)
    while not (tmp_path / "run/checkpoints/last.ckpt").exists() and first.is_alive():
        time.sleep(0.05)
    with pytest.raises(DataError, match=rf"another training \(process {first.pid}\) runs in this folder"):
        train(data, tmp_path / "run", model=tiny, workers=0, **SMALL)  # type: ignore[arg-type]
    os.kill(int(first.pid or 0), signal.SIGKILL)
    first.join()
    train(data, tmp_path / "run", model=tiny, workers=0, **SMALL)  # type: ignore[arg-type]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_says_that_it_continues(
    make_prepared: Make, tmp_path: Path, number: int, code: int
) -> None:
    program = Path(__file__).with_name("tiny_program.py")
    words = [
        "train",
        str(make_prepared()),
        "--model",
        "tiny_detector",
        "--recipe",
        "paper",
        "--epochs",
        "10000",
    ]
    words += ["--out", str(tmp_path / "run"), "--accelerator", "cpu", "--devices", "1", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, str(program), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
    )
    while not (tmp_path / "run/checkpoints/last.ckpt").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal and as a container do: the loader processes get it too
    out, err = process.communicate(timeout=280)
    assert process.returncode == code, err
    assert "the same command continues it" in err
    assert "Traceback" not in err
    assert "Tip" not in err
    assert not out
