"""The jobs of the service in SQLite: they survive a restart."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from sficonv.errors import SficonvError

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
_UNFINISHED = "state IN ('waiting', 'running')"

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, options TEXT NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, started REAL, finished REAL,
    attempts INTEGER NOT NULL DEFAULT 0, progress REAL NOT NULL DEFAULT 0,
    verdict TEXT, p_fake REAL, error TEXT, answer TEXT
)
"""


@dataclass(frozen=True)
class Job:
    """One file to judge.

    Args:
        id: Random name; also that of its files.
        name: What the user calls the file; shown, never used as a path.
        kind: `"image"` or `"video"`.
        size: Bytes.
        options: Of the scan.
        state: Where it stands.
        created, started, finished: Seconds since 1970.
        attempts: How often it was begun: more than once after a restart.
        progress: Share of the file that was read, in [0, 1].
        verdict, p_fake: As of `ScanResult`, once done.
        error: Why it failed, or what is wrong with the file.
    """

    id: str
    name: str
    kind: str
    size: int
    options: dict[str, Any]
    state: State
    created: float
    started: float | None
    finished: float | None
    attempts: int
    progress: float
    verdict: str | None
    p_fake: float | None
    error: str | None

    @property
    def remaining(self) -> float | None:
        """Seconds left at the pace so far; `None` while that cannot be said."""
        if self.state != "running" or self.started is None or self.progress < 0.02:
            return None
        passed = max(0.0, time.time() - self.started)  # a clock may be set back
        return passed * (1 - self.progress) / self.progress


_COLUMNS = ", ".join(Job.__dataclass_fields__)


class Trouble(Enum):
    """What may be wrong with a database, and what that means for the one who asks."""

    BUSY = "the list of jobs cannot be used at the moment; try again"
    FULL = "the disk of the service is full"
    LOST = "the list of jobs was missing or damaged and has been begun anew; hand the file in again"


_TROUBLES = {
    sqlite3.SQLITE_FULL: Trouble.FULL,
    sqlite3.SQLITE_CORRUPT: Trouble.LOST,
    sqlite3.SQLITE_NOTADB: Trouble.LOST,
    sqlite3.SQLITE_CANTOPEN: Trouble.LOST,  # its folder is gone
    sqlite3.SQLITE_READONLY: Trouble.LOST,  # it was moved away while open
    sqlite3.SQLITE_ERROR: Trouble.LOST,  # no such table, no such column
}


class StoreError(SficonvError):
    """The database cannot be used.

    Args:
        message: What failed, for the log.
        trouble: Why, and whether `JobStore.prepare` mends it.
    """

    def __init__(self, message: str, trouble: Trouble) -> None:
        super().__init__(message, trouble)  # so that it comes whole out of another process
        self.trouble = trouble

    def __str__(self) -> str:
        return str(self.args[0])


def _store_error(file: Path, error: sqlite3.Error) -> StoreError:
    # the extended codes of SQLite hold the plain one in their last eight bits
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    full = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and not _room(file.parent)
    return StoreError(f"{file}: {error}", Trouble.FULL if full else _TROUBLES.get(code, Trouble.BUSY))


def _room(folder: Path) -> bool:
    """Whether a little more could be written there, or the question makes no sense because it is gone."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free > 100_000
    return True


def disk_is_full(error: BaseException) -> bool:
    """Whether there is no room for what was to be written."""
    if isinstance(error, StoreError):
        return error.trouble is Trouble.FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class JobStore:
    """The table of jobs. Every process opens its own; SQLite keeps them apart.

    All methods raise `StoreError` when the database is locked for longer than `patience`, missing, damaged
    or of another program, or when the disk is full.

    Args:
        file: The database; `prepare` makes it.
        patience: Seconds to wait for another process that writes.

    Example:
        >>> import tempfile
        >>> store = JobStore(Path(tempfile.mkdtemp()) / "jobs.sqlite")
        >>> store.prepare()
        >>> store.add("0a1b", "clip.mp4", "video", 1000, {})
        True
        >>> store.get("0a1b").state
        'waiting'
    """

    def __init__(self, file: Path, patience: float = 5.0) -> None:
        self.file, self.patience = file, patience

    def prepare(self) -> None:
        """Make the database where it is missing; one that cannot be read is set aside and begun anew.

        Raises:
            OSError: Its folder cannot be written to.
        """
        try:
            self._make()
        except StoreError as error:
            if error.trouble is not Trouble.LOST or not self.file.exists():
                raise
            aside = f"{self.file.stem}-damaged-{time.time():.0f}{self.file.suffix}"
            log.warning("%s; it is set aside as %s, and a new list of jobs begins", error, aside)
            for suffix in ("", "-journal", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.file.with_name(self.file.name + suffix).rename(self.file.with_name(aside + suffix))
            self._make()

    def _make(self) -> None:
        self.file.touch(0o600)  # what SQLite puts beside it gets the same mode
        with self._open() as database:
            database.execute(_TABLE)
            database.execute(f"SELECT {_COLUMNS}, answer FROM jobs LIMIT 0")
            (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise sqlite3.DatabaseError(sound)
            # with a write-ahead log (earlier versions) nothing could be read while the disk is full
            database.execute("PRAGMA journal_mode=DELETE")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self.file, timeout=self.patience)
            try:
                with database:
                    yield database
            finally:
                database.close()
        except sqlite3.Error as error:
            raise _store_error(self.file, error) from error

    def _change(self, statement: str, *values: Any) -> int:
        with self._open() as database:
            return database.execute(statement, values).rowcount

    def _jobs(self, condition: str, *values: Any) -> list[Job]:
        with self._open() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM jobs {condition}", values).fetchall()
        fields = list(Job.__dataclass_fields__)
        return [
            Job(**{**(row := dict(zip(fields, r, strict=True))), "options": json.loads(row["options"])})
            for r in rows
        ]

    def add(
        self, id: str, name: str, kind: str, size: int, options: dict[str, Any], most: int = 10**9
    ) -> bool:
        """Note a new job, waiting; `False` if `most` jobs wait or run already."""
        return bool(
            self._change(
                "INSERT INTO jobs (id, name, kind, size, options, state, created) "
                "SELECT ?, ?, ?, ?, ?, 'waiting', ? "
                f"WHERE (SELECT COUNT(*) FROM jobs WHERE {_UNFINISHED}) < ?",
                id, name, kind, size, json.dumps(options), time.time(), most,
            )
        )  # fmt: skip

    def get(self, id: str) -> Job | None:
        """One job, or `None`."""
        found = self._jobs("WHERE id = ?", id)
        return found[0] if found else None

    def answer(self, id: str) -> dict[str, Any] | None:
        """The full answer of a job that is done."""
        with self._open() as database:
            row = database.execute("SELECT answer FROM jobs WHERE id = ?", (id,)).fetchone()
        return json.loads(row[0]) if row and row[0] else None

    def newest(self, limit: int, offset: int = 0) -> list[Job]:
        """Jobs, the newest first."""
        return self._jobs("ORDER BY created DESC, id LIMIT ? OFFSET ?", limit, offset)

    def unfinished(self) -> list[Job]:
        """Jobs that wait or run, the oldest first."""
        return self._jobs(f"WHERE {_UNFINISHED} ORDER BY created, id")

    def waiting(self) -> int:
        """Number of jobs that wait or run."""
        with self._open() as database:
            (count,) = database.execute(f"SELECT COUNT(*) FROM jobs WHERE {_UNFINISHED}").fetchone()
        return int(count)

    def expired(self, seconds: float) -> list[Job]:
        """Jobs that ended so long ago; those that a clock which was wrong put into the future end now."""
        now = time.time()
        self._change("UPDATE jobs SET finished = ? WHERE finished > ?", now, now)
        return self._jobs("WHERE finished < ?", now - seconds)

    def start(self, id: str) -> bool:
        """Note that the work begins; `False` if it was cancelled or deleted meanwhile."""
        return bool(
            self._change(
                "UPDATE jobs SET state = 'running', started = ?, progress = 0, attempts = attempts + 1 "
                f"WHERE id = ? AND {_UNFINISHED}",
                time.time(), id,
            )
        )  # fmt: skip

    def advance(self, id: str, progress: float) -> None:
        """Note how much was read."""
        self._change("UPDATE jobs SET progress = ? WHERE id = ?", progress, id)

    def finish(self, id: str, answer: dict[str, Any]) -> None:
        """Note the answer of `work`."""
        result = answer["result"]
        self._change(
            "UPDATE jobs SET state = 'done', finished = ?, progress = 1, verdict = ?, p_fake = ?, error = ?, "
            "answer = ? WHERE id = ? AND state = 'running'",
            time.time(), result["verdict"], result["p_fake"], result["error"], json.dumps(answer), id,
        )  # fmt: skip

    def end(self, id: str, state: Literal["failed", "cancelled"], reason: str) -> bool:
        """Note that there will be no answer, and why; `False` if the job has ended before."""
        return bool(
            self._change(
                "UPDATE jobs SET state = ?, finished = ?, error = ? "
                f"WHERE id = ? AND {_UNFINISHED}",
                state, time.time(), reason, id,
            )
        )  # fmt: skip

    def delete(self, id: str) -> None:
        """Forget a job."""
        self._change("DELETE FROM jobs WHERE id = ?", id)
