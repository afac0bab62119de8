"""Processes that hold a loaded detector, each of which may crash, hang or be stopped at any time."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from threading import Condition, Thread
from typing import Any

from pebble import ProcessFuture, ProcessPool

_TRIES = 2
"""How often a task is handed out whose process ends before it has begun with it."""


@dataclass
class _Task:
    future: Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    timeout: float | None
    tries: int = 0


class Workers:
    """A line of tasks and the processes that work on them.

    The pool behind it is handed a task only when one of its processes is free: a task that waits can leave
    the line without costing a process. A process that ends during a task fails that task and is replaced. One
    that ends between two tasks (the system was short of memory, say) breaks the pool; the next task then
    starts a new one. Ctrl-C at a terminal, which goes to all processes of a program, does not reach them.

    Args:
        number: Of processes.
        start: Called in each process when it starts; it must not raise.
        arguments: Of `start`.
        context: How processes are started; by default each is a fresh interpreter.
    """

    def __init__(
        self,
        number: int,
        start: Callable[..., Any],
        arguments: tuple[Any, ...],
        context: BaseContext | None = None,
    ) -> None:
        self._number, self._start, self._arguments = number, start, arguments
        self._context = context or get_context("spawn")
        self._line: deque[_Task] = deque()
        self._working: dict[Future[Any], ProcessFuture[Any]] = {}
        self._change = Condition()
        self._closed = False
        self._pool = self._new_pool()
        self._thread = Thread(target=self._hand_out, daemon=True)
        with _without_interrupts():
            _ = self._pool.active  # starts it here, where it is known why, if it cannot start
            self._thread.start()

    def schedule(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float | None = None
    ) -> Future[Any]:
        """Put a call in line.

        Args:
            function: To call in one of the processes.
            arguments: Of it.
            timeout: Seconds from its start after which its process is ended.

        Returns:
            What it returns or raises; cancelling it takes it out of the line, see also `stop`.
        """
        task = _Task(Future(), function, arguments, timeout)
        with self._change:
            self._line.append(task)
            self._change.notify()
        return task.future

    def stop(self, future: Future[Any]) -> None:
        """Cancel a call; if it has begun, its process is ended."""
        if future.cancel():
            return
        with self._change:
            inner = self._working.get(future)
        if inner is not None:
            inner.cancel()

    def close(self) -> None:
        """End the processes and cancel what waits."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join()
        for task in self._line:
            task.future.cancel()
        self._end_pool()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            self._number, initializer=self._start, initargs=self._arguments, context=self._context
        )

    def _end_pool(self) -> None:
        self._pool.stop()
        self._pool.join()

    def _hand_out(self) -> None:
        """Give each process its next task, until `close`; this runs in a thread of its own."""
        while True:
            with self._change:
                self._change.wait_for(self._ready)
                if self._closed:
                    return
            if not self._pool.active:  # joining it takes a while, and its threads take the lock
                self._end_pool()
                self._pool = self._new_pool()
            with self._change:
                task = self._line.popleft() if self._line else None
                if task is None or not (task.tries or task.future.set_running_or_notify_cancel()):
                    continue
                task.tries += 1
                try:
                    inner = self._pool.schedule(task.function, args=task.arguments, timeout=task.timeout)
                except RuntimeError:  # the pool broke this very moment
                    self._again(task, BrokenProcessPool())
                    continue
                self._working[task.future] = inner
            inner.add_done_callback(partial(self._ended, task))

    def _ready(self) -> bool:
        return self._closed or bool(self._line and len(self._working) < self._number)

    def _ended(self, task: _Task, inner: Future[Any]) -> None:
        with self._change:
            self._working.pop(task.future, None)
            self._change.notify()
        if inner.cancelled():
            task.future.set_exception(CancelledError())
        elif (error := inner.exception()) is None:
            task.future.set_result(inner.result())
        elif isinstance(error, BrokenProcessPool):
            self._again(task, error)
        else:
            task.future.set_exception(error)

    def _again(self, task: _Task, error: BaseException) -> None:
        with self._change:
            if task.tries < _TRIES and not self._closed:
                self._line.appendleft(task)
                self._change.notify()
                return
        task.future.set_exception(error)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Threads that are started here, and the processes that these start, are deaf to Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
