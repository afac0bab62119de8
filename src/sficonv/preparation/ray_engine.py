"""The same work on a Ray cluster: one task per source file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sficonv.datasets.source import SourceItem
from sficonv.errors import DataError
from sficonv.preparation.extract import Part, limit_threads, watch_file
from sficonv.preparation.options import PrepareOptions
from sficonv.preparation.watchdog import hung
from sficonv.preparation.workers import crashed, timed_out, work
from sficonv.ray_cluster import ray_cluster


def run_items_on_ray(todo: dict[str, SourceItem], out: Path, options: PrepareOptions) -> Iterator[Part]:
    """Run `prepare_item` on every item, in tasks of a Ray cluster.

    Every machine needs sficonv, the source and the prepared folder under the same paths (a shared file
    system): crops are written where they are cut, and only their table comes back.

    Args:
        todo: The items by their path below the source folder.
        out: The prepared folder.
        options: How to find and cut faces. `workers` tasks run at a time, one processor each; by default one
            less than the cluster has, which leaves one to the driver. `address` is the cluster's, see
            `ray_cluster`.

    Yields:
        The parts as `sficonv.preparation.workers.run_items` gives them.

    Raises:
        SficonvError: Ray is not installed, or the cluster is not there.
        DataError: The machines of the cluster do not see the prepared folder.
        OSError: The crops cannot be written.
    """
    with ray_cluster(options.address) as ray:
        from ray.exceptions import WorkerCrashedError

        processors = int(ray.cluster_resources().get("CPU", 1))
        most = min(options.workers, processors) if options.workers else max(1, processors - 1)
        # A process that ends took its file with it, not the machine: the same file is tried once more.
        task = ray.remote(num_cpus=1, max_retries=0)(_task)
        tries = dict.fromkeys(todo, 2)
        waiting = iter(list(todo))
        flying: dict[Any, str] = {}
        again: list[str] = []
        where = out.resolve()
        while True:
            names = [again.pop() for _ in range(min(len(again), most - len(flying)))]
            names += islice(waiting, most - len(flying) - len(names))
            for name in names:
                flying[task.remote(todo[name], name, where, options)] = name
            if not flying:
                return
            for reference in ray.wait(list(flying))[0]:
                name = flying.pop(reference)
                try:
                    part: Part = ray.get(reference)
                except WorkerCrashedError:
                    tries[name] -= 1
                    if hung(watch_file(out, name)):
                        yield timed_out(name, todo[name], options.timeout)
                    elif tries[name]:
                        again.append(name)
                    else:
                        yield crashed(name, todo[name])
                    continue
                if any(not (out / crop["path"]).is_file() for crop in part.crops):
                    raise DataError(
                        f"{out}: crops of {name} were written on another machine, which does not share this "
                        "folder; prepare into a folder that all machines of the cluster see"
                    )
                yield part


def _task(item: SourceItem, name: str, out: Path, options: PrepareOptions) -> Part:
    limit_threads()
    return work(item, name, out, options)
