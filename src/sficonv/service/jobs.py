"""Running jobs: worker processes with limits, restarts, cancelling, and deleting what has become old."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self

from joblib import cpu_count
from pebble import ProcessExpired

from sficonv.errors import SficonvError
from sficonv.service import work
from sficonv.service.folder import Claim, Places
from sficonv.service.settings import Settings
from sficonv.service.store import ENDED, Job, JobStore, StoreError, Trouble, disk_is_full
from sficonv.workers import Workers

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
        SficonvError: The folder cannot be used (see `Claim`), or the detector cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.places = Places(settings.folder)
        self._claim = Claim(self.places)
        self.store = JobStore(self.places.database)
        self._running: dict[str, Future[None]] = {}
        self._arriving: set[str] = set()
        self._failures: dict[str, str] = {}  # what the store does not know yet
        self._lock = Lock()
        self._mending = Lock()
        self._images_waiting = 0
        self._closing = False
        self._threads = max(1, cpu_count() // settings.workers)
        loading = (settings.weights, settings.device, settings.memory_limit, self._threads)
        self._job_workers = Workers(settings.workers, work.start, loading)
        self._image_workers = Workers(1, work.start, loading)
        try:
            self.store.prepare()
            warm = [w.schedule(work.warm_up, loading) for w in (self._image_workers, self._job_workers)]
            self.detector: dict[str, Any] = warm[0].result()
            self._take_up()
            self._sweep()
        except BaseException as error:
            self.close()
            if isinstance(error, BrokenProcessPool):
                raise SficonvError(
                    "the processes that judge files ended at once; the lines above say why"
                ) from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the processes. Unfinished jobs stay in the store and are taken up by the next service."""
        self._closing = True
        ending = [Thread(target=workers.close) for workers in (self._job_workers, self._image_workers)]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()
        self._claim.end()

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
        arguments = (path, name, chosen.weights, chosen.device, self._threads, self._limits())
        future = self._image_workers.schedule(work.judge_image, arguments, chosen.time_limit)
        future.add_done_callback(self._image_done)
        return future

    def _image_done(self, future: Future[dict[str, Any]]) -> None:
        with self._lock:
            self._images_waiting -= 1

    # -- jobs -----------------------------------------------------------------------------------------

    @contextmanager
    def arriving(self) -> Iterator[str]:
        """The name of a new upload, hard to guess; its file is deleted at the end unless a job has it."""
        id = secrets.token_hex(16)
        with self._lock:
            self._arriving.add(id)
        try:
            yield id
        finally:
            with self._lock:
                kept = id in self._running
                self._arriving.discard(id)
            if not kept:
                self.places.upload(id).unlink(missing_ok=True)

    def check_room(self) -> None:
        """Raise `TooBusyError` if no more jobs may wait."""
        if self.store.waiting() >= self.settings.max_waiting:
            raise _too_many_jobs()

    def submit(self, id: str, name: str, kind: str, options: dict[str, Any]) -> Job:
        """Put a job in line.

        Args:
            id: Of `arriving`; its file has been written.
            name: What the user calls the file.
            kind: `"image"` or `"video"`.
            options: Of the scan.

        Raises:
            TooBusyError: Too many jobs wait.
        """
        size = self.places.upload(id).stat().st_size
        if not self.store.add(id, name, kind, size, options, self.settings.max_waiting):
            raise _too_many_jobs()
        job = self.store.get(id)
        assert job is not None
        self._schedule(id)
        return job

    def _schedule(self, id: str) -> None:
        chosen = self.settings
        arguments = (id, chosen.folder, chosen.weights, chosen.device, self._threads, self._limits())
        future = self._job_workers.schedule(work.run_job, arguments, chosen.time_limit)
        with self._lock:
            self._running[id] = future
        future.add_done_callback(partial(self._done, id))

    def _done(self, id: str, future: Future[None]) -> None:
        if self._closing:  # the next service takes it up
            return
        error = None if future.cancelled() else future.exception()
        with self._lock:
            self._running.pop(id, None)
            if error is not None:
                self._failures[id] = reason(error, self.settings)
        if error is not None and not isinstance(error, CancelledError):
            log.warning("job %s failed: %s", id, type(error).__name__)
        with suppress(StoreError, OSError):  # `tidy` tries again
            self.places.upload(id).unlink(missing_ok=True)
            self._note_failures()

    def _note_failures(self) -> None:
        for id, why in list(self._failures.items()):
            self.store.end(id, "failed", why)
            self._failures.pop(id, None)

    def get(self, id: str) -> Job | None:
        """A job as it stands, or `None`."""
        job = self.store.get(id)
        return job and self._as_it_stands(job)

    def newest(self, limit: int, offset: int) -> list[Job]:
        """Jobs as they stand, the newest first."""
        return [self._as_it_stands(job) for job in self.store.newest(limit, offset)]

    def _as_it_stands(self, job: Job) -> Job:
        """What has failed has failed, also while the store cannot be written."""
        why = self._failures.get(job.id)
        return job if why is None or job.state in ENDED else replace(job, state="failed", error=why)

    def cancel(self, id: str) -> bool:
        """Stop a job; `False` if it has ended before."""
        stopped = self.store.end(id, "cancelled", "cancelled")
        with self._lock:
            future = self._running.get(id)
        if future is not None:
            self._job_workers.stop(future)
        return stopped

    def delete(self, id: str) -> None:
        """Stop a job and delete everything that is known of it."""
        self.cancel(id)
        self.store.delete(id)
        self.places.upload(id).unlink(missing_ok=True)
        self.places.report(id).unlink(missing_ok=True)

    # -- order ----------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Delete what is old and what nobody needs; end jobs in the store that nobody works on any more.

        Raises:
            StoreError: The store cannot be used; the next call tries again.
            OSError: The folder cannot.
        """
        self._note_failures()
        unfinished = self.store.unfinished()
        with self._lock:
            alive = {*self._running, *self._arriving, *self._failures}
        for job in unfinished:
            if job.id not in alive:
                self.store.end(job.id, "failed", "the work on this file was lost; hand it in again")
        for job in self.store.expired(3600 * self.settings.keep_hours):
            self.delete(job.id)
        self._sweep()

    def _sweep(self) -> None:
        """Delete files that belong to no job, uploads that are judged, and old lists that were set aside."""
        for file in self.places.uploads.iterdir():
            job = self.store.get(file.name)
            with self._lock:
                needed = file.name in self._arriving or file.name in self._running
            if not needed and (job is None or job.state in ENDED):
                file.unlink(missing_ok=True)
        for file in self.places.reports.iterdir():
            id = file.name.removeprefix(".").partition(".")[0]  # a dot: it is being written
            if self.store.get(id) is None:
                file.unlink(missing_ok=True)
        for file in self.places.folder.glob(f"{self.places.database.stem}-damaged-*"):
            if file.stat().st_mtime < time.time() - 3600 * self.settings.keep_hours:
                file.unlink(missing_ok=True)

    def mend(self, error: StoreError | OSError) -> None:
        """Make the folder and the list of jobs anew if that is what is wrong."""
        if disk_is_full(error) or (isinstance(error, StoreError) and error.trouble is Trouble.BUSY):
            return
        with self._mending:
            try:
                self._claim.renew()
                self.store.prepare()
            except (SficonvError, OSError) as failure:
                log.warning("the folder of the service cannot be mended: %s", failure)

    def _take_up(self) -> None:
        """Go on with what an earlier service left; what had been begun is begun once more."""
        for job in self.store.unfinished():
            if not self.places.upload(job.id).is_file():
                self.store.end(job.id, "failed", "the service was stopped and the uploaded file is gone")
            elif job.attempts >= ATTEMPTS:
                self.store.end(job.id, "failed", "the service stopped twice while working on this file")
            else:
                self._schedule(job.id)


def _too_many_jobs() -> TooBusyError:
    return TooBusyError("too many jobs are waiting; try again later")


def reason(error: BaseException, settings: Settings) -> str:
    """What to tell the user of a failure outside the scan itself."""
    if disk_is_full(error):
        return Trouble.FULL.value
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
