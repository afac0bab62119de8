"""Exports and their runtimes, in a process that has not run hundreds of other tests before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="they run here with all others")
def test_exports_in_a_process_of_their_own():
    root = Path(__file__).parents[1]
    files = ["tests/deploy", "tests/detect/test_detector.py"]
    chosen = ["-k", "deploy or test_exported_back_ends", "-n", "0", "-q", "-p", "no:cacheprovider"]
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen, *files],
        cwd=root, env=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout.splitlines()[-1]
