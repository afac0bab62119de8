"""What a scan has judged so far, on disk after every file: the same command continues where it stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from sficonv.detect.reading import SourceFile
from sficonv.detect.results import FaceScore, ScanResult, TrackScore
from sficonv.errors import SficonvError
from sficonv.files import atomic_file, naming

FORMAT = "sficonv-scan/1"


class Journal:
    """The results of a scan as JSON Lines beside the table it writes; gone once the table is whole.

    Args:
        out: The table; the journal is called `<out>.part`. It can be read at any moment, for example by
            `pandas.read_json(path, lines=True)`: after its first line, one line per file.
        made_by: What the results depend on: the detector and the options. A journal of anything else is not
            continued but replaced.

    Raises:
        SficonvError: If another scan is writing the same table.
        OSError: If the folder cannot be written to.
    """

    def __init__(self, out: Path, made_by: Mapping[str, Any]) -> None:
        self.path = out.with_name(f"{out.name}.part")
        self.out = out
        self._header = json.dumps({"format": FORMAT, **made_by}, sort_keys=True, default=str)
        self._lock = FileLock(out.with_name(f".{out.name}.lock"))
        self._done: set[str] = set()

    def __enter__(self) -> Journal:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise SficonvError(f"{self.out}: another scan is writing this file") from error
        try:
            self._keep_what_holds()
            self._file = self.path.open("a", encoding="utf-8")
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what a full disk refused, and was reported
            self._file.close()
        if kind is None or not self._found:
            self.path.unlink()
        else:
            print(
                f"{self.out}: stopped after {self._found} files; the same command continues there",
                file=sys.stderr,
            )
        self._release()

    def _release(self) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def left(self, files: Iterable[SourceFile]) -> Iterator[SourceFile]:
        """Those of `files` that are still to be judged."""
        return (file for file in files if str(file.path) not in self._done)

    def record(self, results: Iterable[ScanResult]) -> Iterator[ScanResult]:
        """Pass results on, each after it is on disk."""
        for result in results:
            with naming(self.path):
                self._write(result)
            self._found += 1
            yield result

    def _write(self, result: ScanResult) -> None:
        line = asdict(replace(result, evidence=())) | {"stamp": _stamp(result.path)}
        self._file.write(json.dumps(line, default=_plain) + "\n")
        self._file.flush()

    def results(self) -> Iterator[ScanResult]:
        """All results so far, read from the disk one by one."""
        return (result for _, result in self._sound_lines())

    def _keep_what_holds(self) -> None:
        """Drop what was judged by other means, what was cut, and files that have changed since."""
        with atomic_file(self.path) as file, file.open("w", encoding="utf-8") as kept:
            kept.write(self._header + "\n")
            for line, _ in self._sound_lines():
                if line["stamp"] is not None and line["stamp"] == _stamp(Path(line["path"])):
                    kept.write(json.dumps(line) + "\n")
                    self._done.add(line["path"])
        self._found = len(self._done)
        if self._done:
            print(
                f"{self.out}: going on with an interrupted scan, {len(self._done)} files are judged already",
                file=sys.stderr,
            )

    def _sound_lines(self) -> Iterator[tuple[dict[str, Any], ScanResult]]:
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            if file.readline().rstrip(b"\n") != self._header.encode():
                return
            yield from filter(None, map(_read, file))


def _read(text: bytes) -> tuple[dict[str, Any], ScanResult] | None:
    """What a line says; `None` for one that a kill has cut or a power cut has filled with zeros."""
    try:
        line = json.loads(text)
        return (line, _result(line)) if text.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _stamp(path: Path) -> list[int] | None:
    """Changes when the file does; `None` where there is none, as for an image in memory."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else float(value)  # a number of numpy


def _result(line: dict[str, Any]) -> ScanResult:
    fields = dict(line)
    fields.pop("stamp")
    faces = tuple(FaceScore(**face | {"box": tuple(face["box"])}) for face in fields["faces"])
    tracks = tuple(TrackScore(**track) for track in fields["tracks"])
    whole = {"path": Path(fields["path"]), "faces": faces, "tracks": tracks, "notes": tuple(fields["notes"])}
    whole["facts"] = tuple(fields["facts"])
    return ScanResult(**fields | whole | {"evidence": ()})
