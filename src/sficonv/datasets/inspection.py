"""What a dataset's folder holds and lacks, and which split each thing falls in, before anything is cut."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sficonv.datasets.identity_split import SPLIT_NAMES
from sficonv.datasets.layouts import read_source
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Expectation, Source, clean_text

if TYPE_CHECKING:
    from rich.console import Group

_MOST_MISSING, _SHOWN = 20, 5
_Key = tuple[str, str, int]  # method, compression, label


@dataclass(frozen=True)
class SourceRow:
    """One kind of video.

    Attributes:
        method: Manipulation, "real" for real.
        compression: "raw", "c23", "c40" or "".
        label: 0 = real, 1 = fake.
        splits: Videos in "train", "val", "test" and "" (none).
        present: Videos, or single images.
        files: Files: more than `present` where a video lies there as frames.
        masks: Of these, files with a mask of the forged region.
        expected: Videos in the complete dataset; `None` where that is not known.
        expected_splits: How many of those are in which split, as far as it is known.
        origin: Where the expectation comes from.
        missing: How many are missing; `None` where it is not known.
        missing_names: The first of those whose names are known.
    """

    method: str
    compression: str
    label: int
    splits: dict[str, int]
    present: int
    files: int
    masks: int
    expected: int | None = None
    expected_splits: dict[str, int] = field(default_factory=dict)
    origin: str = ""
    missing: int | None = None
    missing_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SourceReport:
    """What was found in a dataset's folder.

    Attributes:
        source: The folder or list.
        layout: How it was read.
        dataset: Name of the dataset.
        files: Files in it, as far as they count.
        rows: One per method, compression and label.
        notes: How it was read, and what to know about it.
    """

    source: str
    layout: str
    dataset: str
    files: int
    rows: list[SourceRow]
    notes: list[str]

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not any(row.missing for row in self.rows)

    def summary(self) -> Group:
        """The report for people: a table, what is missing, and the notes."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        table.add_column("kind", no_wrap=True)
        for name in ("train", "val", "test", "no split", "in all", "missing"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            kind = " ".join(filter(None, ("fake" if row.label else "real", row.compression)))
            kind += f" {row.method}" if row.method not in ("real", "fake") else ""
            cells = [
                _cell(row.splits.get(split, 0), row.expected_splits.get(split))
                for split in (*SPLIT_NAMES, "")
            ]
            table.add_row(kind, *cells, _cell(row.present, row.expected) or "0", _number(row.missing))
        lines = [Text(f"{self.source}: {self.dataset}, layout {self.layout}, {self.files:,} files")]
        after = [Text(_missing_line(row)) for row in self.rows if row.missing_names]
        after += [Text(f"note: {note}") for note in self.notes]
        return Group(*lines, table, *after)

    def to_dict(self) -> dict[str, Any]:
        """The report for programs: plain dictionaries, lists, strings and numbers."""
        return {**asdict(self), "complete": self.complete}


def inspect_source(
    source: str | Path,
    options: SourceOptions = SourceOptions(),  # noqa: B008  (frozen)
    **changes: Any,
) -> SourceReport:
    """List what a dataset's folder holds and what is missing from it.

    Nothing is decoded and nothing is written. `prepare` starts from the same listing.

    Args:
        source: Folder of the dataset, or a CSV, text or JSON list.
        options: How the source is read.
        **changes: Single fields of `options`, such as `layout="ffpp"`.

    Returns:
        The report.

    Raises:
        DataError: As of `read_source`: nothing usable there, damaged or contradicting lists.

    Example:
        >>> print(inspect_source("Celeb-DF-v2").complete)  # doctest: +SKIP
        True
    """
    found = read_source(source, options, **changes)
    return SourceReport(
        source=clean_text(str(source)),
        layout=found.layout,
        dataset=found.dataset,
        files=len({(item.path, item.members) for item in found.items}),
        rows=_rows(found),
        notes=found.notes,
    )


def _rows(found: Source) -> list[SourceRow]:
    videos: dict[_Key, dict[str, str]] = defaultdict(dict)
    files: Counter[_Key] = Counter()
    masks: Counter[_Key] = Counter()
    for item in found.items:
        key = item.method, item.compression, item.label
        if item.source_ids:  # a folder that cannot be read is a file to report, not a video
            videos[key][item.video_id] = item.split
        files[key] += 1
        masks[key] += item.mask is not None
    expected: dict[_Key, list[Expectation]] = defaultdict(list)
    for expectation in found.expected:
        expected[expectation.method, expectation.compression, expectation.label].append(expectation)
    keys = sorted({*videos, *files, *expected}, key=lambda key: (key[2], key))
    return [_row(key, videos[key], files[key], masks[key], expected[key]) for key in keys]


def _row(
    key: _Key, videos: dict[str, str], files: int, masks: int, expected: Sequence[Expectation]
) -> SourceRow:
    method, compression, label = key
    count = sum(expectation.count for expectation in expected) if expected else None
    names = [clean_text(name) for expectation in expected for name in expectation.missing]
    splits: Counter[str] = Counter()
    for expectation in expected:
        splits.update(expectation.splits)
    missing = None if count is None else max(len(names), count - len(videos), 0)
    return SourceRow(
        method=method,
        compression=compression,
        label=label,
        splits=dict(Counter(videos.values())),
        present=len(videos),
        files=files,
        masks=masks,
        expected=count,
        expected_splits=dict(splits),
        origin=", ".join(dict.fromkeys(expectation.origin for expectation in expected)),
        missing=missing,
        missing_names=names[:_MOST_MISSING],
    )


def _missing_line(row: SourceRow) -> str:
    kind = " ".join(filter(None, (row.method, row.compression)))
    more = (row.missing or 0) - len(row.missing_names[:_SHOWN])
    names = ", ".join(row.missing_names[:_SHOWN])
    return f"missing of {kind}: {names}" + (f" and {more:,} more" if more > 0 else "")


def _cell(present: int, expected: int | None) -> str:
    if expected is None:
        return _number(present) if present else ""
    return f"{present:,}/{expected:,}"


def _number(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
