"""How a detector holds up when its pictures are damaged: AUC over kinds and levels of corruption."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

import pandas as pd
import torch

from sficonv.datasets.manifest import manifest_hash, prepared_folder, read_manifest, read_protocol
from sficonv.errors import DataError
from sficonv.estimate import Estimate
from sficonv.evaluation.benign import BenignResult, judge_edits
from sficonv.evaluation.bootstrap import bootstrap_intervals
from sficonv.evaluation.evaluate import Split, rows_of
from sficonv.evaluation.metrics import compute_metrics
from sficonv.evaluation.overlap import overlap_remarks
from sficonv.evaluation.robustness_report import write_page, write_picture
from sficonv.evaluation.robustness_result import CLEAN, JudgedModel, RobustnessCell, RobustnessResult
from sficonv.evaluation.robustness_scores import Damage, NamedDetector, scored_cells
from sficonv.evaluation.scores import frame_to_video
from sficonv.files import atomic_file
from sficonv.media.corruptions import CORRUPTIONS, LEVELS
from sficonv.models.inference import usual_device
from sficonv.splits.split import drawn_splits
from sficonv.version import __version__


def robustness(
    data: str | Path,
    weights: str | Path = "default",
    *,
    weights_b: str | Path | None = None,
    split: Split = "test",
    corruptions: str | Sequence[str] = "all",
    levels: str | Sequence[int] = "1,2,3,4,5",
    benign: bool = False,
    max_frames: int | None = None,
    batch_size: int = 32,
    bootstrap: int = 1000,
    seed: int = 0,
    out: str | Path | None = None,
    report: str | Path | None = None,
    device: str | None = None,
    workers: int = 0,
) -> RobustnessResult | BenignResult:
    """Measure one or two detectors on prepared faces that were damaged in known ways.

    Each kind and level of corruption (`sficonv.media.corruptions`) is one cell with its video AUC,
    beside the clean data. A damaged crop is made once and scored by every model, so both see the same pixels.

    The crops are damaged, not the videos they were cut from. For "h264" the crops of one face of one video
    form a clip in order of time (at most 64, and of one size) that is encoded at 25 frames per second. Where
    `prepare` sampled a video sparsely, successive frames of that clip differ more than in real footage:
    there is more for motion compensation to get wrong, and the block grid is that of the crop, not of the
    frame. A single crop is a clip of one keyframe. The damage adds to whatever compression the data has.

    Args:
        data: A folder made by `prepare`.
        weights: A `.safetensors` file with its card, or "default" for the shipped detector.
        weights_b: A second detector, scored on the same damaged crops.
        split: Which split: "train", "val", "test", or "all".
        corruptions: Kinds separated by commas (jpeg, h264, blur, noise, resize, saturation, contrast), or
            "all".
        levels: Levels 1 (slight) to 5 (severe), separated by commas.
        benign: Instead of damaging the crops, edit them as people do without meaning to deceive (mirror, save
            again, resize, crop, rotate, colour, sharpen, screenshot), and say how many verdicts change.
        max_frames: Most crops of each video, spread evenly over its crops; default: all of them.
        batch_size: Crops per forward pass.
        bootstrap: Resamplings of the videos for the intervals; 0 for none.
        seed: Seed of the noise and of the resampling.
        out: Folder for `robustness.json`, `robustness.png` and the scores of every finished cell. A cell that
            is there, of the same weights, rows and seed, is not computed again.
        report: HTML file to write.
        device: "cpu", "cuda", ...; default: a GPU where there is one.
        workers: Processes that decode and damage crops.

    Returns:
        The figures of every cell, or with `benign` the verdicts that each edit changes, with everything that
        makes them doubtful.

    Raises:
        DataError: If the split holds no rows or one class only, or nothing is readable.
        WeightsError: If weights cannot be loaded.
        ValueError: If a kind or level does not exist, or a number is out of range.

    Example:
        >>> result = robustness("faces", corruptions="jpeg,h264", levels="1,3")  # doctest: +SKIP
        >>> rich.print(result.summary())                                        # doctest: +SKIP
    """
    kinds, strengths = _kinds(corruptions), _levels(levels)
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {get_args(Split)}, got {split!r}")
    if batch_size < 1 or bootstrap < 0 or (max_frames is not None and max_frames < 1):
        raise ValueError("batch_size and max_frames must be at least 1, bootstrap 0 or more")
    data = data if split == "all" else drawn_splits(data)
    manifest = read_manifest(data)
    rows = spread(rows_of(manifest, split, str(data)), max_frames)
    where = device or usual_device()
    if benign:
        if weights_b is not None or report is not None:
            raise ValueError("benign takes one detector and writes no report: leave weights_b and report out")
        return _benign(NamedDetector.load("A", weights, where), rows, data, split, batch_size, out)
    if rows["label"].nunique() < 2:
        only = "fake" if rows["label"].iloc[0] else "real"
        raise DataError(
            f"{data}: split {split!r} holds {only} faces only, and AUC needs both; name another split"
        )
    files = {"A": weights} if weights_b is None else {"A": weights, "B": weights_b}
    models = [NamedDetector.load(letter, file, where) for letter, file in files.items()]
    damages = [Damage(CLEAN, 0)] + [Damage(kind, level) for kind in kinds for level in strengths]
    digest = manifest_hash(rows)
    folder = None if out is None else Path(out) / "scores"
    work = scored_cells(
        models, rows, prepared_folder(data), damages, digest, folder, seed, batch_size, workers
    )
    cells, unreadable = _figures(work, rows, data, bootstrap, seed)
    warnings, notes = _remarks(models, manifest, rows, split, data)
    result = RobustnessResult(
        models=tuple(JudgedModel(m.name, str(m.card.get("model")), str(m.file), m.sha256) for m in models),
        data=str(data),
        split=split,
        videos=int(rows["video_id"].nunique()),
        frames=len(rows) - len(unreadable),
        cells=tuple(cells),
        warnings=[*_left_out(unreadable, rows), *warnings],
        notes=notes,
        provenance={
            "versions": {"sficonv": __version__, "torch": torch.__version__},
            "rows_hash": digest,
            "max_frames": max_frames,
            "bootstrap": bootstrap,
            "seed": seed,
        },
    )
    if out is not None:
        write_picture(result, result.save(out) / "robustness.png")
    if report is not None:
        write_page(result, report)
    return result


def _figures(
    work: Iterable[tuple[Damage, NamedDetector, pd.DataFrame]],
    rows: pd.DataFrame,
    data: str | Path,
    bootstrap: int,
    seed: int,
) -> tuple[list[RobustnessCell], pd.DataFrame]:
    """The figure of every cell, and the rows of `work` that cannot be read, whatever the damage."""
    cells: list[RobustnessCell] = []
    unreadable = pd.DataFrame()
    for damage, model, scores in work:
        if not cells:
            unreadable = scores[scores["error"] != ""]
            if len(unreadable) == len(rows):
                raise DataError(f"{data}: nothing to judge, the first reason: {unreadable['error'].iloc[0]}")
        cells.append(_cell(damage, model.name, rows, scores, bootstrap, seed))
    return cells, unreadable


def _left_out(unreadable: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    if unreadable.empty:
        return []
    first = unreadable["error"].iloc[0]
    return [f"{len(unreadable)} of {len(rows)} crops were left out, the first: {first}"]


def _benign(
    detector: NamedDetector,
    rows: pd.DataFrame,
    data: str | Path,
    split: str,
    batch_size: int,
    out: str | Path | None,
) -> BenignResult:
    result = judge_edits(detector, rows, data, split=split, batch_size=batch_size)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        with atomic_file(Path(out) / "benign.json") as file:
            file.write_text(result.to_json() + "\n", encoding="utf-8")
    return result


def spread(rows: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """A limited number of crops of each video, spread evenly over its crops in order of time.

    Args:
        rows: Manifest rows.
        most: Crops per video; `None` keeps all.

    Example:
        >>> rows = pd.DataFrame({"video_id": list("aaaab"), "frame": [3, 2, 1, 0, 0], "face": 0})
        >>> spread(rows, 2)["frame"].tolist()
        [2, 0, 0]
    """
    if most is None:
        return rows
    ordered = rows.sort_values(["video_id", "frame", "face"], kind="stable")
    videos = ordered.groupby("video_id")["video_id"]
    rank, size = videos.cumcount(), videos.transform("size")
    # The k-th of n crops is kept where the share k / n enters another of the `most` equal parts.
    kept = (rank * most // size != (rank - 1) * most // size) | (size <= most)
    return rows[kept.reindex(rows.index)].reset_index(drop=True)


def _cell(
    damage: Damage, model: str, rows: pd.DataFrame, scores: pd.DataFrame, bootstrap: int, seed: int
) -> RobustnessCell:
    judged = rows[["video_id", "label"]].assign(p_fake=scores["p_fake"].to_numpy())
    judged = judged[(scores["error"] == "").to_numpy()]
    videos = frame_to_video(judged)
    value = compute_metrics(videos["label"], videos["p_fake"])["auc"]
    low, high = bootstrap_intervals(judged, level="video", samples=bootstrap, seed=seed)["auc"]
    return RobustnessCell(
        damage.kind, damage.level, damage.strength, model, Estimate(float(value), float(low), float(high))
    )


def _remarks(
    models: list[NamedDetector], manifest: pd.DataFrame, rows: pd.DataFrame, split: str, data: str | Path
) -> tuple[list[str], list[str]]:
    protocol = read_protocol(data)
    found: tuple[dict[str, None], dict[str, None]] = ({}, {})
    for model in models:
        for texts, kept in zip(
            overlap_remarks(manifest, rows, split, model.card, protocol), found, strict=True
        ):
            kept.update(dict.fromkeys(f"{model.name}: {text}" if len(models) > 1 else text for text in texts))
    return list(found[0]), list(found[1])


def _kinds(corruptions: str | Sequence[str]) -> list[str]:
    if corruptions == "all":
        return list(CORRUPTIONS)
    given = corruptions.split(",") if isinstance(corruptions, str) else list(corruptions)
    kinds = list(dict.fromkeys(kind.strip() for kind in given if kind.strip()))
    unknown = [kind for kind in kinds if kind not in CORRUPTIONS]
    if unknown or not kinds:
        raise ValueError(
            f"corruptions: there is no {', '.join(map(repr, unknown)) or 'kind given'}; "
            f"there are {', '.join(CORRUPTIONS)}, or 'all'"
        )
    return kinds


def _levels(levels: str | Sequence[int]) -> list[int]:
    given = levels.split(",") if isinstance(levels, str) else list(levels)
    try:
        numbers = sorted({int(level) for level in given})
    except ValueError:
        numbers = []
    if not numbers or not set(numbers) <= set(LEVELS):
        raise ValueError(f"levels must be numbers from 1 to 5 with commas between, got {levels!r}")
    return numbers
