"""Ending worker processes: those that hang, even inside a decoder, and those whose parent is gone."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path


@contextmanager
def watchdog(note: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """End this process when for so long nobody says that there is progress.

    `faulthandler` does it from a thread of its own that needs no interpreter lock, so code that blocks in a
    system call, or never returns from a library, ends too. What it was doing is left in a file.

    Args:
        note: File that exists while the block runs; it stays, and holds where the process was, if that hung.
        seconds: Time without progress; 0: no limit.

    Yields:
        The function to call on progress.

    Example:
        >>> import tempfile
        >>> with watchdog(Path(tempfile.mkdtemp()) / "note", 60) as progress:
        ...     progress()
    """
    if not seconds:
        yield lambda: None
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    with note.open("w", encoding="utf-8") as file:

        def progress() -> None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=file)

        progress()
        try:
            yield progress
        finally:
            faulthandler.cancel_dump_traceback_later()
    note.unlink(missing_ok=True)


def hung(note: Path) -> bool:
    """Whether a process that has ended was ended by its watchdog; the note is removed then."""
    try:
        found = note.stat().st_size > 0
    except OSError:
        return False
    note.unlink(missing_ok=True)
    return found


def end_with_parent() -> None:
    """End this worker process as soon as the process that started it has ended, however that came about."""
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
