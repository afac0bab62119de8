"""The plots of an evaluation, drawn by matplotlib in the colours of the pages; call them in `plot_style`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sficonv.evaluation.metrics import ECE_BINS, THRESHOLD
from sficonv.pages import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (3.7, 3.0)  # inches: text keeps its size where a page shows the plot as wide as a phone
HISTOGRAM_BINS = 20
LABELS = {0: "real", 1: "fake"}


def new_axes() -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
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
    figure, axes = new_axes()
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
    figure, axes = new_axes()
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
    figure, axes = new_axes()
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
