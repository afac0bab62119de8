"""What the command line prints: an answer as JSON for programs, or as text for people.

Answers are told apart by what they hold, not by their types, so that no verb loads the modules of another.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from sficonv.pages import printable

if TYPE_CHECKING:
    from sficonv.detect.demo import DemoResult
    from sficonv.detect.explain import Explanation
    from sficonv.detect.results import ScanResult

NAMED = 5
"""Skipped files named in the summary of a scan."""
STYLES = {"fake": "bold red", "real": "green", "uncertain": "yellow", "no_face": "dim", "error": "bold red"}


def to_json(answer: Any) -> str:
    """Any answer of a verb as strict JSON: numbers that are not finite become `null`.

    Example:
        >>> to_json({"auc": float("nan")}).split()
        ['{', '"auc":', 'null', '}']
    """
    return json.dumps(_plain(answer), indent=2, allow_nan=False)


def failed(answer: Any) -> bool:
    """Whether any input of the command failed, so that its exit code has to say so."""
    if hasattr(answer, "cases"):  # of the demo
        answer = [case.result for case in answer.cases]
    if isinstance(answer, list):
        return any(getattr(item, "error", None) for item in answer)
    if hasattr(answer, "failed"):  # of checking data
        return bool(answer.failed)
    if hasattr(answer, "broken"):  # of preparing data
        return answer.broken > 0 or answer.crops == 0
    return False


def show(answer: Any, options: Mapping[str, Any]) -> None:
    """Print an answer for people."""
    console = Console(highlight=False, soft_wrap=True)
    match answer:
        case _ if hasattr(answer, "cases"):
            _demo(console, answer)
        case [first, *_] if hasattr(first, "verdict"):
            _scan(console, answer, options)
        case [first, *_] if hasattr(first, "pictures"):
            _explanations(console, answer)
        case list():
            for item in answer:
                console.print(Text(printable(item)))
        case _ if hasattr(answer, "summary"):
            summary = answer.summary()
            if isinstance(summary, str):
                console.print(Text(_printable_lines(summary)))
            else:
                console.print(_Printable(summary))
            if options.get("report"):
                console.print(Text(f"report: {printable(options['report'])}"))
        case _ if hasattr(answer, "history"):  # of a training: its card holds the rest
            entries = {
                "metrics": answer.card["metrics"],
                "history": answer.history,
                "weights": answer.weights,
            }
            for key, value in _plain(entries).items():
                _entry(console, key, value)
        case _:
            for key, value in _plain(answer).items():
                _entry(console, key, value)


@dataclass(frozen=True)
class _Printable:
    """A table or another renderable whose cells may hold names from strangers."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(_printable_lines(segment.text), segment.style)


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _entry(console: Console, key: str, value: Any, indent: str = "") -> None:
    name = f"{indent}{printable(key).replace('_', ' ')}:"
    if isinstance(value, dict):
        console.print(Text(name))
        for inner, item in value.items():
            _entry(console, inner, item, indent + "  ")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        console.print(Text(name))
        for row in value:
            cells = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            console.print(Text(f"{indent}  {printable(', '.join(cells))}"))
    else:
        number = isinstance(value, int) and not isinstance(value, bool)
        console.print(Text(f"{name} {f'{value:,}' if number else printable(value)}"))


def _scan(console: Console, results: list[ScanResult], options: Mapping[str, Any]) -> None:
    if caution := getattr(results, "caution", ""):
        console.print(Text(f"known weakness of the detector: {printable(caution)}", style="italic"))
    judged = [r for r in results if r.verdict != "skipped"]
    for r in judged:
        p_fake = "    " if r.p_fake is None else f"{r.p_fake:.2f}"
        console.print(
            Text.assemble((f"{r.verdict:<10}", STYLES[r.verdict]), f"{p_fake}  ", printable(r.path))
        )
        for reason in filter(None, (r.problem, *r.notes, *r.facts)):
            console.print(Text(f"{'':16}{printable(reason)}", style="dim"))
    counts = Counter[str](r.verdict for r in judged)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict])
    console.print(Text(f"{_files(len(judged))}: {summary}", style="bold"))
    for why in sorted({reason for r in results if r.verdict == "skipped" for reason in r.notes}):
        names = [printable(r.path) for r in results if r.verdict == "skipped" and why in r.notes]
        more = f" and {len(names) - NAMED} more (--json, --csv or --report names all)"
        some = ", ".join(names[:NAMED]) + (more if len(names) > NAMED else "")
        console.print(Text(f"{_files(len(names))} skipped, {why}: {some}", style="dim"))
    for kind in ("csv", "report", "annotate"):
        if options.get(kind):
            console.print(Text(f"{kind}: {printable(options[kind])}"))


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _explanations(console: Console, explanations: list[Explanation]) -> None:
    for e in explanations:
        answer = "no face" if e.p_fake is None else f"P(fake) {e.p_fake:.2f}"
        console.print(Text(printable(e.error) if e.error else f"{printable(e.path)}: {answer}"))
        for kind, picture in e.pictures.items():
            console.print(Text(f"  {kind}: {printable(picture)}"))
        for key, value in e.numbers.items():
            console.print(Text(f"  {key.replace('_', ' ')}: {value:.3f}"))


def _demo(console: Console, answer: DemoResult) -> None:
    from rich.table import Table

    table = Table("file", "truth", "P(fake)", "verdict", "", box=None, pad_edge=False)
    for case in answer.cases:
        p_fake = "" if case.result.p_fake is None else f"{case.result.p_fake:.2f}"
        said = Text(case.result.verdict, style=STYLES[case.result.verdict])
        table.add_row(case.result.path.name, case.truth, p_fake, said, case.outcome)
    console.print(table)
    console.print(Text(answer.sentence(), style="bold"))
    console.print(
        Text("Forgeries of one photograph show how it works, not how good it is: see the model card.")
    )
    console.print(Text(f"report: {printable(answer.report)}", style="bold"))


def _plain(value: Any) -> Any:
    """JSON types only."""
    if (pandas := sys.modules.get("pandas")) and isinstance(value, pandas.DataFrame):
        return _plain(value.to_dict(orient="records"))
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)
