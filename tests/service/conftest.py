"""A real service: uvicorn in a process of its own, on a free port, with small limits."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from sficonv.detect.demo import write_video

_RUN = """
import json, sys
from pathlib import Path
from sficonv.service.command import run
from sficonv.service.settings import Settings
if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    run(Settings(Path(options.pop("folder")), **options))
"""


@dataclass
class Service:
    """A running service."""

    url: str
    process: subprocess.Popen
    folder: Path
    log: Path

    def get(self, path, **kwargs):
        return httpx.get(self.url + path, timeout=60, **kwargs)

    def send(self, path, file, name=None, **data):
        content = file.read_bytes() if isinstance(file, Path) else file
        return httpx.post(
            self.url + path, files={"file": (name or "upload", content)}, data=data, timeout=120
        )

    def wait(self, id, seconds=600):
        """The job once it has ended."""
        until = time.monotonic() + seconds
        while (job := self.get(f"/api/jobs/{id}").json())["state"] in ("waiting", "running"):
            assert time.monotonic() < until, f"the job has not ended: {job}"
            time.sleep(0.2)
        return job


@contextmanager
def running(folder, **options):
    """Start a service and wait until it answers; stop it afterwards."""
    import json
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script, log = folder.parent / "run_service.py", folder.parent / f"service-{port}.log"
    script.write_text(_RUN)
    options = {"port": port, "folder": str(folder), **options}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, script, json.dumps(options)], stdout=output, stderr=output, env=environment
        )
    service = Service(f"http://127.0.0.1:{port}", process, folder, log)
    try:
        until = time.monotonic() + 900
        while True:
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            try:
                if service.get("/api/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        yield service
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """One service for the tests that do not need limits of their own."""
    with running(
        tmp_path_factory.mktemp("service") / "jobs",
        max_upload=20_000_000,
        upload_pause=3.0,
        max_duration=20.0,
        time_limit=900.0,
    ) as found:
        yield found


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A photograph with one face."""
    path = tmp_path_factory.mktemp("media") / "photo.jpg"
    Image.fromarray(astronaut()[:400]).save(path, quality=92)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Two seconds of that face, moving."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    image = astronaut()[:400]
    write_video(path, (np.roll(image, shift, axis=1) for shift in range(20)), fps=10)
    return path


@pytest.fixture(scope="session")
def start_service():
    """`with start_service(folder, **options) as service`, for tests that need limits of their own."""
    return running
