"""What happens to one uploaded file, in a process of its own: a crash or a hang costs only this file."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sficonv.errors import SficonvError
from sficonv.service.folder import Places
from sficonv.service.store import JobStore, StoreError

if TYPE_CHECKING:
    from sficonv.detect.detector import Detector
    from sficonv.detect.options import ScanOptions
    from sficonv.detect.pictures import Pictures
    from sficonv.detect.results import ScanResult

PROGRESS_EVERY = 0.3
"""Seconds between two notes of the progress."""
PATIENCE = 30.0
"""Seconds to wait for a locked database where the work of minutes is at stake."""


@cache
def _detector(weights: str, device: str | None, threads: int) -> Detector:
    from sficonv.detect.detector import Detector

    return Detector(weights, device=device, threads=threads)


def start(weights: str, device: str | None, memory_limit: int, threads: int) -> None:
    """Get a new process ready; where the detector cannot be loaded, its first task says so."""
    from sficonv.preparation.watchdog import end_with_parent

    end_with_parent()
    os.umask(0o077)
    with suppress(SficonvError):
        warm_up(weights, device, memory_limit, threads)


def warm_up(weights: str, device: str | None, memory_limit: int, threads: int) -> dict[str, Any]:
    """Load the detector into this process, then limit its memory.

    Args:
        weights, device: As of `Settings`.
        memory_limit: Bytes the process may take from now on.
        threads: Processor threads of the process.

    Returns:
        What the page says of the detector: name, band, limits.

    Raises:
        WeightsError: If the weights cannot be used.
    """
    import cv2
    import numpy as np

    cv2.setNumThreads(threads)
    detector = _detector(weights, device, threads)
    detector.scores([np.zeros((detector.crop_size, detector.crop_size, 3), np.uint8)])
    _limit_memory(memory_limit)
    low, high = detector.band
    return {
        "name": detector.name,
        "low": low,
        "high": high,
        "limits": list(detector.limits),
        "weakness": detector.weakness,
    }


def _limit_memory(more: int) -> None:
    """Refuse more than `more` bytes beside what is mapped now (Linux; elsewhere the time limit remains)."""
    try:
        import resource

        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):
        return
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def judge_image(
    path: Path, name: str, weights: str, device: str | None, threads: int, limits: dict[str, Any]
) -> dict[str, Any]:
    """Judge one image.

    Args:
        path: The file.
        name: What to call it in the answer.
        weights, device, threads: As of `warm_up`.
        limits: Fields of `ScanOptions`.

    Returns:
        The result, as `sficonv scan --json` gives it.
    """
    from sficonv.detect.options import ScanOptions

    return _scan(path, name, _detector(weights, device, threads), ScanOptions(**limits)).to_dict()


def run_job(
    id: str, folder: Path, weights: str, device: str | None, threads: int, limits: dict[str, Any]
) -> None:
    """Judge the file of a job; the answer and the progress go into the store, the report beside the file.

    Args:
        id: Of the job.
        folder: Of the service.
        weights, device, threads: As of `warm_up`.
        limits: Fields of `ScanOptions`.
    """
    from sficonv.detect.options import ScanOptions
    from sficonv.detect.pictures import draw
    from sficonv.detect.report import write_report

    places = Places(folder)
    store, quick = JobStore(places.database, PATIENCE), JobStore(places.database, PROGRESS_EVERY)
    job = store.get(id)
    if job is None or not store.start(id):
        return
    noted = 0.0

    def on_progress(path: Path, share: float) -> None:
        nonlocal noted
        if time.monotonic() - noted > PROGRESS_EVERY:
            noted = time.monotonic()
            with suppress(StoreError):  # the next note may come through
                quick.advance(id, share)

    detector = _detector(weights, device, threads)
    options = ScanOptions(**(limits | job.options))
    result = _scan(places.upload(id), job.name, detector, options, evidence=True, on_progress=on_progress)
    pictures = draw(result, detector)
    write_report([result], places.report(id), detector, options=options, draw=lambda *_: pictures)
    store.finish(id, _answer(result, pictures))


def _scan(path: Path, name: str, detector: Detector, options: ScanOptions, **more: Any) -> ScanResult:
    (result,) = detector([path], options, **more)
    return replace(result, shown_as=name)


def _answer(result: ScanResult, pictures: Pictures) -> dict[str, Any]:
    """What the page shows: the result, the strongest faces as pictures, the attention on the strongest."""
    shown: list[dict[str, Any]] = [{"face": p.index, "image": p.uri} for p in pictures.faces]
    if pictures.attention:
        shown[0] |= {"attention": pictures.attention.uri, "regions": pictures.attention.shares}
    return {"result": result.to_dict(), "pictures": shown}
