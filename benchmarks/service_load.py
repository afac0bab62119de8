"""How the service bears many people at once, and files made to break it. Writes docs/service.md.

    python benchmarks/service_load.py --seconds 120 --clients 50 --stalled 8 --mutants 500

`--clients` upload good and bad files at the same time for `--seconds`, of which `--stalled` begin uploads and
send nothing more; then `--mutants` damaged images and videos are sent. Counted are answers by status, jobs
that were accepted but never ended, and the memory of the service with all its processes. At last the service
gets SIGTERM while `--stalled` uploads stall, and another one `kill -9` with `--killed` uploads under way.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from skimage.data import astronaut

from document import keep_rows, write_between
from sficonv.detect.demo import write_video
from watch import memory

DOCUMENT = Path(__file__).parents[1] / "docs" / "service.md"
MARKS = ("<!-- load: written by benchmarks/service_load.py -->", "<!-- end of load -->")
ENDED = ("done", "failed", "cancelled")
SOUND = ("photo.jpg", "clip.mp4")
MUTANTS_AT_ONCE = 8


@dataclass
class Outcome:
    """What a run saw."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    to_sound: Counter[int] = field(default_factory=Counter)  # those to files that are not damaged
    to_stalled: Counter[int] = field(default_factory=Counter)
    reasonless: int = 0
    jobs: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, answer: httpx.Response, seconds: float, name: str = "") -> None:
        with self.lock:
            self.statuses[answer.status_code] += 1
            if name in SOUND:
                self.to_sound[answer.status_code] += 1
            self.waits.append(seconds)
            self.answers.append({"file": name, "status": answer.status_code, "seconds": seconds})
            if answer.status_code >= 400 and not answer.json().get("detail"):
                self.reasonless += 1
            if answer.status_code == 202:
                self.jobs.append(answer.json()["id"])


def good_and_bad(folder: Path) -> dict[str, bytes]:
    """Files as people send them."""
    image = astronaut()[20:260, 100:340]  # small: what is measured is the service, not the decoder
    jpeg, large = io.BytesIO(), io.BytesIO()
    Image.fromarray(image).save(jpeg, "jpeg", quality=90)
    Image.new("1", (9000, 9000)).save(large, "png")
    video = write_video(folder / "a.mp4", (np.roll(image, shift, axis=1) for shift in range(10)), fps=10)
    clip = video.read_bytes()
    return {
        "photo.jpg": jpeg.getvalue(),
        "clip.mp4": clip,
        "cut.jpg": jpeg.getvalue()[:4000],
        "cut.mp4": clip[: len(clip) // 2],
        "text.jpg": b"this is a text, not a photograph",
        "empty.mp4": b"",
        "bomb.png": large.getvalue(),
    }


def start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The service as a user starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sficonv", "serve", "--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            if httpx.get(url + "/api/health", timeout=30).status_code == 200:
                return process, url
        except httpx.TransportError:
            time.sleep(0.5)
    raise SystemExit("the service did not start")


def stall(url: str) -> int | None:
    """Begin an upload, send nothing more, and give the status of the answer, if one ever comes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(
            f"POST /api/scan HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n"
            "Content-Type: multipart/form-data; boundary=limit\r\n\r\n"
            '--limit\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'.encode()
        )
        try:
            return int(connection.recv(64).split()[1])
        except (TimeoutError, IndexError):
            return None


def load(url: str, files: dict[str, bytes], clients: int, stalled: int, seconds: float) -> Outcome:
    """`clients` threads send one file after the other, `stalled` of them none to its end."""
    outcome = Outcome()
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        rng = np.random.default_rng(number)
        with httpx.Client(timeout=600) as session:
            while time.monotonic() < until:
                name = str(rng.choice(list(files)))
                path = "/api/jobs" if rng.random() < 0.2 else "/api/scan"
                begun = time.monotonic()
                answer = session.post(url + path, files={"file": (name, files[name])})
                outcome.note(answer, time.monotonic() - begun, name)
                if answer.status_code == 429:
                    time.sleep(float(answer.headers["retry-after"]))

    def stalling(number: int) -> None:
        while time.monotonic() < until:
            status = stall(url)
            with outcome.lock:
                outcome.to_stalled[status or 0] += 1

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(stalling if n < stalled else client, n) for n in range(clients)]
        for future in running:
            future.result()
    return outcome


def mutant(files: dict[str, bytes], number: int) -> bytes:
    """A damaged copy of the photograph (odd numbers) or the clip: bytes changed, every third cut short."""
    rng = np.random.default_rng(number)
    content = bytearray(files["photo.jpg" if number % 2 else "clip.mp4"])
    for position in rng.integers(0, len(content), rng.integers(1, 60)):
        content[position] = rng.integers(256)
    return bytes(content[: rng.integers(1, len(content) + 1)]) if number % 3 == 0 else bytes(content)


def fuzz(url: str, files: dict[str, bytes], mutants: int) -> Outcome:
    """Damaged copies, as many at a time as the service takes; what it refuses as too much is sent again."""
    outcome = Outcome()

    def send(number: int) -> None:
        path, content = "/api/scan" if number % 2 else "/api/jobs", mutant(files, number)
        while True:
            begun = time.monotonic()
            answer = session.post(url + path, files={"file": ("mutant", content)})
            if answer.status_code != 429:
                break
            time.sleep(float(answer.headers["retry-after"]))
        outcome.note(answer, time.monotonic() - begun, f"mutant {number}")

    with httpx.Client(timeout=600) as session, ThreadPoolExecutor(MUTANTS_AT_ONCE) as pool:
        list(pool.map(send, range(mutants)))
    return outcome


def unfinished(url: str, jobs: list[str], seconds: float = 1200) -> int:
    """Jobs that were accepted and never end, or are gone."""
    until = time.monotonic() + seconds
    left = list(jobs)  # in the order in which they are worked on
    with httpx.Client(timeout=60) as session:
        while left and time.monotonic() < until:
            if session.get(f"{url}/api/jobs/{left[0]}").json().get("state") in ENDED:
                left.pop(0)
            else:
                time.sleep(0.5)
    return len(left)


def end(process: subprocess.Popen[bytes], url: str, stalled: int) -> float:
    """Seconds from SIGTERM to the end of the service while uploads stall."""
    with ThreadPoolExecutor(max(1, stalled)) as pool:
        for _ in range(stalled):
            pool.submit(stall, url)
        time.sleep(1)
        begun = time.monotonic()
        process.terminate()
        process.wait(120)
        return time.monotonic() - begun


def left_by_a_kill(folder: Path, uploads: int) -> tuple[int, int]:
    """Uploads on the disk when a service is killed in the middle of them, and after its restart."""
    arrived = folder / "uploads"
    process, url = start(folder)
    with ThreadPoolExecutor(uploads) as pool:
        for _ in range(uploads):
            pool.submit(stall, url)
        until = time.monotonic() + 15  # less than what a stalled upload is given
        while len(list(arrived.iterdir())) < uploads and time.monotonic() < until:
            time.sleep(0.1)
        process.kill()
        process.wait()
        under_way = len(list(arrived.iterdir()))
    process, _ = start(folder)
    left = len(list(arrived.iterdir()))
    process.terminate()
    process.wait(120)
    return under_way, left


def main() -> None:
    """Run all and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--stalled", type=int, default=8, help="clients that stall")
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--killed", type=int, default=40, help="uploads under way at the kill")
    parser.add_argument("--note", default="", help="a sentence on the machine, printed above the table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = good_and_bad(Path(scratch))
        process, url = start(Path(scratch) / "jobs")
        peak, stop = [memory(process.pid)], threading.Event()
        idle = peak[0]

        def watch() -> None:
            while not stop.wait(0.5):
                peak[0] = max(peak[0], memory(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            begun = time.monotonic()
            loaded = load(url, files, given.clients, given.stalled, given.seconds)
            lost = unfinished(url, loaded.jobs)
            print(f"load: {time.monotonic() - begun:.0f} s", _counts(loaded.statuses), flush=True)
            fuzzed = fuzz(url, files, given.mutants)
            lost_mutants = unfinished(url, fuzzed.jobs)
            print(f"all: {time.monotonic() - begun:.0f} s", _counts(fuzzed.statuses), flush=True)
            alive = httpx.get(url + "/api/health", timeout=60).status_code == 200
        finally:
            stop.set()
            watcher.join()
            ending = end(process, url, given.stalled)
        under_way, left = left_by_a_kill(Path(scratch) / "killed", given.killed)
    rows = [
        ("clients at the same time", given.clients),
        ("of which stall in the middle of an upload", given.stalled),
        ("seconds", f"{given.seconds:.0f}"),
        ("answers", sum(loaded.statuses.values())), ("by status", _counts(loaded.statuses)),
        ("by status, files that are not damaged", _counts(loaded.to_sound)),
        ("by status, stalled uploads (0: none came)", _counts(loaded.to_stalled)),
        ("answers 5xx", sum(n for s, n in loaded.statuses.items() if s >= 500)),
        ("refusals without a reason", loaded.reasonless),
        ("jobs accepted / lost", f"{len(loaded.jobs)} / {lost}"),
        ("longest wait for an answer", f"{max(loaded.waits):.1f} s"),
        ("median wait", f"{float(np.median(loaded.waits)):.2f} s"),
        ("memory of all processes, idle / most", f"{idle:.0f} / {peak[0]:.0f} MB"),
        ("mutated files", given.mutants), ("their answers by status", _counts(fuzzed.statuses)),
        ("answers 5xx to them", sum(n for s, n in fuzzed.statuses.items() if s >= 500)),
        ("jobs of them accepted / lost", f"{len(fuzzed.jobs)} / {lost_mutants}"),
        ("the service still answers", "yes" if alive else "NO"),
        ("from SIGTERM, with as many stalled uploads, to its end", f"{ending:.1f} s"),
        ("uploads under way at a `kill -9` / left after the restart", f"{under_way} / {left}"),
    ]  # fmt: skip
    answers = {"load": loaded.answers, "mutants": fuzzed.answers}
    keep_rows("service_load", (row | {"phase": phase} for phase, some in answers.items() for row in some))
    keep_rows("service_load_summary", ({"what": name, "value": value} for name, value in rows))
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    when = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"{when}, {os.cpu_count()} processors ({platform.machine()}), one worker, shipped detector."
    write_between(DOCUMENT, MARKS, [f"{head} {given.note}".rstrip(), "", *table])
    print(json.dumps(dict(rows), default=str, indent=2))


def _counts(statuses: Counter[int]) -> str:
    return ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))


if __name__ == "__main__":
    main()
