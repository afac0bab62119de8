"""Mutation testing: a small change of the code at a time, and whether a test notices it.

    pip install cosmic-ray
    python benchmarks/mutation.py                  # all modules below, a sample of each
    python benchmarks/mutation.py detect/verdict.py --sample 0     # every mutant of one module
    python benchmarks/mutation.py --again          # only those that survived, after tests were added

The changes are those of cosmic-ray: another operator, comparison, number, boolean, decorator, loop or
exception. What differs in annotations only is left out. Each mutant runs the tests of its module in a
process of its own, forked from one that has loaded PyTorch, against a copy of the package, so that the
working tree is never changed. Raw rows: benchmarks/measured/mutation.csv; its column `why` says of a survivor
why no test can tell it from the original, and is written by hand. The table in CONTRIBUTING.md counts them.
"""

from __future__ import annotations

import argparse
import ast
import csv
import difflib
import gc
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from document import write_between

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks/measured/mutation.csv"
PAGE = ROOT / "CONTRIBUTING.md"
MARKS = "<!-- mutants: written by benchmarks/mutation.py -->", "<!-- end of mutants -->"
TESTS = {
    "nn/sficonv.py": ["nn/test_operators.py", "nn/test_sficonv.py"],
    "nn/execution.py": ["nn/test_operators.py", "nn/test_sficonv.py"],
    "nn/sampling.py": ["nn/test_sampling.py", "nn/test_operators.py", "nn/test_sficonv.py"],
    "nn/constrained.py": ["nn/test_constrained.py", "nn/test_operators.py"],
    "nn/norm.py": ["nn/test_norm.py", "nn/test_operators.py"],
    "nn/complexity.py": ["nn/test_complexity.py", "paper/tables/test_complexity.py"],
    "evaluation/metrics.py": ["evaluation/test_metrics.py"],
    "detect/verdict.py": ["detect/test_verdict.py"],
    "service/security.py": ["service/test_security.py"],
    "splits/leaks.py": ["splits/test_leaks.py"],
}
LOADED = ("torch", "torchvision", "timm", "torchmetrics", "sklearn.metrics", "scipy.stats", "skimage.data",
          "pandas", "cv2", "av", "PIL.Image", "starlette.responses", "httpx", "pytest")  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one module, and what became of it.

    Args:
        module: Below `src/sficonv`.
        line: Its line, from 1.
        before, after: The line.
        outcome: "killed", "timeout" (counts as killed) or "survived".
        seconds: Until the first test failed, or all had passed.
        why: Of a survivor, why it is no other program; written by hand.
    """

    module: str
    line: int
    before: str
    after: str
    outcome: str = ""
    seconds: float = 0.0
    why: str = ""

    @property
    def change(self) -> tuple[str, str, str]:
        """What stays the same when lines move."""
        return self.module, self.before, self.after

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What tells it from the same change of another line."""
        return self.module, self.line, self.before, self.after


Rows = dict[tuple[str, int, str, str], Mutant]


def mutants(module: str) -> Iterator[tuple[Mutant, str]]:
    """Every mutant of a module with its source; each program once."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = (ROOT / "src/sficonv" / module).read_text(encoding="utf-8")
    seen = {_program(source)}
    for name in operator_names():
        if "Variable" in name:  # these need to be told which
            continue
        operator, number = get_operator(name)(), 0
        while (changed := mutate_code(source, operator, number)) is not None:
            number += 1
            try:
                program = _program(changed)
            except SyntaxError:
                continue
            if program not in seen:
                seen.add(program)
                yield _described(module, source, changed), changed


def _program(source: str) -> str:
    """The source without what does not run: annotations (all are texts), `*` and `/` of signatures."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
            arguments = node.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            for each in (*named, arguments.vararg, arguments.kwarg):
                if each is not None:
                    each.annotation = None
            arguments.posonlyargs, arguments.args, arguments.kwonlyargs = [], named, []
            arguments.defaults += [default for default in arguments.kw_defaults if default is not None]
            arguments.kw_defaults = []
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(0)
    return ast.dump(tree)


def _described(module: str, source: str, changed: str) -> Mutant:
    old, new = source.splitlines(), changed.splitlines()
    for tag, start, end, new_start, new_end in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if tag != "equal":
            before = " ".join(line.strip() for line in old[start:end])
            return Mutant(module, start + 1, before, " ".join(x.strip() for x in new[new_start:new_end]))
    raise AssertionError("nothing has changed")


def run(mutant: Mutant, source: str | None, package: Path, limit: float) -> Mutant:
    """Try a mutant: what became of it. Without a source the module is as it is, and has to pass."""
    target = package / "sficonv" / mutant.module
    original = target.read_bytes()
    if source is not None:
        target.write_text(source, encoding="utf-8")
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.setsid()
        os._exit(_tests(mutant.module, package))
    outcome = ""
    while not outcome:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            outcome = "killed" if status else "survived"
        elif time.monotonic() - start > limit:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            outcome = "timeout"
        else:
            time.sleep(0.05)
    target.write_bytes(original)
    return replace(mutant, outcome=outcome, seconds=round(time.monotonic() - start, 1))


def _tests(module: str, package: Path) -> int:
    """In the process of a mutant: 0 if all tests pass."""
    import pytest

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # loading them takes longer than most tests
    sys.path.insert(0, str(package))
    tests = [str(ROOT / "tests" / name) for name in TESTS[module]]
    try:
        return int(pytest.main([
            "-x", "-q", "--tb=no", "--assert=plain", "-m", "not slow",
            "-p", "no:cacheprovider", "-p", "no:unraisableexception",
            "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"),
            "-o", "addopts=--import-mode=importlib", *tests,
        ]))  # fmt: skip
    except BaseException:
        return 1


def chosen(module: str, sample: int, seed: int) -> list[tuple[Mutant, str]]:
    """A sample of a module's mutants, the same for the same seed; 0 for all of them."""
    every = list(mutants(module))
    print(f"{module}: {len(every)} mutants", flush=True)
    return random.Random(seed).sample(every, sample) if 0 < sample < len(every) else every


def read() -> Rows:
    """The rows of earlier runs."""
    if not TABLE.is_file():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [Mutant(**{**row, "line": int(row["line"]), "seconds": float(row["seconds"])})
                for row in csv.DictReader(file)]  # fmt: skip
    return {row.key: row for row in rows}


def write(rows: Rows) -> None:
    """All rows, by module and line."""
    TABLE.parent.mkdir(exist_ok=True)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Mutant)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            asdict(row) for row in sorted(rows.values(), key=lambda r: (r.module, r.line, r.after))
        )


def score(rows: Rows) -> Iterator[str]:
    """Per module: how many mutants were tried, killed, and are no other program."""
    yield "| module | mutants tried | killed | the same program | survived |"
    yield "|---|---|---|---|---|"
    for module in TESTS:
        counts = Counter(
            ("equivalent" if row.why else "survived") if row.outcome == "survived" else "killed"
            for row in rows.values()
            if row.module == module
        )
        if counts:
            yield (
                f"| `{module}` | {counts.total()} | {counts['killed']} | {counts['equivalent']} | "
                f"{counts['survived']} |"
            )


def main() -> None:
    """Try the mutants, and write a row of each as it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=list(TESTS), help="below src/sficonv")
    parser.add_argument("--sample", type=int, default=80, help="mutants of each module; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="only those that survived without a reason")
    args = parser.parse_args()
    for name in LOADED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.freeze()
    rows = read()
    reasons = {row.change: row.why for row in rows.values()}
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        shutil.copytree(
            ROOT / "src/sficonv", package / "sficonv", ignore=shutil.ignore_patterns("__pycache__")
        )
        for module in args.modules:
            if args.again:
                again = {row.change for row in rows.values() if row.outcome == "survived" and not row.why}
                todo = [(m, s) for m, s in mutants(module) if m.change in again]
            else:
                todo = [(m, s) for m, s in chosen(module, args.sample, args.seed) if m.key not in rows]
            if not todo:
                continue
            unchanged = run(Mutant(module, 0, "", ""), None, package, 1200)
            if unchanged.outcome != "survived":
                raise SystemExit(f"{module}: its tests do not pass as it is")
            print(f"{module}: its tests take {unchanged.seconds} s", flush=True)
            for mutant, source in todo:
                tried = run(mutant, source, package, 30 + 4 * unchanged.seconds)
                why = reasons.get(mutant.change, "") if tried.outcome == "survived" else ""
                rows[mutant.key] = replace(tried, why=why)
                write(rows)
                if tried.outcome == "survived" and not why:
                    print(f"  {module}:{mutant.line}  {mutant.before}  ->  {mutant.after}", flush=True)
    write_between(PAGE, MARKS, list(score(rows)))
    print("\n".join(score(rows)))


if __name__ == "__main__":
    main()
