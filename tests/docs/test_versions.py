"""The documentation of two versions side by side, as CONTRIBUTING.md says, in a clone of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT

import sficonv
from sficonv.version import __version__


def commands() -> list[list[str]]:
    """What CONTRIBUTING.md says to type, without the server."""
    lines = re.findall(r"^(mike (?!serve).*)$", PAGES["CONTRIBUTING.md"], re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_the_version_that_is_deployed_is_this_one():
    assert commands()[0][-2] == __version__.rpartition(".")[0]


@pytest.mark.slow
def test_versions_stand_side_by_side_with_a_selector(tmp_path: Path):
    pytest.importorskip("mike")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Page\n")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = re.sub(r"^nav:.*", "nav: [index.md]\n", settings, flags=re.MULTILINE | re.DOTALL)
    settings = settings.replace("[src]", f"[{Path(sficonv.__file__).parents[1]}]")
    (tmp_path / "mkdocs.yml").write_text(settings)
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(*words: str) -> str:
        env = os.environ | names | {"PATH": path}
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("git", "init", "-q")
    run("git", "commit", "-q", "--allow-empty", "-m", "start")
    deploy, default = commands()
    for words in ([*deploy[:2], "0.0"], deploy, default):
        run(*words)

    def stored(name: str) -> str:
        return run("git", "show", f"gh-pages:{name}")

    versions = {entry["version"]: entry["aliases"] for entry in json.loads(stored("versions.json"))}
    assert versions == {"0.1": ["latest"], "0.0": []}
    assert "latest" in stored("index.html")
    assert '"provider": "mike"' in stored("0.1/index.html")
