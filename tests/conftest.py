"""Fixtures shared by the whole suite."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference tensors and real data beside the project; skips where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"needs the reference data in {SHARED}, which is not part of the project")
    return SHARED
