"""Running jobs: worker processes with limits, restarts, cancelling, and deleting what has become old."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from pebble import ProcessExpired

from sficonv.errors import SficonvError
from sficonv.service import work
from sficonv.service.settings import Settings
from sficonv.service.store import ENDED, Job, JobStore
from sficonv.service.workers import Workers

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""A job that was running when the service ended is begun once more, not for ever."""


class TooBusyError(SficonvError):
    """More work waits than is allowed."""


class Jobs:
    """The work of the service.

    Jobs run in `settings.workers` processes; one more process answers single images, so that these need not
    wait for long videos. Each file gets `settings.time_limit` seconds and `settings.memory_limit` bytes; a
    process that exceeds them, or crashes, is replaced and only its file fails.

    Args:
        settings: Limits and folder. Jobs an earlier service left unfinished are taken up again.

    Raises:
        WeightsError: If the detector cannot be loaded.
        OSError: If the folder cannot be written.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        for folder in (settings.folder, settings.folder / "uploads", settings.folder / "reports"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = JobStore(work.database_of(settings.folder))
        self._running: dict[str, Future[None]] = {}
        self._lock = Lock()
        self._images_waiting = 0
        self._closing = False
        threads = max(1, (os.cpu_count() or 1) // settings.workers)
        loading = (settings.weights, settings.device, settings.memory_limit, threads)
        self._job_workers = Workers(settings.workers, work.warm_up, loading)
        self._image_workers = Workers(1, work.warm_up, loading)
        try:
            warm = [workers.warm_up() for workers in (self._image_workers, self._job_workers)]
            self.detector: dict[str, Any] = warm[0].result()
            self._take_up()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the processes. Unfinished jobs stay in the store and are taken up by the next service."""
        self._closing = True
        self._job_workers.close()
        self._image_workers.close()

    def _limits(self) -> dict[str, Any]:
        chosen = self.settings
        return {
            "max_frames": chosen.max_frames,
            "max_pixels": chosen.max_pixels,
            "max_duration": chosen.max_duration,
        }

    # -- single images ------------------------------------------------------------------------------

    def judge_image(self, path: Path, name: str) -> Future[dict[str, Any]]:
        """Judge an image now.

        Args:
            path: The file.
            name: What to call it.

        Returns:
            A future of the result's dictionary; it raises what `reason` explains.

        Raises:
            TooBusyError: Too many images wait.
        """
        with self._lock:
            if self._images_waiting >= self.settings.max_waiting:
                raise TooBusyError("too many images are waiting; try again in a moment")
            self._images_waiting += 1
        chosen = self.settings
        arguments = (path, name, chosen.weights, chosen.device, self._limits())
        future = self._image_workers.schedule(work.judge_image, arguments, chosen.time_limit)
        future.add_done_callback(self._image_done)
        return future

    def _image_done(self, future: Future[dict[str, Any]]) -> None:
        with self._lock:
            self._images_waiting -= 1

    # -- jobs -----------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """A name nobody can guess."""
        return secrets.token_hex(16)

    def upload_of(self, id: str) -> Path:
        """Where the file of a job has to lie before `submit`."""
        return work.upload_of(self.settings.folder, id)

    def report_of(self, id: str) -> Path:
        """The report of a job that is done."""
        return work.report_of(self.settings.folder, id)

    def check_room(self) -> None:
        """Raise `TooBusyError` if no more jobs may wait."""
        if self.store.waiting() >= self.settings.max_waiting:
            raise TooBusyError("too many jobs are waiting; try again later")

    def submit(self, id: str, name: str, kind: str, options: dict[str, Any]) -> Job:
        """Put a job in line.

        Args:
            id: Of `new_id`; its file lies at `upload_of(id)`.
            name: What the user calls the file.
            kind: `"image"` or `"video"`.
            options: Of the scan.

        Raises:
            TooBusyError: Too many jobs wait.
        """
        self.check_room()
        self.store.add(id, name, kind, self.upload_of(id).stat().st_size, options)
        self._schedule(id)
        job = self.store.get(id)
        assert job is not None
        return job

    def _schedule(self, id: str) -> None:
        chosen = self.settings
        arguments = (id, chosen.folder, chosen.weights, chosen.device, self._limits())
        future = self._job_workers.schedule(work.run_job, arguments, chosen.time_limit)
        with self._lock:
            self._running[id] = future
        future.add_done_callback(self._when_done(id))

    def _when_done(self, id: str) -> Callable[[Future[None]], None]:
        def done(future: Future[None]) -> None:
            with self._lock:
                self._running.pop(id, None)
            if self._closing:  # the next service takes it up
                return
            if not future.cancelled() and (error := future.exception()) is not None:
                log.warning("job %s failed: %s", id, type(error).__name__)
                if isinstance(error, BrokenProcessPool) and self._again(id):
                    return
                self.store.end(id, "failed", reason(error, self.settings))
            job = self.store.get(id)
            if job is None or job.state in ENDED:  # the upload is not needed any more
                self.upload_of(id).unlink(missing_ok=True)

        return done

    def _again(self, id: str) -> bool:
        """Put a job back in line whose worker ended before the work began."""
        job = self.store.get(id)
        if job is None or job.state in ENDED or not self.store.retry(id, ATTEMPTS):
            return False
        Thread(target=self._schedule, args=(id,), daemon=True).start()  # not in the pool's own thread
        return True

    def cancel(self, id: str) -> bool:
        """Stop a job; `False` if it has ended before."""
        stopped = self.store.end(id, "cancelled", "cancelled")
        with self._lock:
            future = self._running.get(id)
        if future is not None:
            future.cancel()
        return stopped

    def delete(self, id: str) -> None:
        """Stop a job and delete everything that is known of it."""
        self.cancel(id)
        self.store.delete(id)
        self.upload_of(id).unlink(missing_ok=True)
        self.report_of(id).unlink(missing_ok=True)

    def delete_old(self) -> int:
        """Delete what ended more than `keep_hours` ago, and files that belong to no job."""
        old = self.store.expired(time.time() - 3600 * self.settings.keep_hours)
        for job in old:
            self.delete(job.id)
        for folder in ("uploads", "reports"):
            for file in (self.settings.folder / folder).iterdir():
                age = time.time() - file.stat().st_mtime
                if age > 3600 * self.settings.keep_hours and self.store.get(file.stem) is None:
                    file.unlink(missing_ok=True)
        return len(old)

    def _take_up(self) -> None:
        """Go on with what an earlier service left; what had been begun is begun once more."""
        for job in self.store.unfinished():
            if not self.upload_of(job.id).is_file():
                self.store.end(job.id, "failed", "the service was stopped and the uploaded file is gone")
            elif job.attempts >= ATTEMPTS:
                self.store.end(job.id, "failed", "the service stopped twice while working on this file")
                self.upload_of(job.id).unlink(missing_ok=True)
            else:
                self._schedule(job.id)


def reason(error: BaseException, settings: Settings) -> str:
    """What to tell the user of a failure outside the scan itself."""
    if isinstance(error, TimeoutError):
        return f"stopped: the work on this file took longer than the limit of {settings.time_limit:.0f} s"
    if isinstance(error, MemoryError | ProcessExpired):
        return (
            "the file made its decoder crash, or it needed more memory than the limit of "
            f"{settings.memory_limit / 1e9:.1f} GB"
        )
    if isinstance(error, BrokenProcessPool):
        return "the process that was to judge the file ended before it began; try again"
    if isinstance(error, CancelledError):
        return "cancelled"
    return f"could not be processed ({type(error).__name__})"
