"""Spreading the work over processes so that one bad file costs no other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from joblib import cpu_count

from sficonv.datasets.source import SourceItem
from sficonv.preparation.extract import Part, file_stamp, prepare_item, start_worker, watch_file
from sficonv.preparation.options import PrepareOptions
from sficonv.preparation.watchdog import hung, watchdog


def run_items(todo: dict[str, SourceItem], out: Path, options: PrepareOptions) -> Iterator[Part]:
    """Run `prepare_item` on every item, in processes of this machine.

    Args:
        todo: The items by their path below the source folder.
        out: The prepared folder.
        options: How to find and cut faces, in how many processes, and after how many seconds without a frame
            to end one.

    Yields:
        The parts in the order in which they are finished. An item that kills its process, even when it
        runs alone, gives a part with the reason "crashed", and one that hangs a part with the reason
        "timeout"; such parts are not written to disk.

    Raises:
        OSError: The crops cannot be written.
        RuntimeError: The processes do not start.
    """
    workers = cpu_count() if options.workers is None else options.workers
    if workers == 0:
        yield from (prepare_item(item, name, out, options) for name, item in todo.items())
        return
    left = dict(todo)
    while left:
        lost: list[str] = []
        for name, part in _run_pool(left, out, options, min(workers, len(left))):
            if part is None:
                lost.append(name)
                continue
            del left[name]
            yield part
        # A worker ended, taking the pool with it. One that hung has said so; else try what was in flight
        # alone to find the culprit.
        slow = [name for name in lost if hung(watch_file(out, name))]
        for name in slow:
            yield timed_out(name, left.pop(name), options.timeout)
        for name in [] if slow else lost:
            item = left.pop(name)
            [(_, part)] = _run_pool({name: item}, out, options, 1)
            if part is None and hung(watch_file(out, name)):
                part = timed_out(name, item, options.timeout)
            yield part or crashed(name, item)


def work(item: SourceItem, name: str, out: Path, options: PrepareOptions) -> Part:
    """What a process of any engine does with one item: `prepare_item`, ended if it hangs."""
    with watchdog(watch_file(out, name), options.timeout) as progress:
        return prepare_item(item, name, out, options, progress)


def crashed(name: str, item: SourceItem) -> Part:
    """The part of an item that ended its process."""
    detail = (
        f"{item.path}: the process working on this file ended twice: its decoder crashed, memory ran out, or "
        "somebody stopped it; run again to try once more"
    )
    return Part(name, file_stamp(item.path), reason="crashed", detail=detail)


def timed_out(name: str, item: SourceItem, timeout: float) -> Part:
    """The part of an item that hung."""
    detail = f"{item.path}: no frame for {timeout:g} s, so it was given up (see the option timeout)"
    return Part(name, file_stamp(item.path), reason="timeout", detail=detail)


def _run_pool(
    todo: dict[str, SourceItem], out: Path, options: PrepareOptions, workers: int
) -> Iterator[tuple[str, Part | None]]:
    """Work through `todo` with one pool of processes; `None` for what was in flight when it broke."""
    queue = iter(list(todo.items()))
    flying: dict[Future[Part], str] = {}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)
    try:
        _check_start(pool)
        while True:
            for name, item in islice(queue, 2 * workers - len(flying)):
                flying[pool.submit(work, item, name, out, options)] = name
            if not flying:
                return
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                name = flying.pop(future)
                yield name, future.result()
    except BrokenProcessPool:
        yield name, None
        for name in flying.values():
            yield name, None
    except BaseException:  # stopped, or not asked any more: what is under way is done again
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(int).result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            'the worker processes did not start. In a script, put the call below if __name__ == "__main__": '
            "or use workers=0"
        ) from error
