"""Fixtures shared by the whole suite."""

import os
import signal
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, here and in what the tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference tensors and real data beside the project; skips where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"needs the reference data in {SHARED}, which is not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def interruptible() -> Callable[[], object]:
    """`preexec_fn` of a process that is to be interrupted: a shell starts background jobs deaf to SIGINT."""
    return lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)


class Structure(HTMLParser):
    """Every element with its attributes; fails on what is not closed."""

    VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="session")
def structure_of() -> Callable[[str], Structure]:
    """Reads a page: every element of it, where all are closed."""
    return Structure
