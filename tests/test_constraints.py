"""`constraints.txt` names a version of everything that an installation can bring, whoever asked for it."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def test_every_package_that_is_installed_with_this_one_is_constrained():
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("needs the sources")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constrained = {
        canonicalize_name(match[1])
        for match in re.finditer(r"^([\w.-]+)==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    }
    asked = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    waiting = [Requirement(text) for text in asked]
    seen: set[tuple[str, str]] = set()
    installed = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen or name == "sficonv":
                continue
            seen.add((name, extra))
            try:
                needs = map(Requirement, requires(name) or [])
            except PackageNotFoundError:  # an extra that is not installed here, or of another system
                continue
            installed[name] = requirement
            waiting += [need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})]
    assert {"huggingface-hub", "starlette", "torch"} <= installed.keys()
    assert sorted(installed.keys() - constrained) == []
