"""Fixtures shared by the whole suite."""

import os
import signal
from collections.abc import Callable
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
