"""A robustness suite as a picture and as one HTML page."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sficonv.evaluation.plots import new_axes
from sficonv.evaluation.result import flat
from sficonv.evaluation.robustness_result import RobustnessResult
from sficonv.files import atomic_file
from sficonv.media.corruptions import CORRUPTIONS
from sficonv.pages import LIGHT, page_template, plot_style, svg_of
from sficonv.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = {1: "o", 2: "s"}


def write_picture(result: RobustnessResult, path: Path) -> None:
    """All kinds of damage on one sheet, as PNG."""
    with plot_style():
        corruption_overview(result).savefig(path, dpi=150, facecolor="white")


def write_page(result: RobustnessResult, path: str | Path) -> Path:
    """Write one self-contained HTML file; returns it."""
    with plot_style():
        plots = [
            (kind, CORRUPTIONS[kind].unit, svg_of(corruption_plot(result, kind), f"plot-{kind}", said))
            for kind in result.kinds
            for said in [f"Video AUC over the levels of {kind}; the table below holds the figures"]
        ]
    page = page_template("sficonv.evaluation", "robustness.html.jinja").render(
        result=result,
        plots=plots,
        created=datetime.now(UTC),
        version=__version__,
        provenance=list(flat(result.provenance)),
    )
    with atomic_file(Path(path)) as file:
        file.write_text(page, encoding="utf-8", errors="replace")
    return Path(path)


def corruption_plot(result: RobustnessResult, kind: str) -> Figure:
    """AUC over the levels of one corruption, with bands for the intervals; level 0 is the clean data."""
    figure, axes = new_axes()
    _draw_corruption(axes, result, kind)
    axes.legend(loc="lower left")
    return figure


def corruption_overview(result: RobustnessResult) -> Figure:
    """`corruption_plot` of every kind on one sheet."""
    from matplotlib.figure import Figure

    columns = min(4, len(result.kinds) + 1)
    rows = math.ceil((len(result.kinds) + 1) / columns)
    figure = Figure(figsize=(2.6 * columns, 2.5 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for number, (panel, kind) in enumerate(zip(panels, result.kinds, strict=False)):
        _draw_corruption(panel, result, kind)
        if number % columns:
            panel.set_ylabel("")
    for panel in panels[len(result.kinds) :]:
        panel.set_axis_off()
    panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="center left")
    return figure


def _draw_corruption(axes: Axes, result: RobustnessResult, kind: str) -> None:
    axes.axhline(0.5, color=LIGHT["soft"], linewidth=1, linestyle=":", label="chance")
    for number, model in enumerate(result.models, start=1):
        cells = [cell for cell in result.cells if cell.model == model.name and cell.kind in ("clean", kind)]
        levels = [cell.level for cell in cells]
        aucs = [cell.auc for cell in cells]
        colour = LIGHT[f"p{number}"]
        axes.fill_between(
            levels, [a.low for a in aucs], [a.high for a in aucs], color=colour, alpha=0.15, linewidth=0
        )
        axes.plot(
            levels,
            [a.value for a in aucs],
            color=colour,
            label=model.name,
            marker=MARKS[number],
            markersize=4,
            linestyle="-" if number == 1 else "--",
        )
    axes.set(title=kind, xlabel="level (0 = clean)", ylabel="video AUC", ylim=(0, 1.02))
    axes.set_xticks(range(6))
