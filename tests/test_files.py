"""Files are whole or not there, on a disk that is really full (a tiny file system)."""

import os
from pathlib import Path

import pytest

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
