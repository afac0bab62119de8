"""Judge a detector: prepared crops (or anybody's scores) in, figures with intervals and doubts out."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import torch

from sficonv.datasets.manifest import manifest_hash, prepared_folder, read_manifest, read_protocol
from sficonv.datasets.shards import read_index
from sficonv.errors import DataError
from sficonv.evaluation.calibration import read_threshold
from sficonv.evaluation.judging import judge
from sficonv.evaluation.protocol import protocol_remarks
from sficonv.evaluation.result import EvaluationResult
from sficonv.evaluation.score_table import score_file
from sficonv.evaluation.scoring import load_predictor, predict, predict_with
from sficonv.models.checkpoint import load_weights, read_calibration, resolve_weights

Split = Literal["train", "val", "test", "all"]


def evaluate(
    weights: str | Path = "default",
    data: str | Path | None = None,
    *,
    split: Split = "test",
    predictor: str | Path | None = None,
    predictions: str | Path | None = None,
    real_label: Literal[0, 1] = 0,
    batch_size: int = 32,
    bootstrap: int = 1000,
    seed: int = 0,
    out: str | Path | None = None,
    report: str | Path | None = None,
    device: str | None = None,
    workers: int = 0,
) -> EvaluationResult:
    """Judge a detector on a prepared folder, or anybody's scores.

    Neither crops nor features are kept, and a file of scores is read in batches: of a row 21 bytes are kept,
    and of a video its names once. Ten million rows of 100 000 videos take less than 2 GB beyond what the
    libraries take (measured in `docs/evaluation.md`). With `data`, the manifest is a table in memory too.
    Beyond 50 000 different scores the intervals (only those) take neighbouring scores together; a note then
    says how much that can matter.

    Args:
        weights: A `.safetensors` file with its card, or `"default"` for the shipped detector.
        data: A folder made by `prepare`.
        split: Which rows of it: `"train"`, `"val"`, `"test"`, or `"all"`.
        predictor: Instead of `weights`: a Python file that defines `predict(path)`, which returns P(fake) of
            one crop file. The file is run, so name only one that you trust. Crops on which it raises an
            exception are left out and counted.
        predictions: Instead of `data`: a CSV or Parquet file with `label` (0 = real, 1 = fake) and `p_fake`,
            and optionally `video_id`, `method`, `compression`, `dataset`, `path`. `weights` is then not read.
        real_label: Which label means real in the file of `predictions`; scores are P(fake) in any case.
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
        DataError: If there is nothing to evaluate, a row is unusable (NaN score, a video with two labels), or
            `predictor` cannot be used.
        WeightsError: If the weights cannot be loaded.
        ValueError: If an argument is out of range, or neither or both of `data` and `predictions` are given.

    Example:
        >>> result = evaluate("detector.safetensors", "prepared", split="test")  # doctest: +SKIP
        >>> rich.print(result.summary())                                         # doctest: +SKIP
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {get_args(Split)}, got {split!r}")
    if predictions is not None and data is None and predictor is None:
        result = _of_file(predictions, real_label, bootstrap=bootstrap, seed=seed)
    elif data is not None and predictions is None:
        if real_label != 0:
            raise ValueError("real_label is for predictions; in prepared data 0 is real")
        manifest = read_manifest(data)
        rows = rows_of(manifest, split, data)
        root = prepared_folder(data)
        if predictor is not None:
            scored = predict_with(load_predictor(predictor), rows, root)
            what = _Judged(model=str(predictor), provenance={"predictor_sha256": _sha256(predictor)})
        else:
            model, card = load_weights(weights)
            temperature, _ = read_calibration(card)
            where = device or ("cuda" if torch.cuda.is_available() else "cpu")
            scored = predict(
                model, rows, root, batch_size=batch_size, device=where, workers=workers,
                temperature=temperature,
            )  # fmt: skip
            what = _Judged(
                model=card.get("model"), weights=str(weights), card=card, threshold=read_threshold(card),
                provenance={"weights_sha256": _sha256(resolve_weights(weights)), "temperature": temperature},
            )  # fmt: skip
        result = judge(
            scored, weights=what.weights, model=what.model, data=str(data), split=split, bootstrap=bootstrap,
            seed=seed, threshold=what.threshold,
        )  # fmt: skip
        protocol = read_protocol(data)
        warnings, notes = protocol_remarks(manifest, rows, split, what.card, protocol)
        result.warnings.extend(warnings)
        result.notes.extend(notes)
        result.provenance.update(
            what.provenance, rows_hash=manifest_hash(rows), protocol=asdict(protocol) if protocol else None
        )
    else:
        raise ValueError("give either data (a prepared folder) or predictions (a file of scores)")
    if out is not None:
        result.save(out)
    if report is not None:
        from sficonv.evaluation.report import write_report

        write_report(result, report)
    return result


@dataclass(frozen=True)
class _Judged:
    """What made the scores; `card` is `None` where nobody says what it was trained on."""

    model: str | None
    weights: str | None = None
    card: dict[str, Any] | None = None
    threshold: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def _of_file(path: str | Path, real_label: int, **options: Any) -> EvaluationResult:
    table = score_file(path, real_label=real_label)
    result = judge(table, data=str(path), **options)
    if real_label:
        result.notes.append("label 1 means real in this file (real_label=1): its labels were turned around")
    result.provenance["predictions_sha256"] = _sha256(table.name)
    return result


def _sha256(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows_of(manifest: pd.DataFrame, split: str, data: str | Path) -> pd.DataFrame:
    """The rows of a split (or `"all"`) whose crops are files that can be scored.

    Raises:
        DataError: If there are none, or the crops of `data` lie in shards.
    """
    rows = manifest if split == "all" else manifest[manifest["split"] == split]
    if rows.empty:
        sizes = manifest["split"].value_counts().to_dict()
        there = ", ".join(f"{key or 'without a split'}: {n}" for key, n in sorted(sizes.items()))
        raise DataError(
            f"{data}: no face crops in split {split!r} (there are {there or 'none'}); 'all' takes every row"
        )
    if read_index(data) is not None:
        raise DataError(f"{data}: holds shards, which only training reads; name the prepared folder")
    return rows.reset_index(drop=True)
