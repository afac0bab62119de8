"""Scanning in several processes: each holds a detector and takes a few files at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import Any

from joblib import cpu_count
from pebble import ProcessExpired

from sficonv.detect.detector import Detector
from sficonv.detect.options import ScanOptions
from sficonv.detect.reading import SourceFile
from sficonv.detect.results import ScanResult
from sficonv.detect.scanning import scan_files
from sficonv.errors import SficonvError
from sficonv.preparation.watchdog import end_with_parent
from sficonv.workers import Workers

FILES_PER_TASK = 8
"""Enough to fill batches of faces, few enough that a kill costs little."""
LARGE_FILE = 20e6
"""Bytes from which on a file is handed out alone: most likely a video, which would hold up photographs."""
AHEAD = 32
"""Tasks per process that may be done while an earlier one still runs: their results wait in memory."""
TRIES = 2
"""How often the process of a file may end before the file is given up."""


def scan_in_processes(
    files: Iterable[SourceFile],
    detector: Detector,
    options: ScanOptions,
    *,
    workers: int,
    evidence: bool = False,
) -> Iterator[ScanResult]:
    """`scan_files` in several processes, which share the processors; results come as they are finished.

    A process that ends (its decoder crashed, memory ran out, somebody killed it) costs no result: what it
    was working on is judged again, file by file, and only a file whose process ends twice gets the verdict
    "error", with a message that says so.

    Args:
        files: From `reading.find_files`.
        detector: Loaded from a file; each process loads it again.
        options: What of the files is looked at.
        workers: Number of processes.
        evidence: As for `scan_files`.

    Raises:
        ValueError: If the detector is a model in memory.
        SficonvError: If the processes do not start.
    """
    threads = max(1, cpu_count() // workers)
    loading = tuple(sorted((detector.loading() | {"threads": threads}).items()))
    with closing(Workers(workers, _start, (threads,), _context(detector))) as pool:
        try:
            pool.schedule(int, ()).result()
        except BrokenProcessPool as error:
            raise SficonvError(
                "the processes that scan did not start. In a script, put the call below "
                'if __name__ == "__main__": or use workers=1'
            ) from error
        tasks = _tasks(files)
        flying: dict[Future[list[ScanResult]], _Task] = {}

        def hand_out(task: _Task) -> None:
            flying[pool.schedule(_judge, (task.files, loading, options, evidence))] = task

        following = next(tasks, None)
        while following or flying:
            while following and len(flying) < 2 * workers and _ahead(following, flying) < AHEAD * workers:
                hand_out(following)
                following = next(tasks, None)
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                task = flying.pop(future)
                try:
                    results = future.result()
                except (BrokenProcessPool, ProcessExpired) as error:
                    again, results = _after_the_end(task, error)
                    for one in again:
                        hand_out(one)
                yield from results


@dataclass(frozen=True)
class _Task:
    """Files that one process judges together, and how often a process ended over them."""

    number: int
    files: tuple[SourceFile, ...]
    ends: int = 0


def _ahead(task: _Task, flying: dict[Future[list[ScanResult]], _Task]) -> int:
    """By how many tasks this one lies ahead of the first that is not done."""
    return task.number - min((other.number for other in flying.values()), default=task.number)


def _tasks(files: Iterable[SourceFile]) -> Iterator[_Task]:
    return (_Task(number, together) for number, together in enumerate(_together(files)))


def _together(files: Iterable[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    small: list[SourceFile] = []
    for file in files:
        if _size_of(file) > LARGE_FILE:
            yield (file,)
            continue
        small.append(file)
        if len(small) == FILES_PER_TASK:
            yield tuple(small)
            small = []
    if small:
        yield tuple(small)


def _size_of(file: SourceFile) -> int:
    try:
        return file.path.stat().st_size
    except (OSError, ValueError):  # it is reported by who reads it
        return 0


def _after_the_end(task: _Task, error: Exception) -> tuple[list[_Task], list[ScanResult]]:
    """What to do with the files of a process that has ended: tasks to hand out, or the result of one."""
    task = replace(task, ends=task.ends + 1)
    if len(task.files) > 1 or task.ends < TRIES:
        return [replace(task, files=(file,)) for file in task.files], []
    (file,) = task.files
    how = f"exit code {error.exitcode}" if isinstance(error, ProcessExpired) else "it did not start"
    text = (
        f"{file.path}: the process that judged this file ended {TRIES} times ({how}): its decoder crashed, "
        "memory ran out, or somebody ended it; scan it again, alone or with workers=1"
    )
    return [], [ScanResult(file.path, None, None, "error", error=text)]


def _start(threads: int) -> None:
    """Start a new process."""
    import cv2

    end_with_parent()
    cv2.setNumThreads(threads)


def _context(detector: Detector) -> BaseContext:
    """How processes are started: where the system can, as forks of one that has imported all they need.

    That takes a fraction of the time and memory of fresh interpreters. It is not this process that is
    forked: its threads would be missing in the copy.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    needed = ["sficonv.models.checkpoint", "sficonv.conversion.fold"] if detector.explains else []
    context.set_forkserver_preload([__name__, "sficonv.faces.search", *needed])
    return context


@cache
def _detector(loading: tuple[tuple[str, Any], ...]) -> Detector:
    """The detector of this process, loaded with its first file."""
    return Detector(**dict(loading))


def _judge(
    files: tuple[SourceFile, ...], loading: tuple[tuple[str, Any], ...], options: ScanOptions, evidence: bool
) -> list[ScanResult]:
    return list(scan_files(files, _detector(loading), options, evidence=evidence))
