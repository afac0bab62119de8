"""Where a measuring script writes its figures: between two marks of a document."""

from __future__ import annotations

from pathlib import Path


def write_between(document: Path, marks: tuple[str, str], lines: list[str]) -> None:
    """Replace what stands between two marks of a document."""
    text = document.read_text(encoding="utf-8") if document.is_file() else "\n".join(marks)
    before, _, rest = text.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    document.write_text(
        before + "\n".join([marks[0], *lines]).rstrip() + "\n" + marks[1] + after, encoding="utf-8"
    )
