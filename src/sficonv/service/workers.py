"""Processes that hold a loaded detector, each of which may crash, hang or be stopped at any time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing import get_context
from threading import Lock
from typing import Any

from pebble import ProcessPool


class Workers:
    """A pool of processes that is built anew when it breaks.

    A process that ends during a task fails that task and is replaced. One that ends between two tasks (the
    system was short of memory, say) breaks the pool: the tasks in line then fail with `BrokenProcessPool`,
    and the next one starts a new pool.

    Args:
        number: Of processes.
        load: Called in each process when it starts.
        arguments: Of `load`.
    """

    def __init__(self, number: int, load: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._number, self._load, self._arguments = number, load, arguments
        self._lock = Lock()
        self._pool = self._new()

    def _new(self) -> ProcessPool:
        return ProcessPool(
            self._number,
            initializer=self._load,
            initargs=self._arguments,
            context=get_context("spawn"),
        )

    def warm_up(self) -> Future[Any]:
        """Start the processes; the future holds what `load` returns, or raises what it raises."""
        return self.schedule(self._load, self._arguments)

    def schedule(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None = None
    ) -> Future[Any]:
        """Run a function in one of the processes.

        Args:
            function: To call.
            arguments: Of it.
            timeout: Seconds from its start after which its process is ended.
        """
        with self._lock:
            if not self._pool.active:
                self._end()
                self._pool = self._new()
            future: Future[Any] = self._pool.schedule(function, args=arguments, timeout=timeout)
            return future

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._pool.stop()
        self._pool.join()
