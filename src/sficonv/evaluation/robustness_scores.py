"""Damaged crops and their scores, one table for every kind and level, kept so that a run can continue."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sficonv.card import Calibration, read_calibration
from sficonv.datasets.clips import tracks_of
from sficonv.datasets.crops import read_crop, to_tensor
from sficonv.errors import SficonvError
from sficonv.evaluation.predict import as_list
from sficonv.files import atomic_file, sha256_of
from sficonv.media.corruptions import CORRUPTIONS, corrupt_clip
from sficonv.models.checkpoint import load_weights, resolve_weights
from sficonv.models.config import to_inputs
from sficonv.models.inference import asks_for_mirror, p_fake

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

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


def clips_of(rows: pd.DataFrame) -> list[list[int]]:
    """Positions of the rows that form one clip: one face of one video in order of time, at most `CLIP`.

    Example:
        >>> clips_of(pd.DataFrame({"video_id": list("aba"), "frame": [5, 0, 1], "face": 0}))
        [[2, 0], [1]]
    """
    tracks = [track.tolist() for track in tracks_of(rows)]
    return [track[start : start + CLIP] for track in tracks for start in range(0, len(track), CLIP)]


@dataclass(frozen=True)
class NamedDetector:
    """A detector with what identifies it."""

    name: str
    file: str | Path
    card: dict[str, Any]
    network: nn.Module
    calibration: Calibration
    device: str
    sha256: str

    @classmethod
    def load(cls, letter: str, file: str | Path, device: str) -> NamedDetector:
        network, card = load_weights(file)
        name = f"{letter}: {card.get('model')}"
        return cls(
            name,
            file,
            card,
            network.to(device).eval(),
            read_calibration(card),
            device,
            sha256_of(resolve_weights(file)),
        )

    def key(self, damage: Damage, rows_hash: str, seed: int) -> str:
        """Identifies the scores of a cell: they change with any of this and with nothing else."""
        parts = [_FORMAT, self.sha256, self.card, rows_hash, *damage, damage.strength, seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]

    @torch.inference_mode()
    def __call__(self, images: Sequence[Tensor]) -> np.ndarray:
        """P(fake) `(N,)` of uint8 images `(3, H, W)`, each of any size."""
        config: Any = self.network.config
        x = to_inputs([image.to(self.device) for image in images], config)
        mirror = asks_for_mirror(self.card)
        return p_fake(self.network, x, calibration=self.calibration, mirror=mirror).cpu().numpy()


class _DamagedCrops(Dataset[Any]):
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


def scored_cells(
    models: list[NamedDetector],
    rows: pd.DataFrame,
    root: Path,
    damages: list[Damage],
    rows_hash: str,
    folder: Path | None,
    seed: int,
    batch_size: int,
    workers: int,
) -> Iterator[tuple[Damage, NamedDetector, pd.DataFrame]]:
    """The scores of every cell, in order; those on disk are read, the others computed and written."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    paths = [str(root / path) for path in rows["path"]]
    clips = clips_of(rows)
    files = {
        (damage, model.name): _file(folder, damage, model.key(damage, rows_hash, seed))
        for damage in damages
        for model in models
    }
    todo = {damage for (damage, _), file in files.items() if file is None or not file.is_file()}
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=len(rows) * len(todo))
        for damage in damages:
            found = {model.name: _read_scores(files[damage, model.name], rows) for model in models}
            if judges := [model for model in models if found[model.name] is None]:
                progress.update(task, description=f"{damage.kind} {damage.level or ''}")
                crops = _DamagedCrops(paths, clips, damage, seed, batch_size)
                for name, scores in _score(judges, crops, rows, batch_size, workers, progress, task):
                    found[name] = scores
                    if file := files[damage, name]:
                        with atomic_file(file) as temporary:
                            scores.to_parquet(temporary, index=False)
            for model in models:
                scores_of_model = found[model.name]
                assert scores_of_model is not None
                yield damage, model, scores_of_model


def _score(
    judges: list[NamedDetector],
    crops: _DamagedCrops,
    rows: pd.DataFrame,
    batch_size: int,
    workers: int,
    progress: Progress,
    task: TaskID,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every crop once, scored by all models: `path`, `p_fake` and `error` by the name of the model."""
    p_fake = {model.name: np.full(len(rows), math.nan) for model in judges}
    errors = np.full(len(rows), "", dtype=object)
    for batch in DataLoader(crops, batch_size=None, num_workers=workers, collate_fn=as_list):
        for row, _, error in batch:
            errors[row] = error
        good = [(row, image) for row, image, _ in batch if image is not None]
        for start in range(0, len(good), batch_size):
            numbers, images = zip(*good[start : start + batch_size], strict=True)
            for model in judges:
                p_fake[model.name][list(numbers)] = model(images)
        progress.advance(task, len(batch))
    for name, values in p_fake.items():
        yield name, pd.DataFrame({"path": rows["path"], "p_fake": values, "error": errors})


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
