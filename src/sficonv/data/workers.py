"""Spreading the work over processes so that one bad file costs no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from sficonv.data.extract import CropOptions, Part, file_stamp, prepare_item, start_worker
from sficonv.data.source import SourceItem


def run_items(
    todo: dict[str, SourceItem], out: Path, options: CropOptions, workers: int | None
) -> Iterator[Part]:
    """Run `prepare_item` on every item.

    Args:
        todo: The items by their path below the source folder.
        out: The prepared folder.
        options: How to find and cut faces.
        workers: Processes; `None`: one per processor; 0: work in this process.

    Yields:
        The parts in the order in which they are finished. An item that kills its process, even when it
        runs alone, gives a part with the reason "crashed"; such a part is not written to disk.

    Raises:
        OSError: The crops cannot be written.
        RuntimeError: The processes do not start.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers == 0:
        yield from (prepare_item(item, name, out, options) for name, item in todo.items())
        return
    left = dict(todo)
    while left:
        suspects: list[str] = []
        for name, part in _run_pool(left, out, options, min(workers, len(left))):
            if part is None:
                suspects.append(name)
                continue
            del left[name]
            yield part
        # A worker died, taking the pool with it: try what was in flight alone to find the culprit.
        for name in suspects:
            item = left.pop(name)
            [(_, part)] = _run_pool({name: item}, out, options, 1)
            yield part or Part(
                name,
                file_stamp(item.path),
                reason="crashed",
                detail=f"{item.path}: the decoder crashed on this file (or memory ran out)",
            )


def _run_pool(
    todo: dict[str, SourceItem], out: Path, options: CropOptions, workers: int
) -> Iterator[tuple[str, Part | None]]:
    """Work through `todo` with one pool of processes; `None` for what was in flight when it broke."""
    queue = iter(list(todo.items()))
    flying: dict[Future[Part], str] = {}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)
    try:
        _check_start(pool)
        while True:
            for name, item in islice(queue, 2 * workers - len(flying)):
                flying[pool.submit(prepare_item, item, name, out, options)] = name
            if not flying:
                return
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                name = flying.pop(future)
                yield name, future.result()
    except BrokenProcessPool:
        yield name, None
        for name in flying.values():
            yield name, None
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
