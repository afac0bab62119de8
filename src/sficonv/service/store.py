"""The jobs of the service in SQLite: they survive a restart."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")

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
        return (time.time() - self.started) * (1 - self.progress) / self.progress


_COLUMNS = ", ".join(Job.__dataclass_fields__)


class JobStore:
    """The table of jobs. Every process opens its own; SQLite keeps them apart.

    Args:
        file: The database; made if missing.

    Example:
        >>> import tempfile
        >>> store = JobStore(Path(tempfile.mkdtemp()) / "jobs.sqlite")
        >>> store.add("0a1b", "clip.mp4", "video", 1000, {})
        >>> store.get("0a1b").state
        'waiting'
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with self._open() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(_TABLE)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.file, timeout=30)
        try:
            with database:
                yield database
        finally:
            database.close()

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

    def add(self, id: str, name: str, kind: str, size: int, options: dict[str, Any]) -> None:
        """Note a new job, waiting."""
        self._change(
            "INSERT INTO jobs (id, name, kind, size, options, state, created) "
            "VALUES (?, ?, ?, ?, ?, 'waiting', ?)",
            id, name, kind, size, json.dumps(options), time.time(),
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
        return self._jobs("WHERE state IN ('waiting', 'running') ORDER BY created, id")

    def waiting(self) -> int:
        """Number of jobs that wait or run."""
        with self._open() as database:
            (count,) = database.execute(
                "SELECT COUNT(*) FROM jobs WHERE state IN ('waiting', 'running')"
            ).fetchone()
        return int(count)

    def expired(self, before: float) -> list[Job]:
        """Jobs that ended before a time (seconds since 1970)."""
        return self._jobs("WHERE finished < ?", before)

    def start(self, id: str) -> bool:
        """Note that the work begins; `False` if it was cancelled or deleted meanwhile."""
        return bool(
            self._change(
                "UPDATE jobs SET state = 'running', started = ?, progress = 0, attempts = attempts + 1 "
                "WHERE id = ? AND state IN ('waiting', 'running')",
                time.time(), id,
            )
        )  # fmt: skip

    def retry(self, id: str, attempts: int) -> bool:
        """Put a job back in line if it was begun less than `attempts` times."""
        return bool(
            self._change(
                "UPDATE jobs SET state = 'waiting', attempts = attempts + 1 "
                "WHERE id = ? AND state IN ('waiting', 'running') AND attempts < ?",
                id, attempts,
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
                "WHERE id = ? AND state IN ('waiting', 'running')",
                state, time.time(), reason, id,
            )
        )  # fmt: skip

    def delete(self, id: str) -> None:
        """Forget a job."""
        self._change("DELETE FROM jobs WHERE id = ?", id)
