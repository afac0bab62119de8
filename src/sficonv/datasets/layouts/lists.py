"""Lists that people write: CSV with a label for each path, and text lines "path label"."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sficonv.datasets.layouts.base import Layout, last_number, read_lines
from sficonv.datasets.layouts.finder import Finder, bases_of
from sficonv.datasets.layouts.plain import LABEL_WORDS, SPLIT_WORDS, with_splits
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Source, SourceItem, with_clean_texts, with_distinct_names
from sficonv.errors import DataError, first_few
from sficonv.media.kinds import VIDEO_SUFFIXES

_PATHS = (
    "path",
    "file",
    "filename",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "video_path",
    "img_path",
)
_OTHERS = ("label", "video", "split", "method", "compression", "source_ids", "frame", "mask", "dataset")
_SAME = {
    "video_id": "video",
    "target": "label",
    "class": "label",
    "ids": "source_ids",
    "identity": "source_ids",
}


_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class _Row:
    """One line of a list."""

    file: Path
    line: int
    path: str
    label: str
    more: dict[str, str]

    @property
    def where(self) -> str:
        return f"{self.file}: line {self.line}"


def _read_csv(file: Path, options: SourceOptions) -> Source:
    """Read a CSV or TSV: the columns path and label, and any of `_OTHERS`."""
    return _source("csv", file, list(_csv_rows(file)), options)


def _read_text(file: Path, options: SourceOptions) -> Source:
    """Read lines "path label" of one file, or of train.txt, val.txt and test.txt in a folder."""
    files = [file] if file.is_file() else [path for path in sorted(file.glob("*.txt")) if _split_of(path)]
    if not files:
        raise DataError(f"{file}: no train.txt, val.txt or test.txt with lines such as 'faces/a.png 0'")
    rows = [row for path in files for row in _text_rows(path)]
    return _source("txt", file, rows, options)


def _csv_rows(file: Path) -> Iterator[_Row]:
    numbered = read_lines(file)
    if not numbered:
        raise DataError(f"{file}: the list is empty")
    delimiter = max(",;\t", key=numbered[0][1].count)
    header = [_SAME.get(name, name) for name in _cells(numbered[0][1].lower(), delimiter)]
    header = ["path" if name in _PATHS else name for name in header]
    if "path" not in header or "label" not in header:
        if len(header) < 2 or _label_word(header[1]) is None:
            raise DataError(
                f"{file}: line 1 is {numbered[0][1][:80]!r}, read with {_SEPARATORS[delimiter]} between its "
                "columns; expected a header with path and label, or a path and a label (0 or 1, real or fake)"
            )
        header = ["path", "label"]  # no header: the first two columns
        rows = numbered
    else:
        rows = numbered[1:]
    for number, line in rows:
        cells = _cells(line, delimiter)
        if len(cells) < min(2, len(header)):
            raise DataError(f"{file}: line {number} is {line[:80]!r}; expected {', '.join(header)}")
        row = dict(zip(header, cells, strict=False))
        more = {key: value for key, value in row.items() if key in _OTHERS and value}
        yield _Row(file, number, row.get("path", ""), row.get("label", ""), more)


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]


def _text_rows(file: Path) -> Iterator[_Row]:
    split = _split_of(file)
    for number, line in read_lines(file):
        match = re.fullmatch(r"(.+?)[\s,]+(\S+)", line)  # paths may hold spaces: the label is the last word
        if match is None:
            raise DataError(f"{file}: line {number} is {line[:80]!r}; expected a path and a label")
        yield _Row(file, number, match[1].strip("\"'"), match[2], {"split": split} if split else {})


def _split_of(file: Path) -> str:
    """What the name of a list says: train.txt, HFF_val.txt."""
    said = {SPLIT_WORDS[word] for word in re.split(r"[^a-z]+", file.stem.lower()) if word in SPLIT_WORDS}
    return said.pop() if len(said) == 1 else ""


def _source(layout: str, root: Path, rows: Sequence[_Row], options: SourceOptions) -> Source:
    if not rows:
        raise DataError(f"{root}: the list is empty")
    labels, note = _labels(layout, rows, options.fake_label)
    notes = [note]
    bases = bases_of(rows[0].file, options.base_folder)
    finder = Finder([row.path for row in rows], bases, exact=options.base_folder is not None)
    dataset = options.dataset or root.resolve().stem or "data"
    items: list[SourceItem] = []
    seen: dict[Path, int] = {}
    absent: list[str] = []
    for row, label in zip(rows, labels, strict=True):
        path = finder.path(row.path)
        if path in seen:
            if items[seen[path]].label != label:
                raise DataError(f"{row.where}: {row.path} has another label in an earlier line")
            continue
        seen[path] = len(items)
        if not finder.exists(path):
            absent.append(row.path)
        items.append(_item(row, path, finder, dataset, label))
    if len(absent) == len(items):
        raise DataError(
            f"{root}: none of the {len(items)} listed files exists (tried: {finder.path(rows[0].path)}); "
            "set base_folder (--base-folder) to the folder that the paths are relative to"
        )
    notes.append(finder.note())
    if len(items) < len(rows):
        notes.append(f"{len(rows) - len(items)} lines repeat the file of an earlier line")
    if absent:
        notes.append(f"{len(absent)} of {len(items)} listed files do not exist: {first_few(absent)}")
    if note_ids := _unnamed(items, rows):
        notes.append(note_ids)
    drawn = options.fractions is not None and not any(item.split for item in items)
    items, more = with_splits(with_distinct_names(items), options.fractions)
    return Source(layout, dataset, items, [*notes, *more], drawn=drawn)


def _item(row: _Row, path: Path, finder: Finder, dataset: str, label: int) -> SourceItem:
    more = row.more
    split = more.get("split", "").lower()
    if split and split not in SPLIT_WORDS:
        raise DataError(f"{row.where}: the split is {split!r}; expected train, val or test")
    relative = path.relative_to(finder.base) if path.is_relative_to(finder.base) else path
    stem = PurePosixPath(*(part for part in relative.with_suffix("").parts if part != path.anchor)).as_posix()
    video = more.get("video") or stem
    ids = re.findall(r"[^,;\s|]+", more.get("source_ids", "")) or [f"{dataset}:{video}"]
    is_video = path.suffix.lower() in VIDEO_SUFFIXES
    frame = more.get("frame", "")
    if frame and not frame.isdecimal():
        raise DataError(f"{row.where}: the frame is {frame!r}; expected a number")
    return with_clean_texts(
        SourceItem(
            path=path,
            label=label,
            dataset=more.get("dataset") or dataset,
            method=more.get("method", "fake") if label else "real",
            compression=more.get("compression", ""),
            video_id=f"{dataset}/{video}",
            source_ids=tuple(name.replace(",", "_") for name in ids),
            split=SPLIT_WORDS.get(split, ""),
            kind="video" if is_video else "image",
            name=f"{dataset}/{stem}",
            frame=int(frame[-9:]) if frame else 0 if is_video else last_number(path.stem),
            mask=finder.path(more["mask"]) if label and more.get("mask") else None,
        )
    )


def _labels(layout: str, rows: Sequence[_Row], fake_label: int | None) -> tuple[list[int], str]:
    """Our labels (1 = fake) of all rows, and a note on how they were read.

    Numbers in a text file may mean either thing (the authors of SFIConv write 0 for fake): without
    `fake_label` the folders in the paths have to say it. In a CSV 1 is fake unless the folders object.
    """
    words = {row.label for row in rows if not row.label.isdecimal()}
    for row in rows:
        if _label_word(row.label) is None:
            raise DataError(f"{row.where}: the label is {row.label!r}; expected 0 or 1, real or fake")
    said = [folder_label(row.path) for row in rows]
    if fake_label is None:
        fake_label = 1
        numeric = [(row, word) for row, word in zip(rows, said, strict=True) if row.label in ("0", "1")]
        telling = [(row, word) for row, word in numeric if word is not None]
        against = [row for row, word in telling if int(row.label) != word]
        if telling and len(against) == len(telling) and layout == "txt":
            fake_label = 0
        elif numeric and not telling and layout == "txt":
            raise DataError(
                f"{rows[0].file}: neither its lines nor the folders in its paths tell whether 0 or 1 means "
                "fake; set fake_label=0 or fake_label=1 (--fake-label). The script that comes with the HFF "
                "dataset writes 0 for fake"
            )
        elif against:
            odd = against
            if layout == "txt" and 2 * len(against) > len(telling):  # the list means 0 = fake
                odd = [row for row, word in telling if int(row.label) == word]
            raise DataError(
                f"{odd[0].where}: the label {odd[0].label} contradicts the folder in {odd[0].path!r} "
                f"({len(odd)} such lines of {len(rows)}). If the labels are right, set fake_label=0 or "
                "fake_label=1 (--fake-label): the number that means fake"
            )
        source = "as the folders in the paths confirm" if telling else "the default"
    else:
        source = "as was said"
    labels = [_our_label(row.label, fake_label) for row in rows]
    if words and not any(row.label.isdecimal() for row in rows):
        return labels, "labels are words: real = 0, fake = 1"
    doubtful = sum(word is not None and word != label for word, label in zip(said, labels, strict=True))
    doubt = f"; {doubtful} lines contradict the folders in their paths" if doubtful else ""
    return labels, f"in the list {fake_label} = fake and {1 - fake_label} = real, {source}{doubt}"


def _label_word(text: str) -> int | None:
    return int(text) if text in ("0", "1") else LABEL_WORDS.get(text.lower())


def _our_label(text: str, fake_label: int) -> int:
    return int(int(text) == fake_label) if text in ("0", "1") else LABEL_WORDS[text.lower()]


def folder_label(path: str) -> int | None:
    """What the innermost folder that says anything says of a file: 0 real, 1 fake.

    Example:
        >>> folder_label("/home/deepfakes/train/real/CelebA/1.png")
        0
    """
    for part in reversed(path.replace("\\", "/").split("/")[:-1]):
        said = {LABEL_WORDS[word] for word in re.split(r"[_\- ]+", part.lower()) if word in LABEL_WORDS}
        if len(said) == 1:
            return said.pop()
    return None


def _unnamed(items: Sequence[SourceItem], rows: Sequence[_Row]) -> str:
    said = any("video" in row.more or "source_ids" in row.more for row in rows)
    if said or all(item.kind == "video" for item in items):
        return ""
    return (
        "the list does not say which images belong to the same video (column video) or show the same person "
        "(source_ids): every image counts as its own video"
    )


def _is_text_list(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in (".txt", ".lst")
    return False


CSV = Layout(
    title="CSV list",
    fits=lambda path: path.is_file() and path.suffix.lower() in (".csv", ".tsv"),
    read=_read_csv,
    options=frozenset({"fake_label", "base_folder"}),
)
TEXT = Layout(
    title='text list "path label"',
    fits=_is_text_list,
    read=_read_text,
    options=frozenset({"fake_label", "base_folder"}),
)
