"""The plots of an evaluation, drawn by matplotlib in the colours of the pages; call them in `plot_style`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sficonv.evaluation.metrics import ECE_BINS, THRESHOLD
from sficonv.pages import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sficonv.evaluation.robustness_result import RobustnessResult

SIZE = (3.7, 3.0)  # inches: text keeps its size where a page shows the plot as wide as a phone
HISTOGRAM_BINS = 20
LABELS = {0: "real", 1: "fake"}
MARKS = {1: "o", 2: "s"}


def _axes(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def roc_plot(frames: pd.DataFrame, videos: pd.DataFrame) -> Figure | None:
    """ROC curves over videos and over crops; `None` where a class is missing.

    Args:
        frames: `label` and `p_fake` of every crop.
        videos: The same of every video.
    """
    from sklearn.metrics import roc_curve

    if frames["label"].nunique() < 2:
        return None
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=LIGHT["soft"], linewidth=1, linestyle=":", label="chance")
    for table, name, style, colour in ((videos, "videos", "-", "p1"), (frames, "crops", "--", "p2")):
        fpr, tpr, _ = roc_curve(table["label"], table["p_fake"])
        axes.plot(fpr, tpr, style, color=LIGHT[colour], label=name)
    axes.set(xlabel="share of reals called fake", ylabel="share of fakes found", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right")
    return figure


def score_histogram(table: pd.DataFrame) -> Figure:
    """How the scores of each class are spread.

    Args:
        table: `label` and `p_fake`.
    """
    figure, axes = _axes()
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for label, name in LABELS.items():
        scores = table.loc[table["label"] == label, "p_fake"].to_numpy()
        if len(scores):
            share = np.histogram(scores, edges)[0] / len(scores)
            style = "-" if label else "--"
            axes.stairs(share, edges, fill=True, color=LIGHT[name], alpha=0.25)
            axes.stairs(share, edges, color=LIGHT[name], linewidth=1.6, linestyle=style, label=name)
    axes.axvline(THRESHOLD, color=LIGHT["soft"], linewidth=1, linestyle=":")
    axes.set(xlabel="P(fake)", ylabel="share of the class", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def reliability_plot(table: pd.DataFrame) -> Figure:
    """What share of the crops with a given score is fake: on the diagonal, scores are probabilities.

    Args:
        table: `label` and `p_fake`.
    """
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=LIGHT["soft"], linewidth=1, linestyle=":", label="calibrated")
    labels, scores = table["label"].to_numpy(), table["p_fake"].to_numpy()
    # P(fake) = 1 belongs to the last bin here: a bin of its own would be drawn over it.
    bins = np.minimum((scores * ECE_BINS).astype(int), ECE_BINS - 1)
    counts = np.bincount(bins, minlength=ECE_BINS)
    some = counts > 0
    said = np.bincount(bins, weights=scores, minlength=ECE_BINS)[some] / counts[some]
    true = np.bincount(bins, weights=labels, minlength=ECE_BINS)[some] / counts[some]
    axes.plot(said, true, color=LIGHT["p1"], linewidth=1.2)
    area = 12 + 90 * counts[some] / counts.max()
    axes.scatter(said, true, s=area, color=LIGHT["p1"], label="crops, by number")
    axes.set(xlabel="mean P(fake) of the bin", ylabel="share of fakes", xlim=(0, 1), ylim=(-0.03, 1.03))
    axes.legend(loc="upper left")
    return figure


def corruption_plot(result: RobustnessResult, kind: str) -> Figure:
    """AUC over the levels of one corruption, with bands for the intervals; level 0 is the clean data."""
    figure, axes = _axes()
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
