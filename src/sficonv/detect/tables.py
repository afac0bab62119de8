"""Results as a table for spreadsheets, and files that are known to be writable before the work."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sficonv.detect.reading import SourceFile
from sficonv.detect.results import COLUMNS, ScanResult, table_row
from sficonv.files import naming
from sficonv.pages import cell


def append_csv(results: Iterable[ScanResult], path: Path) -> Iterator[ScanResult]:
    """Pass results on, each after its row is in the file; what the file held is replaced.

    A row tells path, kind, verdict, p_fake, people, faces, frames, duration, error and notes.

    Args:
        results: Of a scan, as they come.
        path: The file to write; it can be read at any moment.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "scan.csv"
        >>> _ = list(append_csv([ScanResult(Path("a.jpg"), "image", None, "no_face")], file))
        >>> file.read_text().splitlines()[1]
        'a.jpg,image,no_face,,0,0,0,,,'
    """
    with (
        naming(path),  # also while it is closed: what a full disk refused is written once more then
        path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for result in results:
            writer.writerow(_cells(result))
            file.flush()
            yield result


@contextmanager
def reserved(path: str | Path) -> Iterator[Path]:
    """Find out before the work whether its outcome can be written, not after it.

    Parent folders are made and the file is opened for appending, so that what it holds stays until it is
    written. If the work fails, no empty file is left behind.

    Args:
        path: The file that will be written.

    Raises:
        OSError: If it cannot be.

    Example:
        >>> import tempfile
        >>> with reserved(Path(tempfile.mkdtemp()) / "new" / "scan.csv") as path:
        ...     path.exists()
        True
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    path.open("ab").close()
    try:
        yield path
    except BaseException:
        if new and path.is_file() and path.stat().st_size == 0:
            path.unlink()
        raise


def without_own(files: Iterable[SourceFile], *outputs: Path | None) -> Iterator[SourceFile]:
    """Of the files that a scan skips, leave out those that it writes itself into a folder it searches.

    Args:
        files: Of `find_files`.
        outputs: The files that the scan writes; each may have a journal and a lock beside it.
    """
    own = {
        out.resolve().with_name(name)
        for out in filter(None, outputs)
        for name in (out.name, f"{out.name}.part", f".{out.name}.lock")
    }
    return (file for file in files if not file.skipped or file.path.resolve() not in own)


def _cells(result: ScanResult) -> dict[str, Any]:
    row = table_row(result)
    texts = {key: cell(row[key] or "") for key in ("error", "notes")}
    return row | texts | {"path": cell(row["path"], "./")}
