"""Judge a detector: prepared crops (or anybody's scores) in, figures with intervals and doubts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from sficonv.card import read_calibration
from sficonv.datasets.manifest import Protocol, manifest_hash, prepared_folder, read_manifest, read_protocol
from sficonv.datasets.shards import read_index
from sficonv.errors import DataError
from sficonv.evaluation.judge import judge
from sficonv.evaluation.overlap import overlap_remarks
from sficonv.evaluation.predict import load_predictor, predict, predict_with
from sficonv.evaluation.report import write_report
from sficonv.evaluation.result import EvaluationResult
from sficonv.evaluation.score_table import score_file
from sficonv.files import sha256_of
from sficonv.models.checkpoint import load_weights, resolve_weights
from sficonv.models.inference import asks_for_mirror, usual_device
from sficonv.splits.split import drawn_splits

Split = Literal["train", "val", "test", "all"]


def evaluate(
    weights: str | Path = "default",
    data: str | Path | Sequence[str | Path] | None = None,
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
    """Measure a detector on a prepared folder, or the scores of any detector.

    A file of scores is read in batches, so that ten million rows fit into memory (`docs/evaluation.md`).
    Beyond 50 000 different scores the intervals, and only they, merge neighbouring scores; a note then says
    how much that can matter.

    Args:
        weights: A `.safetensors` file with its card, or `"default"` for the shipped detector.
        data: A folder made by `prepare`, or several, such as `[a, b]`: each is then one source, named after
            its folder, and the result also shows what one threshold for all of them does (`pooled`).
        split: Which split of `data`: `"train"`, `"val"`, `"test"`, or `"all"`.
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
    how: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    if predictions is not None and data is None and predictor is None:
        result = _of_file(predictions, real_label, **how)
    elif data is not None and predictions is None:
        if real_label != 0:
            raise ValueError("real_label is for predictions; in prepared data 0 is real")
        folders = [_Folder.read(one, split) for one in ([data] if isinstance(data, str | Path) else data)]
        if len({one.name for one in folders}) < len(folders):
            raise ValueError("each folder of data needs a name of its own, as its source")
        subject = _Subject.of_predictor(predictor) if predictor is not None else _Subject.of_weights(weights)
        parts = [subject.score(one, batch_size, device, workers) for one in folders]
        result = _of_folders(folders, parts, subject, split, **how)
    else:
        raise ValueError("give either data (a prepared folder) or predictions (a file of scores)")
    if out is not None:
        result.save(out)
    if report is not None:
        write_report(result, report)
    return result


@dataclass(frozen=True)
class _Folder:
    """A prepared folder and the rows of it that are judged."""

    data: str | Path
    manifest: pd.DataFrame
    rows: pd.DataFrame
    protocol: Protocol | None

    @classmethod
    def read(cls, data: str | Path, split: str) -> _Folder:
        named = data if split == "all" else drawn_splits(data)
        manifest = read_manifest(named)
        return cls(data, manifest, rows_of(manifest, split, data), read_protocol(named))

    @property
    def name(self) -> str:
        return Path(self.data).name

    def told_apart(self, scored: pd.DataFrame) -> pd.DataFrame:
        """Its rows beside those of other folders: the folder is the dataset, and paths begin with it."""
        root = prepared_folder(self.data)
        return scored.assign(
            dataset=self.name, folder=str(root), path=[str(root / path) for path in scored["path"]]
        )


@dataclass(frozen=True)
class _Subject:
    """What makes the scores; `card` is `None` where nobody says what it was trained on."""

    score_rows: Callable[..., pd.DataFrame]
    model: str | None
    weights: str | None = None
    card: dict[str, Any] | None = None
    threshold: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_predictor(cls, file: str | Path) -> _Subject:
        function = load_predictor(file)

        def score(rows: pd.DataFrame, root: Path, **_: Any) -> pd.DataFrame:
            return predict_with(function, rows, root)

        return cls(score, str(file), provenance={"predictor_sha256": sha256_of(file)})

    @classmethod
    def of_weights(cls, file: str | Path) -> _Subject:
        model, card = load_weights(file)
        calibration, mirror = read_calibration(card), asks_for_mirror(card)

        def score(rows: pd.DataFrame, root: Path, **options: Any) -> pd.DataFrame:
            return predict(model, rows, root, calibration=calibration, mirror=mirror, **options)

        provenance = {"weights_sha256": sha256_of(resolve_weights(file)), "calibration": asdict(calibration)}
        return cls(score, card.get("model"), str(file), card, calibration.threshold, provenance)

    def score(self, folder: _Folder, batch_size: int, device: str | None, workers: int) -> pd.DataFrame:
        where = device or usual_device()
        root = prepared_folder(folder.data)
        return self.score_rows(folder.rows, root, batch_size=batch_size, device=where, workers=workers)


def _of_folders(
    folders: Sequence[_Folder], parts: Sequence[pd.DataFrame], subject: _Subject, split: str, **how: Any
) -> EvaluationResult:
    """The figures of scored folders, and what the detector may have seen of each of them."""
    several = len(folders) > 1
    if several:
        parts = [one.told_apart(rows) for one, rows in zip(folders, parts, strict=True)]
    result = judge(
        pd.concat(parts, ignore_index=True), weights=subject.weights, model=subject.model,
        data=", ".join(str(one.data) for one in folders), split=split, threshold=subject.threshold, **how,
    )  # fmt: skip
    for one in folders:
        warnings, notes = overlap_remarks(one.manifest, one.rows, split, subject.card, one.protocol)
        prefix = f"{one.name}: " if several else ""
        result.warnings.extend(prefix + text for text in warnings)
        result.notes.extend(prefix + text for text in notes)
    rows_hash = manifest_hash(pd.concat([one.rows for one in folders]))
    result.provenance.update(subject.provenance, rows_hash=rows_hash)
    protocols = {str(one.data): one.protocol and asdict(one.protocol) for one in folders}
    if several:
        result.provenance["protocols"] = protocols
    else:
        (result.provenance["protocol"],) = protocols.values()
    return result


def _of_file(path: str | Path, real_label: int, **options: Any) -> EvaluationResult:
    table = score_file(path, real_label=real_label)
    result = judge(table, data=str(path), **options)
    if real_label:
        result.notes.append("label 1 means real in this file (real_label=1): its labels were swapped")
    result.provenance["predictions_sha256"] = sha256_of(table.name)
    return result


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
