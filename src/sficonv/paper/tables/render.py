"""A reproduced table as text for a terminal, as Markdown and as one HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sficonv.pages import page_template
from sficonv.paper.tables.figures import Cell, Figure, Metric, TableFigures
from sficonv.paper.tables.recipe import Column

if TYPE_CHECKING:
    from rich.console import Group

HEAD = (
    "network", "AUC: paper", "ours", "diff.", "interval", "BACC: paper", "ours", "diff.", "interval",
    "video AUC",
)  # fmt: skip
NARROW = tuple(range(8))  # what a terminal has room for
EXPLAINED = (
    "In percent, over face crops as in the paper (video AUC: over videos); diff. is ours less the paper's. "
    "BACC at the threshold 0.5."
)


def columns(table: TableFigures) -> list[tuple[Column, list[list[str]]]]:
    """For each column that has anything to show, the cells of each row as texts, under `HEAD`."""
    found = []
    for column in table.plan.table.columns:
        cells = [cell for cell in table.cells if cell.column.key == column.key]
        if any(cell.state != "not selected" for cell in cells):
            found.append((column, [_texts(cell) for cell in cells if cell.state != "not selected"]))
    return found


def intro(table: TableFigures) -> list[str]:
    """What has to be known to read the figures."""
    seeds = table.plan.seeds
    many = f"mean ± standard deviation over the seeds {', '.join(map(str, seeds))}"
    one = f"seed {seeds[0]}; intervals: 95 %, from resampling the test videos"
    lines = [f"{EXPLAINED} Figures: {many if len(seeds) > 1 else one}.", *table.plan.statements]
    lines += [f"Trained on: {machine}" for machine in table.machines]
    return lines


def doubts(table: TableFigures) -> list[str]:
    """What is missing, failed or doubtful."""
    failed = {f"{c.row.key}/{c.column.key} failed: {c.reason}" for c in table.cells if c.state == "failed"}
    missing = [f"missing: {problem}" for problem in table.plan.problems]
    return [*sorted(failed), *missing, *(f"warning: {text}" for text in table.warnings)]


def terminal(table: TableFigures) -> Group:
    """For a terminal (a rich renderable)."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [Text(table.plan.title, style="bold"), *map(Text, intro(table))]
    parts += [Text(doubt, style="yellow") for doubt in doubts(table)]
    for column, rows in columns(table):
        shown = Table(title=column.title, box=box.SIMPLE_HEAD, pad_edge=False)
        for index in NARROW:
            name = HEAD[index].replace(": ", "\n")
            shown.add_column(name, justify="right" if index else "left", no_wrap=index > 0)
        for row in rows:
            shown.add_row(*(row[index] for index in NARROW))
        parts.append(shown)
    parts += [Text(f"{kind}: {file}") for kind, file in table.files.items()]
    return Group(*parts)


def markdown(table: TableFigures, level: int = 1) -> str:
    """As Markdown.

    Args:
        table: The table.
        level: Of its heading.
    """
    mark = "#" * level
    lines = [f"{mark} {table.plan.title}", ""]
    for text in intro(table):
        lines += [_escaped(text), ""]
    lines += [f"- {_escaped(doubt)}" for doubt in doubts(table)]
    for column, rows in columns(table):
        lines += ["", f"{mark}# {column.title}", ""]
        lines += ["| " + " | ".join(HEAD) + " |", "|---" + "|---:" * (len(HEAD) - 1) + "|"]
        lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def html(table: TableFigures) -> str:
    """As one page that loads nothing from elsewhere."""
    return page_template("sficonv.paper.tables", "table.html.jinja").render(
        title=table.plan.title,
        head=HEAD,
        intro=intro(table),
        doubts=doubts(table),
        columns=[(column.title, rows) for column, rows in columns(table)],
    )


def _texts(cell: Cell) -> list[str]:
    options = " ".join(f"{key} {value}" for key, value in cell.row.options.items())
    name = " ".join(filter(None, (cell.row.network, cell.row.reported, f"({options})" if options else "")))
    texts = [name]
    metrics: tuple[Metric, ...] = ("auc", "bacc")
    for metric in metrics:
        printed, ours = cell.printed(metric), cell.figure(metric)
        difference = cell.difference(metric)
        texts += [
            "" if printed is None else f"{printed:g}" if cell.row.reported else f"{printed:.2f}",
            f"{ours.value:.2f}" if ours else _instead(cell) if metric == "auc" else "",
            "" if difference is None else f"{difference:+.2f}",
            ours.spread if ours else "",
        ]
    return [*texts, _whole(cell.figure("auc", "video"))]


def _instead(cell: Cell) -> str:
    return "undefined" if cell.state == "done" else cell.state


def _whole(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.2f} {figure.spread}".strip()


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
