"""A Ray cluster for as long as some work takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sficonv.errors import SficonvError


@contextmanager
def ray_cluster(address: str | None) -> Iterator[Any]:
    """Give the package `ray`, connected to a cluster; one that was started for it ends with it.

    Args:
        address: Of the cluster, as `ray.init` takes it; `None`: a cluster that this program has joined, else
            one on this machine.

    Raises:
        SficonvError: Ray is not installed, or the cluster is not there.
    """
    try:
        import ray
    except ImportError as error:
        raise SficonvError("the engine ray needs the package ray: pip install 'sficonv[ray]'") from error
    ours = not ray.is_initialized()
    if ours:
        try:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports its use
            local: dict[str, Any] = {} if address else {"include_dashboard": False}
            ray.init(address=address or "local", log_to_driver=False, **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SficonvError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()
