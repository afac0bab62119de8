"""`prepare` stopped, killed and started again: nothing twice, nothing lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from sficonv.datasets.manifest import read_manifest
from sficonv.errors import DataError
from sficonv.preparation.extract import read_part
from sficonv.preparation.prepare import prepare

RUN = """
import sys
from sficonv.preparation.prepare import prepare
if __name__ == "__main__":
    prepare(sys.argv[1], sys.argv[2], frames=3, size=64, workers=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on(ffpp: Path, tmp_path: Path, how: signal.Signals, interruptible) -> None:
    source = tmp_path / "source"
    for i in range(20):  # enough to be stopped in the middle on a slow machine and on a fast one
        for path in ffpp.glob("original_sequences/*/*/*/*.mp4"):
            (source / "real").mkdir(parents=True, exist_ok=True)
            (source / "real" / f"{i}_{path.name}").symlink_to(path)
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(RUN)
    running = subprocess.Popen(
        [sys.executable, str(script), str(source), str(out)],
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=interruptible,
    )
    deadline = time.monotonic() + 60
    while not (parts := list(out.glob(".parts/*/*.json"))) and time.monotonic() < deadline:
        time.sleep(0.002)
    running.send_signal(how)
    running.communicate(timeout=60)
    assert parts and running.returncode != 0
    while _alive(running.pid) and time.monotonic() < deadline:  # workers end with their parent
        time.sleep(0.05)
    assert not _alive(running.pid)
    assert not (out / "manifest.parquet").exists()
    finished = {path: path.stat().st_mtime_ns for path in out.glob(".parts/*/*.json")}
    assert len(finished) < 40, "the run was over before it could be stopped"

    report = prepare(source, out, frames=3, size=64, workers=0)
    assert report.resumed == len(finished)
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())  # nothing twice
    assert (
        report.manifest_hash
        == prepare(source, tmp_path / "fresh", frames=3, size=64, workers=0).manifest_hash
    )
    on_disk = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert on_disk == set(read_manifest(out)["path"])


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_only_what_is_missing_or_changed_is_done_again(photos: Path, tmp_path: Path, problems_of) -> None:
    out = tmp_path / "out"
    first = prepare(photos, out, workers=0)
    again = prepare(photos, out, workers=0)
    assert again.resumed == 6 and again.manifest_hash == first.manifest_hash
    (out / "crops/photos/real/real0_0.png").unlink()
    repaired = prepare(photos, out, workers=0)
    assert repaired.resumed == 5 and repaired.manifest_hash == first.manifest_hash
    (photos / "real/real1.png").write_text("damaged meanwhile")
    (photos / "fake/fake2.png").unlink()
    Image.open(photos / "real/real0.png").rotate(3).save(photos / "real/more.png")
    changed = prepare(photos, out, workers=0)
    assert changed.resumed == 4 and changed.items == 6 and changed.crops == 5
    assert list(problems_of(out)) == ["real/real1.png"]
    assert not (out / "crops/photos/real/real1_0.png").exists()


def test_a_damaged_part_is_done_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(photos, out, workers=0)
    parts = sorted(out.glob(".parts/*/*.json"))
    for part, content in zip(parts, ("", "[1]", '{"source": "x"}'), strict=False):
        part.write_text(content)
    for part, crops in zip(parts[3:5], ("none", [{"path": "crops/other.png"}]), strict=True):
        part.write_text(json.dumps({**json.loads(part.read_text()), "crops": crops}))
    again = prepare(photos, out, workers=0)
    assert again.resumed == 1 and again.manifest_hash == first.manifest_hash


def test_other_options_need_another_folder(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(photos, out, workers=0)
    with pytest.raises(DataError, match=r"other options \(margin: 1.3 -> 1.5\).*--no-resume"):
        prepare(photos, out, margin=1.5, workers=0)
    assert read_part(out, "real/real0.png") is not None
    report = prepare(photos, out, margin=1.5, workers=1, resume=False)
    assert report.resumed == 0 and report.crops == 6
    (out / "prepare.json").write_text("{")
    with pytest.raises(DataError, match=r"prepare\.json: damaged"):
        prepare(photos, out, margin=1.5, workers=0)


def test_folders_that_are_not_ours_are_left_alone(photos: Path, tmp_path: Path) -> None:
    for resume in (True, False):
        with pytest.raises(DataError, match="not empty"):
            prepare(photos, tmp_path, resume=resume)
    with pytest.raises(DataError, match="lies inside"):
        prepare(photos, photos / "out")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        prepare(photos, tmp_path / "file")
    with pytest.raises(DataError, match="cannot be written to"):
        prepare(photos, tmp_path / "file" / "below")
    with pytest.raises(DataError, match="no such folder"):
        prepare(tmp_path / "missing", tmp_path / "out")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_second_run_leaves_the_folder_to_the_first(photos: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(photos), str(out)]
    first = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (out / "prepare.json").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        first.send_signal(signal.SIGSTOP)
        assert first.poll() is None, "the run was over before it could be held"
        before = sorted(path.as_posix() for path in out.rglob("*.json"))
        for resume in (True, False):
            with pytest.raises(DataError, match=rf"^{out}: another run of prepare is writing"):
                prepare(photos, out, frames=3, size=64, workers=0, resume=resume)
        assert set(before) <= {path.as_posix() for path in out.rglob("*.json")}
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait(timeout=60)
    assert prepare(photos, out, frames=3, size=64, workers=0).crops == 6  # a killed run holds nothing
    subprocess.run(command, check=True, timeout=120)  # nor does one that is done


def test_a_lock_without_its_run_is_no_hindrance(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.prepare.lock").touch()
    assert prepare(photos, tmp_path / "out", size=64, workers=0).crops == 6


def contents(out: Path) -> dict[str, bytes]:
    """What a prepared folder holds for its user: crops, manifest and problems."""
    files = [*out.glob("crops/**/*"), *out.glob("*.parquet"), out / "problems.csv"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_killed_three_times_on_another_disk_is_as_if_undisturbed(
    ffpp: Path, tmp_path: Path, other_disk: Path
) -> None:
    source = tmp_path / "source"
    (source / "real").mkdir(parents=True)
    (source / "fake").mkdir()
    for i in range(4):
        for path in ffpp.glob("*/*/*/*/*.mp4"):
            label = "real" if "original" in path.as_posix() else "fake"
            (source / label / f"{i}_{path.name}").symlink_to(path)
    (source / "real/broken.mp4").write_bytes(b"no video")
    script, killed, undisturbed = tmp_path / "run.py", other_disk / "killed", tmp_path / "undisturbed"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(source)]
    subprocess.run([*command, str(undisturbed)], check=True, timeout=240)
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed of the moments: {seed}")  # shown by pytest where the test fails
    rng = random.Random(seed)
    kills = 0
    for attempt in range(1, 4):
        done = len(list(killed.glob(".parts/*/*.json")))
        running = subprocess.Popen([*command, str(killed)], start_new_session=True)
        # A random moment: some parts after the start, or just anywhere in the time that one part takes.
        enough, wait = done + rng.randint(0, 5), rng.uniform(0, 0.3)
        deadline = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < deadline:
            if len(list(killed.glob(".parts/*/*.json"))) >= enough:
                break
            time.sleep(0.002)
        time.sleep(wait)
        kills += running.poll() is None
        os.killpg(running.pid, signal.SIGKILL) if running.poll() is None else None
        running.wait(timeout=60)
        if (killed / "manifest.parquet").exists():
            read_manifest(killed)  # readable at every moment
        print(f"kill {attempt}: {len(list(killed.glob('.parts/*/*.json')))} parts are done")
    assert kills == 3, "a run was over before it could be killed"
    subprocess.run([*command, str(killed)], check=True, timeout=240)
    assert contents(killed) == contents(undisturbed)
    assert {p.name for p in killed.iterdir()} == {p.name for p in undisturbed.iterdir()}
    assert not list(killed.glob(".parts/*/.*")) and not list(killed.glob(".parts/*/*.watch"))


def test_the_note_of_a_worker_killed_after_its_part_is_removed(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(photos, out, size=64, workers=0)
    note = next(out.glob(".parts/*/*.json")).with_suffix(".watch")
    note.touch()
    assert prepare(photos, out, size=64, workers=0).crops == 6
    assert not note.exists()


@pytest.mark.parametrize("left", [".prepare.json.abc123", ".manifest.parquet.abc123", ".problems.csv.abc123"])
def test_a_file_half_written_at_the_kill_is_removed(photos: Path, tmp_path: Path, left: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / left).write_bytes(b"half")
    assert prepare(photos, out, size=64, workers=0).crops == 6
    assert not (out / left).exists()
