"""Judge a detector: prepared crops (or anybody's scores) in, figures with intervals and doubts out."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import sklearn
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import sficonv
from sficonv.data.dataset import FaceCrops
from sficonv.data.manifest import manifest_hash, read_manifest, read_protocol
from sficonv.data.shards import read_index
from sficonv.errors import DataError, SficonvError
from sficonv.evaluation.metrics import (
    METRICS,
    bootstrap_intervals,
    check_scores,
    compute_metrics,
    frame_to_video,
)
from sficonv.evaluation.protocol import protocol_remarks
from sficonv.evaluation.result import Estimate, EvaluationResult
from sficonv.models.checkpoint import load_weights, read_calibration, resolve_weights
from sficonv.models.config import to_input

Split = Literal["train", "val", "test", "all"]
Level = Literal["frame", "video"]
FEW_VIDEOS = 10


class _Readable(Dataset):
    """`FaceCrops` whose unreadable items are an error text instead of an exception."""

    def __init__(self, crops: FaceCrops) -> None:
        self.crops = crops

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, str]:
        try:
            return index, self.crops[index][0], ""
        except (SficonvError, OSError) as error:
            return index, None, str(error)


def _as_list(items: list[Any]) -> list[Any]:
    return items  # crops may differ in size: they are stacked only after resizing


def predict(
    model: nn.Module,
    df: pd.DataFrame,
    root: str | Path,
    *,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    workers: int = 0,
    temperature: float = 1.0,
) -> pd.DataFrame:
    """Score the face crops of a manifest.

    Args:
        model: Maps `(B, 3, H, W)` to logits `(B, 2)` and carries a `config`; left in the mode it was in.
        df: Manifest rows (`path`, `label`).
        root: Folder that `path` is relative to.
        batch_size: Crops per forward pass.
        device: Where to compute; the model is moved there. Default: where the model is.
        workers: Processes that decode crops; 0 decodes in this one.
        temperature: Divides the logits, as the model card's calibration says.

    Returns:
        `df` with `p_fake` and `error`. A crop that cannot be read has `p_fake` `nan` and the reason.

    Raises:
        ValueError: If `batch_size` or `temperature` is not positive.

    Example:
        >>> scores = predict(model, read_manifest("prepared"), "prepared")  # doctest: +SKIP
    """
    if batch_size < 1 or temperature <= 0:
        raise ValueError(f"batch_size and temperature must be positive, got {batch_size} and {temperature}")
    from rich.console import Console
    from rich.progress import Progress

    place = next(model.parameters(), torch.empty(0)).device if device is None else torch.device(device)
    model.to(place)
    scores, errors = np.full(len(df), math.nan), np.full(len(df), "", dtype=object)
    crops = _Readable(FaceCrops(df, root))
    loader = DataLoader(crops, batch_size=batch_size, num_workers=workers, collate_fn=_as_list)
    modes = [(module, module.training) for module in model.modules()]
    console = Console(stderr=True)
    model.eval()
    try:
        with torch.inference_mode(), Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("face crops", total=len(df))
            for batch in loader:
                progress.advance(task, len(batch))
                for index, _, error in batch:
                    errors[index] = error
                if good := [(index, image) for index, image, _ in batch if image is not None]:
                    logits = model(_batch([image.to(place) for _, image in good], model.config)).double()
                    probabilities = (logits / temperature).softmax(dim=1)[:, 1]
                    scores[[index for index, _ in good]] = probabilities.cpu().numpy()
    finally:
        for module, mode in modes:  # parents come first, so every module ends in its own mode
            module.train(mode)
    return df.assign(p_fake=scores, error=errors)


def _batch(images: list[Tensor], config: Any) -> Tensor:
    if len({image.shape for image in images}) == 1:
        return to_input(torch.stack(images), config)
    return torch.cat([to_input(image[None], config) for image in images])


def evaluate(
    weights: str | Path = "default",
    data: str | Path | None = None,
    *,
    split: Split = "test",
    predictions: str | Path | None = None,
    batch_size: int = 32,
    bootstrap: int = 1000,
    seed: int = 0,
    out: str | Path | None = None,
    report: str | Path | None = None,
    device: str | None = None,
    workers: int = 0,
) -> EvaluationResult:
    """Judge a detector on a prepared folder, or anybody's scores.

    Args:
        weights: A `.safetensors` file with its card, or `"default"` for the shipped detector.
        data: A folder made by `prepare`.
        split: Which rows of it: `"train"`, `"val"`, `"test"`, or `"all"`.
        predictions: Instead of `data`: a CSV or Parquet file with `label` (0 = real, 1 = fake) and `p_fake`,
            and optionally `video_id`, `method`, `compression`, `dataset`, `path`. `weights` is then not read.
        batch_size: Crops per forward pass.
        bootstrap: Resamplings of the videos for the intervals; 0 for none.
        seed: Seed of the resampling.
        out: Folder for `metrics.json` and `predictions.parquet`.
        report: HTML file to write: figures, curves, the worst mistakes with their faces.
        device: `"cpu"`, `"cuda"`, ...; default: a GPU where there is one.
        workers: Processes that decode crops.

    Returns:
        The figures, with everything that makes them doubtful.

    Raises:
        DataError: If there is nothing to evaluate, or a row is unusable (NaN score, a video with two labels).
        WeightsError: If the weights cannot be loaded.
        ValueError: If an argument is out of range, or neither or both of `data` and `predictions` are given.

    Example:
        >>> result = evaluate("detector.safetensors", "prepared", split="test")  # doctest: +SKIP
        >>> rich.print(result.summary())                                         # doctest: +SKIP
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {get_args(Split)}, got {split!r}")
    if predictions is not None and data is None:
        scored = read_predictions(predictions)
        result = judge(scored, data=str(predictions), bootstrap=bootstrap, seed=seed)
        digest = hashlib.sha256(Path(predictions).read_bytes()).hexdigest()
        result.provenance["predictions_sha256"] = digest
    elif data is not None and predictions is None:
        manifest = read_manifest(data)
        rows = rows_of(manifest, split, str(data))
        if read_index(data) is not None:
            raise DataError(f"{data}: holds shards, which only training reads; name the prepared folder")
        model, card = load_weights(weights)
        temperature, _ = read_calibration(card)
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        root = Path(data) if Path(data).is_dir() else Path(data).parent
        scored = predict(
            model, rows, root, batch_size=batch_size, device=where, workers=workers, temperature=temperature
        )
        result = judge(
            scored, weights=str(weights), model=card.get("model"), data=str(data),
            split=split, bootstrap=bootstrap, seed=seed,
        )  # fmt: skip
        protocol = read_protocol(data)
        warnings, notes = protocol_remarks(manifest, rows, split, card, protocol)
        result.warnings.extend(warnings)
        result.notes.extend(notes)
        result.provenance["protocol"] = asdict(protocol) if protocol else None
        digest = hashlib.sha256(resolve_weights(weights).read_bytes()).hexdigest()
        result.provenance.update(
            weights_sha256=digest, rows_hash=manifest_hash(rows), temperature=temperature
        )
    else:
        raise ValueError("give either data (a prepared folder) or predictions (a file of scores)")
    if out is not None:
        result.save(out)
    if report is not None:
        from sficonv.evaluation.report import write_report

        write_report(result, report)
    return result


def judge(
    scored: pd.DataFrame,
    *,
    weights: str | None = None,
    model: str | None = None,
    data: str = "scores",
    split: str = "all",
    bootstrap: int = 1000,
    seed: int = 0,
) -> EvaluationResult:
    """Figures for a table of scores: what `evaluate` does once every crop has its score.

    Args:
        scored: `label`, `p_fake`, `video_id`, and optionally `method`, `compression`, `dataset`, `path`,
            `error`. Rows with a text in `error` are left out and counted.
        weights, model, data, split: What the scores are of, for the result.
        bootstrap: Resamplings of the videos; 0 for no intervals.
        seed: Seed of the resampling.

    Raises:
        DataError: If no row can be judged, a score is unusable, or a video has two labels.
    """
    warnings = []
    scored = scored.reset_index(drop=True)
    # Rows of one path may be the faces of one frame: only those that say the same twice are repetitions.
    same = [
        name for name in ("path", "frame", "face", "video_id", "label", "p_fake") if name in scored.columns
    ]
    if "path" in same and (repeated := scored.duplicated(same)).any():
        warnings.append(f"{int(repeated.sum())} rows repeat another row and were left out")
        scored = scored[~repeated]
    if "video_id" not in scored.columns:
        warnings.append(
            "there is no column video_id: every row counts as a video of its own, and the intervals are too "
            "narrow if rows share a video"
        )
        scored = scored.assign(video_id=[f"row {i}" for i in range(len(scored))])
    failed = _has_text(scored["error"]) if "error" in scored.columns else pd.Series(False, scored.index)
    rows = scored[~failed]
    if failed.any():
        first = scored.loc[failed, "error"].iloc[0]
        warnings.append(f"{int(failed.sum())} of {len(scored)} crops were left out, the first: {first}")
    if rows.empty:
        raise DataError(f"{data}: nothing to judge ({'; '.join(warnings) or 'no rows'})")
    check_scores(rows["label"], rows["p_fake"], names=rows["path"] if "path" in rows.columns else rows.index)
    rows = rows.assign(label=rows["label"].astype(int), method=_methods(rows))
    videos = frame_to_video(rows)
    counts = {"unreadable": int(failed.sum())}
    for name, table in (("frames", rows), ("videos", videos)):
        fakes = int(table["label"].sum())
        counts |= {name: len(table), f"real_{name}": len(table) - fakes, f"fake_{name}": fakes}
    notes: list[str] = []
    figures: dict[Level, dict[str, Estimate]] = {}
    tables: dict[Level, pd.DataFrame] = {"frame": rows, "video": videos}
    for level, table in tables.items():
        values = compute_metrics(table["label"], table["p_fake"])
        intervals = bootstrap_intervals(rows, level=level, samples=bootstrap, seed=seed)
        figures[level] = {name: Estimate(values[name], *intervals[name]) for name in METRICS}
        notes += _by_reason(level, values.notes)
    for kind in ("real", "fake"):
        if 0 < (n := counts[f"{kind}_videos"]) < FEW_VIDEOS:
            notes.append(f"only {n} {kind} videos: too few for intervals to rely on")
    versions = {
        "sficonv": sficonv.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
    }
    per_method = _per_method(rows, bootstrap, seed)
    return EvaluationResult(
        weights=weights,
        model=model,
        data=data,
        split=split,
        counts=counts,
        frame=figures["frame"],
        video=figures["video"],
        per_method=per_method,
        predictions=scored.reset_index(drop=True),
        warnings=warnings,
        notes=notes,
        provenance={"versions": versions, "bootstrap": bootstrap, "seed": seed},
    )


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read a file of scores (CSV or Parquet) with at least the columns `label` and `p_fake`.

    Raises:
        DataError: If it is missing, of another kind, unreadable, or lacks a column.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file of scores")
    names = ("video_id", "method", "compression", "dataset", "path", "error")
    try:
        if path.suffix.lower() == ".csv":  # ids such as 000 must stay text
            df = pd.read_csv(path, dtype=dict.fromkeys(names, "string"))
        elif path.suffix.lower() == ".parquet":
            df = pd.read_parquet(path)
        else:
            raise DataError(f"{path}: scores must be a .csv or .parquet file")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable table ({str(error).splitlines()[0]})") from error
    if missing := {"label", "p_fake"} - set(df.columns):
        raise DataError(f"{path}: no column {' and '.join(sorted(missing))}; it has {', '.join(df.columns)}")
    for column in ("label", "p_fake"):
        try:
            df[column] = pd.to_numeric(df[column]).astype(float)
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: column {column} must hold numbers ({error})") from error
    return df


def rows_of(manifest: pd.DataFrame, split: str, name: str) -> pd.DataFrame:
    """The rows of a split, or of `"all"`; `DataError` where there are none."""
    rows = manifest if split == "all" else manifest[manifest["split"] == split]
    if rows.empty:
        sizes = manifest["split"].value_counts().to_dict()
        there = ", ".join(f"{key or 'without a split'}: {n}" for key, n in sorted(sizes.items()))
        raise DataError(
            f"{name}: no face crops in split {split!r} (there are {there or 'none'}); 'all' takes every row"
        )
    return rows.reset_index(drop=True)


def _methods(rows: pd.DataFrame) -> pd.Series:
    default = rows["label"].map({0: "real", 1: "fake"})
    if "method" not in rows.columns:
        return default
    return rows["method"].where(_has_text(rows["method"]), default).astype(str)


def _has_text(column: pd.Series) -> pd.Series:
    return column.fillna("").astype(str) != ""


def _by_reason(level: str, notes: dict[str, str]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in notes.items():
        reasons.setdefault(reason, []).append(name)
    return [f"{level} {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _per_method(rows: pd.DataFrame, bootstrap: int, seed: int) -> pd.DataFrame:
    rows = rows.assign(compression=rows["compression"].fillna("") if "compression" in rows.columns else "")
    reals = rows[rows["label"] == 0]
    keys = [name for name in ("dataset", "method", "compression") if name in rows.columns]
    table = []
    for key, fakes in rows[rows["label"] == 1].groupby(keys, dropna=False, observed=True):
        entry = dict(zip(keys, key, strict=True))
        part = pd.concat([fakes, reals[reals["compression"] == entry["compression"]]])
        videos = frame_to_video(part)
        frame, video = (compute_metrics(t["label"], t["p_fake"]) for t in (part, videos))
        low, high = bootstrap_intervals(part, samples=bootstrap, seed=seed)["auc"]
        table.append(
            entry
            | {"fake_videos": int(video["n_fake"]), "real_videos": int(video["n_real"])}
            | {"fake_frames": int(frame["n_fake"]), "real_frames": int(frame["n_real"])}
            | {"video_auc": video["auc"], "video_auc_low": low, "video_auc_high": high}
            | {f"video_{name}": video[name] for name in ("bacc", "eer")}
            | {f"frame_{name}": frame[name] for name in ("auc", "bacc", "eer")}
        )
    return pd.DataFrame(table)
