"""Arrows point one way: which folder may import which, and no circle of files anywhere.

Every import counts, also inside a function or for type checkers only: a reader has to follow each.
Only the package's own `__init__`, which offers the public names, stands outside; nothing may import it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sficonv

ROOT = Path(sficonv.__file__).parent

BASE = {
    "card",
    "errors",
    "estimate",
    "extras",
    "files",
    "pages",
    "progress",
    "ray_cluster",
    "shipped",
    "version",
    "workers",
}
MODELS = {"nn", "conversion", "models"}
DATA = {"media", "faces", "datasets", "splits", "preparation"}
JUDGING = {"training", "evaluation", "attention", "detect"}
MAY_IMPORT = {
    "shipped": {"errors"},
    "version": set(),
    "card": {"errors"},
    "errors": set(),
    "estimate": set(),
    "extras": {"errors"},
    "files": {"errors"},
    "pages": {"errors", "estimate", "version"},
    "progress": set(),
    "ray_cluster": {"errors"},
    "workers": set(),
    "nn": BASE,
    "conversion": BASE | {"nn"},
    "models": BASE | {"nn", "conversion"},
    "media": BASE,
    "faces": BASE | {"media"},
    "datasets": BASE | {"media", "faces"},
    "splits": BASE | {"media", "faces", "datasets"},
    "preparation": BASE | {"media", "faces", "datasets", "splits"},
    "training": BASE | MODELS | DATA,
    "attention": BASE | MODELS | DATA,
    "evaluation": BASE | MODELS | DATA | {"attention"},
    "exported": BASE,
    "detect": BASE | MODELS | DATA | {"attention", "exported"},
    "deploy": BASE | MODELS | DATA | JUDGING | {"exported"},
    "service": BASE | MODELS | DATA | JUDGING | {"deploy"},
    "paper": BASE | MODELS | DATA | JUDGING | {"deploy"},
    "cli": BASE | MODELS | DATA | JUDGING | {"deploy", "service", "paper"},
    "__main__": {"cli"},
}


def name_of(path: Path) -> str:
    """`sficonv/nn/__init__.py` is "nn"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"}


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports; "" is the package itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("sficonv.") in FILES else str(node.module) for name in inner]
        for name in names:
            if name.split(".")[0] == "sficonv":
                yield name.removeprefix("sficonv").removeprefix(".")


ARROWS = {name: set(imported(path)) - {name} for name, path in FILES.items()}


def circles(arrows: dict[str, set[str]]) -> list[frozenset[str]]:
    """The sets of files of which each leads to each other (strongly connected components)."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for name in arrows.get(todo.pop(), set()) - seen:
                seen.add(name)
                todo.append(name)
        return seen

    reach = {name: reached(name) for name in arrows}
    return sorted(
        {
            frozenset(other for other in reach[name] if name in reach[other]) | {name}
            for name in arrows
            if name in reach[name]
        },
        key=sorted,
    )


def test_every_folder_has_its_place():
    assert {name.split(".")[0] for name in FILES} == MAY_IMPORT.keys()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_between_folders_point_one_way(room):
    allowed = MAY_IMPORT[room] | {room}
    wrong = [
        f"{name} imports {other or 'sficonv'}"
        for name, others in ARROWS.items()
        for other in others
        if name.split(".")[0] == room and other.split(".")[0] not in allowed
    ]
    assert not wrong


def test_the_folders_have_an_order():
    assert not circles(MAY_IMPORT)


def test_no_files_import_each_other_in_a_circle():
    assert not [sorted(circle) for circle in circles(ARROWS)]


def test_a_circle_is_found():
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(arrows) == [frozenset("abc")]


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that are there after a statement."""
    program = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing():
    assert not loaded_by("import sficonv; sficonv.__version__; dir(sficonv)") & {"torch", "numpy", "timm"}


def test_the_operators_load_pytorch_and_nothing_of_timm():
    loaded = loaded_by("import sficonv.nn")
    assert "torch" in loaded
    assert not loaded & {"timm", "torchvision", "pandas", "cv2"}


def test_every_public_name_can_be_had():
    assert all(getattr(sficonv, name) is not None for name in sficonv.__all__)
    assert sorted(sficonv.__all__) == sorted(sficonv._HOME)
