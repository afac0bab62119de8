"""One HTML file that holds an evaluation: figures, plots, the worst mistakes with their faces, provenance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sficonv.datasets.crops import read_crop, to_tensor
from sficonv.datasets.manifest import prepared_folder
from sficonv.errors import SficonvError, WeightsError
from sficonv.estimate import Estimate
from sficonv.evaluation.metrics import FPR_LEVELS, METRICS, THRESHOLD
from sficonv.evaluation.plots import reliability_plot, roc_plot, score_histogram
from sficonv.evaluation.result import EvaluationResult, flat
from sficonv.evaluation.scores import frame_to_video
from sficonv.files import atomic_file
from sficonv.pages import jpeg_uri, page_template, plot_style, svg_of
from sficonv.version import __version__

if TYPE_CHECKING:
    import numpy as np

MISTAKES = 6
"""False alarms shown, and as many misses."""
SIDE = 160
"""Longer side of a face in the page, in pixels."""

EXPLAINED = {
    "auc": ("AUC", "chance that a fake scores above a real one; 0.5 is guessing"),
    "bacc": ("BACC", f"mean of the shares of reals and of fakes judged right at {THRESHOLD}"),
    "acc": ("ACC", f"share judged right at {THRESHOLD}"),
    "eer": ("EER", "error where false alarms and misses are equal; lower is better"),
    "ap": ("AP", "mean precision over the fakes found"),
    **{name: (f"TPR at FPR {level:g}", "share of fakes found") for name, level in FPR_LEVELS.items()},
    "ece": ("ECE", "mean gap between score and share of fakes; lower is better"),
}


@dataclass(frozen=True)
class Mistake:
    """One video judged wrong, and the crop of it that was judged worst.

    Args:
        video_id: The video.
        method: How it was made; "real" for a real one.
        video_p_fake: Its score.
        p_fake: The score of the crop.
        uri: The crop as a data URI.
        attention: The crop under its forgery attention map, as a data URI, or `None`.
    """

    video_id: str
    method: str
    video_p_fake: float
    p_fake: float
    uri: str
    attention: str | None


def write_report(result: EvaluationResult, path: str | Path) -> Path:
    """Write an evaluation as one self-contained HTML file.

    The faces of the worst mistakes are shown where the crops are at hand, the attention on them where the
    weights are a PyTorch model. Of a file of scores there are only figures and plots.

    Args:
        result: Of `evaluate` or `judge`.
        path: The file to write.

    Returns:
        The file.

    Example:
        >>> write_report(evaluate("default", "faces"), "report.html")  # doctest: +SKIP
        PosixPath('report.html')
    """
    scored = result.predictions
    rows = scored[scored["p_fake"].notna()]
    if "video_id" not in rows.columns:
        rows = rows.assign(video_id=[f"row {i}" for i in range(len(rows))])
    videos = frame_to_video(rows)
    remarks: list[str] = []
    mistakes = _mistakes(result, rows, videos, remarks)
    page = page_template("sficonv.evaluation", "report.html.jinja").render(
        result=result,
        created=datetime.now(UTC),
        version=__version__,
        metrics=[(*EXPLAINED[name], result.video[name], result.frame[name]) for name in METRICS],
        methods=list(_methods(result.per_method)),
        plots=_plots(rows, videos),
        mistakes=mistakes,
        remarks=remarks,
        threshold=THRESHOLD,
        provenance=list(flat(result.provenance)),
    )
    with atomic_file(Path(path)) as file:
        file.write_text(page, encoding="utf-8", errors="replace")
    return Path(path)


def _methods(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        video = Estimate(row["video_auc"], row["video_auc_low"], row["video_auc_high"])
        yield {
            **{str(key): value for key, value in row.items()},
            "video": video,
            "frame": Estimate(row["frame_auc"]),
        }


def _plots(rows: pd.DataFrame, videos: pd.DataFrame) -> list[tuple[str, Any, str]]:
    """Heading, SVG and what it shows."""
    with plot_style():
        drawn = [
            (
                "ROC curves",
                roc_plot(rows, videos),
                "Each point is a threshold: fakes found against reals called fake.",
            ),
            (
                "Scores of the crops",
                score_histogram(rows),
                "Real (dashed) and fake (solid): the less they overlap, the better.",
            ),
            ("Scores of the videos", score_histogram(videos), "The mean score of each video's crops."),
            (
                "Reliability",
                reliability_plot(rows),
                "Below the diagonal the detector cries fake too readily, above it too rarely. The mix of "
                "reals and fakes in this data shifts the curve.",
            ),
        ]
        return [
            (heading, svg_of(figure, f"plot-{number}", f"{heading}. {text}"), text)
            for number, (heading, figure, text) in enumerate(drawn)
            if figure is not None
        ]


def _mistakes(
    result: EvaluationResult, rows: pd.DataFrame, videos: pd.DataFrame, remarks: list[str]
) -> dict[str, list[Mistake]] | None:
    """False alarms and misses, worst first; `None` where there are no crops to show."""
    if result.weights is None or "path" not in rows.columns:
        return None
    attention = _attention(result.weights, remarks)
    alarms = videos[(videos["label"] == 0) & (videos["p_fake"] >= THRESHOLD)]
    misses = videos[(videos["label"] == 1) & (videos["p_fake"] < THRESHOLD)]
    chosen = {
        "alarms": alarms.sort_values("p_fake", ascending=False, kind="stable"),
        "misses": misses.sort_values("p_fake", kind="stable"),
    }
    found: dict[str, list[Mistake]] = {}
    for name, table in chosen.items():
        found[name] = []
        for video in table.head(MISTAKES).to_dict("records"):
            crops = rows[rows["video_id"] == video["video_id"]].sort_values("p_fake", kind="stable")
            worst = crops.iloc[[-1 if name == "alarms" else 0]].to_dict("records")[0]
            several = "folder" in worst  # then the path begins with it
            file = Path(worst["path"]) if several else prepared_folder(result.data) / worst["path"]
            try:
                crop = read_crop(file)
            except SficonvError as error:  # gone since it was judged
                remarks.append(str(error))
                continue
            found[name].append(
                Mistake(
                    str(video["video_id"]),
                    str(worst.get("method") or ("fake" if worst["label"] else "real")),
                    float(video["p_fake"]),
                    float(worst["p_fake"]),
                    jpeg_uri(crop, side=SIDE),
                    attention(crop) if attention else None,
                )
            )
    return found


def _attention(weights: str, remarks: list[str]) -> Any:
    """A function that lays the forgery attention map over a crop; `None` for weights without gradients."""
    from sficonv.attention.maps import forgery_attention, overlay
    from sficonv.models.checkpoint import load_weights
    from sficonv.models.config import to_input

    try:
        model, _ = load_weights(weights)
    except WeightsError as error:
        remarks.append(f"attention maps were left out: {error}")
        return None
    model.eval()

    def draw(crop: np.ndarray) -> str:
        x = to_input(to_tensor(crop)[None], model.config)  # type: ignore[arg-type]
        return jpeg_uri(overlay(crop, forgery_attention(model, x)[0], colours="turbo"), side=SIDE)

    return draw
