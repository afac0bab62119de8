"""Who may use and read the folder of the service, and what happens when it fails."""

import os
import shutil
import sqlite3
import stat
import subprocess
import time

import httpx
import numpy as np
import pytest
from skimage.data import astronaut

from sficonv.detect.demo import write_video
from sficonv.errors import SficonvError
from sficonv.service.folder import Claim, Places

posix = pytest.mark.skipif(os.name != "posix", reason="file modes")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def until(condition, seconds=60):
    """Wait for something."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


# -- who may use it -------------------------------------------------------------------------------------


def test_a_folder_has_one_service(tmp_path):
    first = Claim(Places(tmp_path / "jobs"))
    with pytest.raises(SficonvError, match="another service is using this folder"):
        Claim(Places(tmp_path / "jobs"))
    first.end()
    Claim(Places(tmp_path / "jobs")).end()


def test_a_second_service_on_the_folder_says_why_it_does_not_start(service, start_service):
    with (
        pytest.raises(AssertionError, match="another service is using this folder"),
        start_service(service.folder),
    ):
        pass


@posix
def test_an_empty_folder_that_others_may_read_is_closed(tmp_path):
    (tmp_path / "jobs").mkdir(mode=0o755)
    Claim(Places(tmp_path / "jobs")).end()
    assert mode(tmp_path / "jobs") == 0o700


@posix
def test_a_folder_of_an_earlier_service_is_closed_with_all_in_it(tmp_path):
    places = Places(tmp_path / "jobs")
    for folder in (places.folder, places.uploads, places.reports):
        folder.mkdir(mode=0o755)
    for file in (places.database, places.upload("a"), places.report("b")):
        file.touch(0o644)
    Claim(places).end()
    assert {mode(path) for path in (places.folder, places.uploads, places.reports)} == {0o700}
    assert {mode(path) for path in (places.database, places.upload("a"), places.report("b"))} == {0o600}


@posix
def test_a_folder_of_other_files_that_others_may_read_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(SficonvError, match="chmod 700"):
        Claim(Places(tmp_path))
    assert mode(tmp_path) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "jobs").touch()
    with pytest.raises(SficonvError, match="cannot be the folder"):
        Claim(Places(tmp_path / "jobs"))


@posix
def test_nobody_else_may_read_what_a_running_service_keeps(service, photo):
    service.wait(service.send("/api/jobs", photo).json()["id"])
    for path in (service.folder, *service.folder.rglob("*")):
        assert not mode(path) & 0o077, path


# -- when it fails --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A file system of its own with 12 MB, where that may be had; otherwise an ordinary folder."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def struck(start_service, small_disk):
    """A service for what follows; each test must leave it in order again."""
    with start_service(small_disk / "jobs", tidy_every=0.5) as service:
        yield service


def sound(service, photo):
    """Whether everything works."""
    job = service.wait(service.send("/api/jobs", photo).json()["id"])
    assert job["state"] == "done", job
    assert service.get(f"/api/jobs/{job['id']}/report").status_code == 200
    assert service.get("/api/health").status_code == 200
    return True


def slow_video(path):
    image = astronaut()[:256, :256]
    return write_video(path, (np.roll(image, shift, axis=1) for shift in range(100)), fps=10)


def test_a_full_disk_is_said_ends_the_job_and_is_outlived(struck, small_disk, photo, tmp_path):
    if not small_disk.is_mount():
        pytest.skip("needs the right to mount a small file system")
    answer = struck.send("/api/scan", b"\xff\xd8\xff" + bytes(20_000_000))
    assert answer.status_code == 507
    assert "disk of the service is full" in answer.json()["detail"]
    assert not list((struck.folder / "uploads").iterdir())
    running = struck.send("/api/jobs", slow_video(tmp_path / "slow.mp4"), every="0.1").json()["id"]
    until(lambda: struck.get(f"/api/jobs/{running}").json()["state"] == "running")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            if file.write(bytes(4096)) < 4096:
                file.write(bytes(4096))
    refused = struck.send("/api/jobs", photo)
    assert refused.status_code == 507
    assert "disk of the service is full" in refused.json()["detail"]
    job = struck.wait(running)
    assert (job["state"], job["error"]) == ("failed", "the disk of the service is full")
    filler.unlink()
    assert sound(struck, photo)
    assert struck.get(f"/api/jobs/{running}").json()["state"] == "failed"


def test_a_locked_database_is_said_and_outlived(struck, photo):
    old = struck.send("/api/jobs", photo).json()["id"]
    struck.wait(old)
    other = sqlite3.connect(struck.folder / "jobs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = struck.send("/api/jobs", photo)  # tidying fails meanwhile, too
    assert refused.status_code == 503
    assert "try again" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    assert not list((struck.folder / "uploads").iterdir())
    other.execute("COMMIT")
    with other:
        other.execute("UPDATE jobs SET finished = 1 WHERE id = ?", (old,))
    other.close()
    until(lambda: struck.get(f"/api/jobs/{old}").status_code == 404)  # old jobs are deleted as before
    assert sound(struck, photo)


@pytest.mark.parametrize("damage", [b"this is no database, " * 1000, b""], ids=["overwritten", "emptied"])
def test_a_damaged_database_is_set_aside(struck, photo, damage):
    (struck.folder / "jobs.sqlite").write_bytes(damage)
    statuses = []
    until(lambda: statuses.append(httpx.get(struck.url + "/api/jobs").status_code) or statuses[-1] == 200)
    assert set(statuses) <= {200, 503}
    assert sound(struck, photo)


def test_a_removed_folder_is_made_again(struck, photo):
    shutil.rmtree(struck.folder)
    for answer in [struck.send(path, photo) for path in ("/api/jobs", "/api/scan")]:
        assert answer.status_code in (200, 202, 503)
        assert answer.status_code != 503 or answer.json()["detail"]
    until(lambda: struck.get("/api/health").status_code == 200)
    assert sound(struck, photo)
    with pytest.raises(SficonvError, match="another service"):
        Claim(Places(struck.folder))
    assert mode(struck.folder) == 0o700


def test_a_job_nobody_works_on_does_not_stay_running(struck, photo):
    database = sqlite3.connect(struck.folder / "jobs.sqlite")
    with database:
        database.execute(
            "INSERT INTO jobs (id, name, kind, size, options, state, created) "
            "VALUES ('lost', 'a.jpg', 'image', 1, '{}', 'running', 0)"
        )
    database.close()
    assert struck.wait("lost")["state"] == "failed"


def test_no_failure_of_the_folder_was_a_traceback_or_an_answer_500(struck):
    log = struck.log.read_text()
    assert "Traceback" not in log
    assert '" 500' not in log
