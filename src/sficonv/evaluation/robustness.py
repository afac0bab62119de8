"""How a detector holds up when its pictures are damaged: AUC over kinds and levels of corruption."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import sficonv
from sficonv.data.corruptions import CORRUPTIONS, LEVELS, corrupt_clip
from sficonv.data.dataset import read_crop, to_tensor
from sficonv.data.manifest import atomic_file, manifest_hash, prepared_folder, read_manifest, read_protocol
from sficonv.errors import DataError, SficonvError
from sficonv.evaluation import bootstrap_intervals, compute_metrics, frame_to_video
from sficonv.evaluation.evaluate import Split, rows_of
from sficonv.evaluation.protocol import protocol_remarks
from sficonv.evaluation.result import Estimate
from sficonv.evaluation.robustness_result import CLEAN, JudgedModel, RobustnessCell, RobustnessResult
from sficonv.models.checkpoint import load_weights, read_calibration, resolve_weights
from sficonv.models.config import to_input

CLIP = 64
"""Most crops in one H.264 clip: bounds the memory of a video with very many."""
_FORMAT = 1  # of the files of scores; another number makes them be computed anew


class Damage(NamedTuple):
    """One cell of the table: a kind of corruption and its level, 0 for the clean data."""

    kind: str
    level: int

    @property
    def strength(self) -> float | None:
        """The number behind the level, `None` for the clean data."""
        return CORRUPTIONS[self.kind].strengths[self.level - 1] if self.level else None


def robustness(
    data: str | Path,
    weights: str | Path = "default",
    *,
    weights_b: str | Path | None = None,
    split: Split = "test",
    corruptions: str | Sequence[str] = "all",
    levels: str | Sequence[int] = "1,2,3,4,5",
    max_frames: int | None = None,
    batch_size: int = 32,
    bootstrap: int = 1000,
    seed: int = 0,
    out: str | Path | None = None,
    report: str | Path | None = None,
    device: str | None = None,
    workers: int = 0,
) -> RobustnessResult:
    """Judge one or two detectors on prepared faces that were damaged in known ways.

    Each kind and level of `data.corruptions` is one cell with its video AUC, beside the clean data. A damaged
    crop is made once and scored by every model, so both see the same pixels.

    The crops are damaged, not the videos they were cut from. For "h264" the crops of one face of one video
    form a clip in order of time (at most 64, and of one size) that is encoded at 25 frames per second. Where
    `prepare` sampled a video sparsely, successive frames of that clip differ more than in real footage:
    there is more for motion compensation to get wrong, and the block grid is that of the crop, not of the
    frame. A single crop is a clip of one keyframe. The damage adds to whatever compression the data has.

    Args:
        data: A folder made by `prepare`.
        weights: A `.safetensors` file with its card, or "default" for the shipped detector.
        weights_b: A second detector, scored on the same damaged crops.
        split: Which rows: "train", "val", "test", or "all".
        corruptions: Kinds with commas between (jpeg, h264, blur, noise, resize, saturation, contrast), or
            "all".
        levels: Levels 1 (slight) to 5 (severe), with commas between.
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
        The figures of every cell, with everything that makes them doubtful.

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
    manifest = read_manifest(data)
    rows = spread(rows_of(manifest, split, str(data)), max_frames)
    if rows["label"].nunique() < 2:
        only = "fake" if rows["label"].iloc[0] else "real"
        raise DataError(
            f"{data}: split {split!r} holds {only} faces only, and AUC needs both; name another split"
        )
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    files = {"A": weights} if weights_b is None else {"A": weights, "B": weights_b}
    models = [_Scorer.load(letter, file, where) for letter, file in files.items()]
    damages = [Damage(CLEAN, 0)] + [Damage(kind, level) for kind in kinds for level in strengths]
    digest = manifest_hash(rows)
    folder = None if out is None else Path(out) / "scores"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    cells: list[RobustnessCell] = []
    unreadable: pd.DataFrame | None = None
    work = _scored(models, rows, prepared_folder(data), damages, digest, folder, seed, batch_size, workers)
    for damage, model, scores in work:
        if unreadable is None:
            unreadable = scores[scores["error"] != ""]
            if len(unreadable) == len(rows):
                raise DataError(f"{data}: nothing to judge, the first reason: {unreadable['error'].iloc[0]}")
        cells.append(_cell(damage, model.name, rows, scores, bootstrap, seed))
    assert unreadable is not None
    warnings, notes = _remarks(models, manifest, rows, split, data)
    if len(unreadable):
        warnings.insert(
            0,
            f"{len(unreadable)} of {len(rows)} crops were left out, the first: {unreadable['error'].iloc[0]}",
        )
    result = RobustnessResult(
        models=tuple(JudgedModel(m.name, str(m.card.get("model")), str(m.file), m.sha256) for m in models),
        data=str(data),
        split=split,
        videos=int(rows["video_id"].nunique()),
        frames=len(rows) - len(unreadable),
        cells=tuple(cells),
        warnings=warnings,
        notes=notes,
        provenance={
            "versions": {"sficonv": sficonv.__version__, "torch": torch.__version__},
            "rows_hash": digest,
            "max_frames": max_frames,
            "bootstrap": bootstrap,
            "seed": seed,
        },
    )
    if out is not None:
        result.save(out)
    if report is not None:
        result.write_report(report)
    return result


def spread(rows: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """At most so many crops of each video, evenly over its crops in order of time.

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


def clips_of(rows: pd.DataFrame) -> list[list[int]]:
    """Positions of the rows that form one clip: one face of one video in order of time, at most `CLIP`.

    Faces are told apart by `track` where there is one, else by `face`.

    Example:
        >>> clips_of(pd.DataFrame({"video_id": list("aba"), "frame": [5, 0, 1], "face": 0}))
        [[2, 0], [1]]
    """
    face = rows["face"]
    if "track" in rows.columns:
        face = rows["track"].where(rows["track"] >= 0, -1 - rows["face"])
    table = pd.DataFrame({"video": rows["video_id"].to_numpy(), "face": face.to_numpy()})
    table["frame"] = rows["frame"].to_numpy()
    table = table.sort_values(["video", "face", "frame"], kind="stable")
    whole = [group.index.tolist() for _, group in table.groupby(["video", "face"], sort=True)]
    return [clip[start : start + CLIP] for clip in whole for start in range(0, len(clip), CLIP)]


@dataclass(frozen=True)
class _Scorer:
    """A detector with what identifies it."""

    name: str
    file: str | Path
    card: dict[str, Any]
    network: nn.Module
    temperature: float
    device: str
    sha256: str

    @classmethod
    def load(cls, letter: str, file: str | Path, device: str) -> _Scorer:
        network, card = load_weights(file)
        temperature, _ = read_calibration(card)
        sha256 = hashlib.sha256(resolve_weights(file).read_bytes()).hexdigest()
        name = f"{letter}: {card.get('model')}"
        return cls(name, file, card, network.to(device).eval(), temperature, device, sha256)

    def key(self, damage: Damage, rows_hash: str, seed: int) -> str:
        """Identifies the scores of a cell: they change with any of this and with nothing else."""
        parts = [_FORMAT, self.sha256, self.card, rows_hash, *damage, damage.strength, seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]

    @torch.inference_mode()
    def __call__(self, images: Sequence[Tensor]) -> np.ndarray:
        """P(fake) `(N,)` of uint8 images `(3, H, W)`, each of any size."""
        config: Any = self.network.config
        x = torch.cat([to_input(image[None].to(self.device), config) for image in images])
        logits = self.network(x).double() / self.temperature
        return logits.softmax(dim=1)[:, 1].cpu().numpy()


class _DamagedCrops(Dataset):
    """Groups of whole clips, decoded and damaged when asked for; an item lists `(row, image, error)`."""

    def __init__(
        self, paths: list[str], clips: list[list[int]], damage: Damage, seed: int, batch_size: int
    ) -> None:
        self.paths, self.damage, self.seed = paths, damage, seed
        self.groups: list[list[list[int]]] = []
        room = 0
        for clip in clips:
            if room < len(clip):
                self.groups.append([])
                room = batch_size
            self.groups[-1].append(clip)
            room -= len(clip)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> list[tuple[int, Tensor | None, str]]:
        return [entry for clip in self.groups[index] for entry in self._clip(clip)]

    def _clip(self, clip: list[int]) -> Iterator[tuple[int, Tensor | None, str]]:
        read: list[tuple[int, np.ndarray]] = []
        for row in clip:
            try:
                read.append((row, read_crop(self.paths[row])))
            except (SficonvError, OSError) as error:
                yield row, None, str(error)
        for _, part in groupby(read, key=lambda entry: entry[1].shape):  # one clip has one size
            numbers, images = zip(*part, strict=True)
            if self.damage.level:
                images = tuple(corrupt_clip(images, self.damage.kind, self.damage.level, self.seed))
            yield from ((row, to_tensor(image), "") for row, image in zip(numbers, images, strict=True))


def _scored(
    models: list[_Scorer],
    rows: pd.DataFrame,
    root: Path,
    damages: list[Damage],
    rows_hash: str,
    folder: Path | None,
    seed: int,
    batch_size: int,
    workers: int,
) -> Iterator[tuple[Damage, _Scorer, pd.DataFrame]]:
    """The scores of every cell, in order; those on disk are read, the others computed and written."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    paths = [str(root / path) for path in rows["path"]]
    clips = clips_of(rows)
    there = {
        (damage, model.name): _read_scores(_file(folder, damage, model.key(damage, rows_hash, seed)), rows)
        for damage in damages
        for model in models
    }
    missing = {damage: [m for m in models if there[damage, m.name] is None] for damage in damages}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=len(rows) * sum(bool(some) for some in missing.values()))
        for damage in damages:
            if judges := missing[damage]:
                progress.update(task, description=f"{damage.kind} {damage.level or ''}")
                crops = _DamagedCrops(paths, clips, damage, seed, batch_size)
                columns_of = {model.name: np.full(len(rows), math.nan) for model in judges}
                errors = np.full(len(rows), "", dtype=object)
                for batch in DataLoader(crops, batch_size=None, num_workers=workers, collate_fn=_as_is):
                    for row, _, error in batch:
                        errors[row] = error
                    good = [(row, image) for row, image, _ in batch if image is not None]
                    for start in range(0, len(good), batch_size):
                        numbers, images = zip(*good[start : start + batch_size], strict=True)
                        for model in judges:
                            columns_of[model.name][list(numbers)] = model(images)
                    progress.advance(task, len(batch))
                for model in judges:
                    scores = pd.DataFrame({"path": rows["path"], "p_fake": columns_of[model.name]})
                    there[damage, model.name] = scores = scores.assign(error=errors)
                    if file := _file(folder, damage, model.key(damage, rows_hash, seed)):
                        with atomic_file(file) as temporary:
                            scores.to_parquet(temporary, index=False)
            for model in models:
                found = there.pop((damage, model.name))
                assert found is not None
                yield damage, model, found


def _as_is(batch: Any) -> Any:
    return batch


def _file(folder: Path | None, damage: Damage, key: str) -> Path | None:
    return None if folder is None else folder / f"{damage.kind}-{damage.level}-{key}.parquet"


def _read_scores(file: Path | None, rows: pd.DataFrame) -> pd.DataFrame | None:
    """The scores of a finished cell, or `None` where they are missing, damaged or of other rows."""
    if file is None or not file.is_file():
        return None
    try:
        scores = pd.read_parquet(file, columns=["path", "p_fake", "error"])
    except (OSError, ValueError):
        return None
    return scores if scores["path"].tolist() == rows["path"].tolist() else None


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
    models: list[_Scorer], manifest: pd.DataFrame, rows: pd.DataFrame, split: str, data: str | Path
) -> tuple[list[str], list[str]]:
    protocol = read_protocol(data)
    found: tuple[dict[str, None], dict[str, None]] = ({}, {})
    for model in models:
        for texts, kept in zip(
            protocol_remarks(manifest, rows, split, model.card, protocol), found, strict=True
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
