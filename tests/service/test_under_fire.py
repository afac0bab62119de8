"""The service when clients stall or leave, when it is killed or stopped, and when much waits."""

import json
import os
import signal
import socket
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from skimage.data import astronaut

from sficonv.detect.demo import write_video

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="needs /proc to find the workers"
)


def workers(service):
    """Processes of the service that work on files."""
    lists = [file.read_text() for file in Path(f"/proc/{service.process.pid}/task").glob("*/children")]
    pids = [int(pid) for pid in " ".join(lists).split()]
    return sorted(pid for pid in pids if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text())


@contextmanager
def paused(pids):
    """Hold processes for a while."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def until(condition, seconds=60):
    """Wait for something."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


HEAD = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
END = b"\r\n--limit--\r\n"


def begin_upload(service, sent, path="/api/scan", length=1_000_000):
    """A connection with an upload that claims to be longer than what is sent of it."""
    host, port = service.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(HEAD) + length + len(END)}\r\n"
        "Content-Type: multipart/form-data; boundary=limit\r\n\r\n"
    )
    connection.sendall(head.encode() + HEAD + sent)
    return connection


def answer_to(connection):
    """Status and body of the answer, once the service has closed the connection."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def uploads(service):
    return list((service.folder / "uploads").iterdir())


def test_stalled_uploads_block_nobody_and_are_ended(service, photo):
    stalled = [begin_upload(service, photo.read_bytes()[:5000]) for _ in range(12)]
    assert service.send("/api/scan", photo).status_code == 200
    for connection in stalled:
        status, body = answer_to(connection)
        assert status == 408
        assert "stalled" in body["detail"]
    until(lambda: not uploads(service))


def held(service, connection):
    """Whether the service holds its end of a connection."""
    ends = [f":{int(port):04X}" for port in (service.url.rpartition(":")[2], connection.getsockname()[1])]
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(ends[0]) and row[2].endswith(ends[1]) and row[3] == "01" for row in rows)


def test_connections_that_bring_no_request_or_read_no_answer_are_ended(service):
    host, port = service.url.removeprefix("http://").split(":")
    whole = f"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    connections = [socket.create_connection((host, int(port))) for _ in range(4)]
    for connection, sent in zip(connections, (b"", whole[:30], whole + whole[:30], 30 * whole), strict=True):
        connection.sendall(sent)
    assert all(held(service, connection) for connection in connections)
    until(lambda: not any(held(service, connection) for connection in connections), 30)
    for connection in connections:
        connection.close()


def test_an_upload_that_drips_is_ended(service):
    dripping = begin_upload(service, b"")
    with pytest.raises(OSError):
        for _ in range(600):
            dripping.sendall(b"x")
            time.sleep(0.1)


def test_a_pause_that_is_short_enough_is_borne(service, photo):
    content = photo.read_bytes()
    connection = begin_upload(service, content[:9000], length=len(content))
    time.sleep(1)
    connection.sendall(content[9000:] + END)
    assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_who_leaves_is_not_judged_leaves_no_file_and_no_traceback(service, photo):
    with paused(workers(service)):  # nothing is judged
        content = photo.read_bytes()
        whole = [begin_upload(service, content + END, length=len(content)) for _ in range(6)]
        partial = [begin_upload(service, content[:5000]) for _ in range(6)]
        until(lambda: len(uploads(service)) == 12)
        for connection in whole + partial:
            connection.close()
        until(lambda: not uploads(service))
    assert service.send("/api/scan", photo).status_code == 200
    assert "Traceback" not in service.log.read_text()


def test_deleting_jobs_that_wait_restarts_no_worker(service, photo):
    before = workers(service)
    with paused(before):
        waiting = [service.send("/api/jobs", photo).json()["id"] for _ in range(20)]
        for id in waiting[1:]:  # the first may have been handed out
            assert httpx.delete(f"{service.url}/api/jobs/{id}").status_code == 204
    assert service.wait(waiting[0])["state"] == "done"
    assert service.wait(service.send("/api/jobs", photo).json()["id"])["state"] == "done"
    assert workers(service) == before


def test_killed_with_uploads_under_way_and_jobs_in_line_then_stopped(start_service, tmp_path, clip, photo):
    folder = tmp_path / "jobs"
    image = astronaut()
    write_video(tmp_path / "slow.mp4", (np.roll(image, shift, axis=1) for shift in range(100)), fps=10)
    paths = ("/api/scan", "/api/jobs")
    with start_service(folder) as service:
        files = (tmp_path / "slow.mp4", clip, photo)
        ids = [service.send("/api/jobs", file, every="0.1").json()["id"] for file in files]
        stalled = [begin_upload(service, photo.read_bytes()[:9000], paths[n % 2]) for n in range(40)]
        until(lambda: len(uploads(service)) >= 40)
        for pid in (service.process.pid, *workers(service)):
            os.kill(pid, signal.SIGKILL)
    with start_service(folder) as service:
        assert {file.name for file in uploads(service)} <= set(ids)
        jobs = [service.wait(id) for id in ids]
        assert [job["state"] for job in jobs] == ["done"] * 3
        assert service.get(f"/api/jobs/{ids[0]}/report").status_code == 200
        assert not uploads(service)
        stalled = [begin_upload(service, photo.read_bytes()[:9000], path) for path in paths]
        until(lambda: len(uploads(service)) == 2)
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(60)  # it waited for ever; how long it takes, benchmarks/service_load.py measures
        for connection in stalled:
            status, body = answer_to(connection)
            assert status == 503
            assert "stopped" in body["detail"]
        assert not uploads(service)
        assert "Traceback" not in service.log.read_text()
    hours_ago = dict(zip(ids, (30.0, 24.1, 23.9), strict=True))
    with sqlite3.connect(folder / "jobs.sqlite") as database:
        for id, hours in hours_ago.items():
            database.execute("UPDATE jobs SET finished = ? WHERE id = ?", (time.time() - 3600 * hours, id))
    database.close()
    with start_service(folder, keep_hours=24.0, tidy_every=0.2) as service:
        until(lambda: len(service.get("/api/jobs").json()) <= 1)
        assert [job["id"] for job in service.get("/api/jobs").json()] == ids[2:]
        reports = folder / "reports"
        until(lambda: {file.name.partition(".")[0] for file in reports.iterdir()} == {ids[2]})
    with start_service(folder, keep_hours=1e-6) as service:
        until(lambda: not service.get("/api/jobs").json())
        assert not list((folder / "reports").iterdir())
