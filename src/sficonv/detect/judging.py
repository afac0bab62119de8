"""Scanning in this process, or in several."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from sficonv.detect.detector import Detector
from sficonv.detect.options import ScanOptions
from sficonv.detect.reading import OnProgress, SourceFile
from sficonv.detect.results import ScanResult
from sficonv.detect.scanning import scan_files


def judge_files(
    files: Iterable[SourceFile],
    detector: Detector,
    options: ScanOptions,
    *,
    workers: int = 1,
    evidence: bool = False,
    on_progress: OnProgress | None = None,
) -> Generator[ScanResult, None, None]:
    """Judge files in this process or in several, one result after the other as they are finished.

    Args:
        files: From `reading.find_files`.
        detector: Judges the faces.
        options: What of the files is looked at.
        workers: Processes; 1 is this one, and results then come in the order of the files.
        evidence, on_progress: As for `scan_files`.

    Raises:
        ValueError: If there is no such number of workers, or the detector is a model in memory, which other
            processes cannot load.
        SficonvError: If the processes do not start.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers == 1:
        yield from scan_files(files, detector, options, evidence=evidence, on_progress=on_progress)
    else:
        from sficonv.detect.processes import scan_in_processes  # most scans need no pool of processes

        found = scan_in_processes(files, detector, options, workers=workers, evidence=evidence)
        for result in found:
            if on_progress:
                on_progress(result.path, 1.0)
            yield result
