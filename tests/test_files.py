"""Files are whole or not there, on a disk that is really full (a tiny file system)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sficonv import files
from sficonv.errors import WeightsError
from sficonv.files import atomic_file, naming
from sficonv.models import create_model, save_weights


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_file_gets_the_rights_that_the_user_gives_new_files(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_file(tmp_path / "report.html") as temporary:
            temporary.write_text("whole")
    finally:
        os.umask(before)
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == mode


def test_others_may_read_weights_like_any_new_file(tmp_path: Path) -> None:
    weights = save_weights(tmp_path / "weights", create_model("meso_inception4"))
    assert weights.stat().st_mode == weights.with_suffix(".json").stat().st_mode


def test_a_full_disk_leaves_the_file_that_was_there(tiny_disk: Path) -> None:
    file = tiny_disk / "weights.json"
    file.write_text("whole")
    with pytest.raises(OSError, match="No space left"), atomic_file(file) as temporary:
        temporary.write_bytes(bytes(100_000))
    assert file.read_text() == "whole"
    assert list(tiny_disk.iterdir()) == [file]


def test_a_full_disk_leaves_no_half_of_a_detector(tiny_disk: Path) -> None:
    model = create_model("meso_inception4")
    with pytest.raises(WeightsError, match="No space left"):
        save_weights(tiny_disk / "weights", model)
    assert not list(tiny_disk.iterdir())
    (tiny_disk / "weights.safetensors").write_bytes(b"old")
    (tiny_disk / "weights.json").write_text("{}")
    with pytest.raises(WeightsError, match="No space left"):
        save_weights(tiny_disk / "weights", model)
    assert (tiny_disk / "weights.safetensors").read_bytes() == b"old"
    assert (tiny_disk / "weights.json").read_text() == "{}"


def test_an_error_in_the_block_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with pytest.raises(RuntimeError), atomic_file(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_an_error_that_names_no_file_is_given_its_name() -> None:
    full = os.open("/dev/full", os.O_WRONLY)  # every write to it meets a full disk
    with pytest.raises(OSError, match="No space left on device: 'report.html'"), naming(Path("report.html")):
        os.write(full, b"page")
    os.close(full)


KILLED = """
import os, signal, sys
from pathlib import Path
from sficonv.files import atomic_file, folder_beside
with {kind}(Path(sys.argv[1])) as new:
    (new / "half" if new.is_dir() else new).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="locks that end with their process")
@pytest.mark.parametrize("kind", ["atomic_file", "folder_beside"])
def test_what_a_killed_process_left_goes_with_the_next_try(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "report.html"
    subprocess.run([sys.executable, "-c", KILLED.format(kind=kind), str(file)], check=False)
    assert len(list(tmp_path.iterdir())) == 1  # it was killed in the middle
    with getattr(files, kind)(file):
        pass
    assert [path.name for path in tmp_path.iterdir()] == (["report.html"] if kind == "atomic_file" else [])


def test_two_that_write_the_same_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    with atomic_file(file) as first, atomic_file(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"  # it ended last
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_of_the_temporary_file_names_the_one_that_was_asked_for(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "report.html"
    with pytest.raises(FileNotFoundError) as caught, atomic_file(missing):
        pass
    assert caught.value.filename == str(missing)
