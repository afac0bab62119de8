"""Scanning on a Ray cluster: every worker holds a detector and takes a few files at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sficonv.detect.detector import Detector
from sficonv.detect.options import ScanOptions
from sficonv.detect.reading import SourceFile
from sficonv.detect.results import ScanResult
from sficonv.detect.scanning import skipped_result
from sficonv.ray_cluster import ray_cluster

FILES_PER_TASK = 16
"""Enough to fill a batch of faces, few enough to spread the work."""


def scan_on_ray(
    files: Iterable[SourceFile],
    options: ScanOptions | None = None,
    *,
    address: str | None = None,
    **loading: Any,
) -> Generator[ScanResult, None, None]:
    """`Detector.iter_scan` on a Ray cluster; results come in the order in which they are finished.

    Every machine needs sficonv and must see the files under the same paths. A file that kills its worker
    twice gives the verdict "error"; the files that were with it are scanned again.

    Args:
        files: From `reading.find_files`.
        address: Of the cluster, see `ray_cluster`.
        options: What of the files is looked at.
        **loading: The detector, as for `Detector`: `weights`, `device`, `batch_size`, `mirror`.

    Raises:
        SficonvError: Ray is not installed, or the cluster is not there.
        WeightsError: If the weights cannot be used.

    Example:
        >>> for result in scan_on_ray(find_files("inbox/"), address="auto"):  # doctest: +SKIP
        ...     print(result.path, result.verdict)
    """
    with ray_cluster(address) as ray:
        from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

        cluster = ray.cluster_resources()
        gpus = int(cluster.get("GPU", 0)) if loading.get("device") is None else 0
        # without GPUs one processor stays for this program, which lists the files and takes the results
        workers = gpus or max(1, int(cluster.get("CPU", 1)) - 1)
        scanner: Any = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=-1)(_Scanner)
        idle = [scanner.remote(options or ScanOptions(), loading) for _ in range(workers)]
        skipped: list[ScanResult] = []  # told of at the end; nobody needs to read them
        names = _to_read(files, skipped)
        alone: list[str] = []  # of tasks that crashed, to find out which file it was
        suspects: set[str] = set()
        flying: dict[Any, tuple[Any, list[str]]] = {}
        while True:
            while idle and (task := [alone.pop()] if alone else list(islice(names, FILES_PER_TASK))):
                worker = idle.pop()
                flying[worker.scan.remote(task)] = worker, task
            if not flying:
                yield from skipped
                return
            for reference in ray.wait(list(flying))[0]:
                worker, task = flying.pop(reference)
                idle.append(worker)
                try:
                    yield from ray.get(reference)
                except (ActorDiedError, ActorUnavailableError):
                    if len(task) > 1:
                        alone += task
                    elif task[0] not in suspects:  # something else may have killed the worker
                        suspects.add(task[0])
                        alone += task
                    else:
                        yield _crashed(task[0])
                except RayTaskError as error:
                    raise error.cause from error


def _to_read(files: Iterable[SourceFile], skipped: list[ScanResult]) -> Iterator[str]:
    for file in files:
        if file.skipped:
            skipped.append(skipped_result(file))
        else:
            yield str(file.path)


def _crashed(path: str) -> ScanResult:
    text = f"{path}: the process that read this file died twice (a decoder crashed, or memory ran out)"
    return ScanResult(Path(path), None, None, "error", error=text)


class _Scanner:
    """A worker's detector, loaded with the first files."""

    def __init__(self, options: ScanOptions, loading: dict[str, Any]) -> None:
        self.options, self.loading = options, loading
        self.detector: Detector | None = None

    def scan(self, files: list[str]) -> list[ScanResult]:
        if self.detector is None:
            self.detector = Detector(**self.loading)
        return self.detector(files, self.options)
