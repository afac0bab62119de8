"""What a process and all below it take: memory, and seconds of the processors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> Iterator[int]:
    """A process and all below it (Linux)."""
    waiting = [pid]
    while waiting:
        process = waiting.pop()
        try:
            for thread in Path(f"/proc/{process}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except OSError:  # it has ended
            continue
        yield process


def memory(pid: int) -> float:
    """Proportional share of memory of a process and all below it, in MB."""
    return sum(_share(process) for process in tree(pid))


def _share(pid: int) -> float:
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def work(pid: int) -> dict[int, float]:
    """Seconds that the processors have worked for a process and for each below it."""
    seconds = {}
    for process in tree(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds[process] = (int(fields[11]) + int(fields[12])) / _TICKS
    return seconds
