"""The pages people read, and what stands in their code blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
}


def blocks(text: str, *languages: str) -> Iterator[tuple[str, str]]:
    """Language and text of the code blocks in these languages, in the order of the page."""
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in languages:
            yield language, block


def programs(block: str) -> Iterator[list[str]]:
    """The words of every program that a shell block starts; of `a && b` both."""
    for line in block.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word not in ("&&", "|", ";", "&"):
                words.append(word)
            elif words:
                yield words
                words = []


def commands(text: str) -> Iterator[list[str]]:
    """The words behind `sficonv` of every command of a page, whatever starts it."""
    for _, block in blocks(text, "bash"):
        for words in programs(block):
            if "sficonv" in words and words[0] in ("sficonv", "python", "torchrun"):
                yield words[words.index("sficonv") + 1 :]
