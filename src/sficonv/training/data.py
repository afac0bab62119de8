"""From prepared folders to the two loaders of a training run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from joblib import cpu_count
from torch.utils.data import DataLoader, Dataset

from sficonv.datasets.clips import ClipCrops, cut_into_clips, tracks_of
from sficonv.datasets.crops import DrawSampler, FaceCrops, RowsInTurn, balanced_weights
from sficonv.datasets.manifest import manifest_hash, prepared_folder, read_manifest, read_protocol
from sficonv.datasets.masks import MASK, MaskedCrops
from sficonv.datasets.shards import read_index
from sficonv.errors import DataError, first_few
from sficonv.splits.leaks import find_leaks
from sficonv.training import transforms
from sficonv.training.recipes import Recipe
from sficonv.training.shard_stream import ShardPart, ShardStream

FEW_VIDEOS = 10
TRANSFORMS = {"paper": transforms.paper_train, "finetune": transforms.finetune_train}


@dataclass(frozen=True)
class TrainingData:
    """The rows a run may read, with absolute paths; rows of the test split are not among them.

    Args:
        train: rows of split `train`.
        val: rows of split `val`.
        extra: real rows of the additional folders, without those of splits `val` and `test`.
        summary: hashes and counts for the model card.
        warnings: leaks between training and validation, in plain words.
        crop: how the crops of `data` were cut (`margin`, `size`), for the model card; empty where unknown.
        shards: the tar shards of the splits `train` and `val`, where the folders hold those; they count by
            the labels of the index of `train` and `val`.
    """

    train: pd.DataFrame
    val: pd.DataFrame
    extra: pd.DataFrame
    summary: dict[str, Any]
    warnings: list[str]
    crop: dict[str, Any]
    shards: dict[str, list[ShardPart]] = field(default_factory=dict)


def load_training_data(data: Sequence[Path], extra_data: Sequence[Path] = ()) -> TrainingData:
    """Read the manifests of prepared folders.

    Args:
        data: folders that give the training and the validation rows.
        extra_data: folders of which only real rows are used, for training.

    Raises:
        DataError: if there are no training rows, the validation rows do not hold both labels, a crop is given
            twice, or crops to be read are missing.
    """
    folders: list[dict[str, Any]] = []
    main = pd.concat([_read(folder, folders) for folder in data], ignore_index=True)
    train, val = main[main["split"] == "train"], main[main["split"] == "val"]
    names = ", ".join(str(folder) for folder in data)
    if train.empty:
        raise DataError(
            f"{names}: no crop belongs to the split 'train'. Split the data again: sficonv split {data[0]} "
            "--protocol identity"
        )
    if set(val["label"]) != {0, 1}:
        found = {(): "no crops", (0,): "only real crops", (1,): "only fake crops"}[tuple(set(val["label"]))]
        raise DataError(
            f"{names}: the split 'val' has {found}. The best epoch is chosen by the AUC on 'val', which "
            "needs real and fake faces; the test split is never used for that. Split the data again: sficonv "
            f"split {data[0]} --protocol identity"
        )
    extra = train.iloc[:0]
    if extra_data:
        extra = pd.concat([_read(folder, folders) for folder in extra_data], ignore_index=True)
        extra = extra[(extra["label"] == 0) & extra["split"].isin(["train", ""])]
        if extra.empty:
            raise DataError(
                f"{', '.join(map(str, extra_data))}: no real crop of split 'train' or without a split; "
                "extra data gives real faces for training only"
            )
    shards = _shards(data)
    _check_crops(main, extra, files=not shards)
    splits = sorted(set(zip(main["video_id"], main["split"], strict=True)))
    summary: dict[str, Any] = {
        "folders": folders,
        "split_sha256": hashlib.sha256("\n".join("\t".join(pair) for pair in splits).encode()).hexdigest(),
        "videos": sorted({*train["video_id"], *extra["video_id"], *val["video_id"]}),
        "train": _count(train),
        "val": _count(val),
        "extra": _count(extra),
    }
    leaky = [str(protocol) for folder in data if (protocol := read_protocol(folder)) and protocol.leaky]
    findings = find_leaks(pd.concat([train, extra.assign(split="train"), val]))
    summary["leaky"] = bool(leaky) or any(finding.serious for finding in findings)
    warnings = [*leaky, *(finding.text for finding in findings), *_doubts(_count(val))]
    crops = [_crop_options(folder) for folder in data]
    if any(crop != crops[0] for crop in crops):
        warnings.append(f"the folders were cut differently ({crops}); scans cut faces as in the first one")
    return TrainingData(train, val, extra, summary, warnings, crops[0], shards)


def train_loader(
    data: TrainingData,
    recipe: Recipe,
    *,
    steps_per_epoch: int | None = None,
    workers: int = 0,
    devices: int = 1,
    first_step: int = 0,
    masks: bool = False,
    frames: int = 1,
) -> DataLoader[Any]:
    """The batches that a recipe trains on: uint8 `(B, 3, H, W)`, labels `(B,)`, row indices `(B,)`.

    Batches of clips are uint8 `(B, frames, 3, H, W)`, labels `(B,)`, row indices `(B, frames)`, -1 where a
    frame is missing. Where the recipe makes forgeries, see `sficonv.training.pair_data` instead.

    Args:
        data: rows to draw from.
        recipe: batch size, image size (not `None` here), augmentation, sampling and seed.
        steps_per_epoch: batches per epoch and device. Default: as many as draw each row once.
        workers: loader processes.
        devices: number of devices that share an epoch.
        first_step: Steps already taken: the first pass over the loader continues from there.
        masks: add the masks of the forged pixels to each batch, uint8 `(B, 1, H, W)`, see
            `sficonv.datasets.masks`.
        frames: frames of a clip, for models that judge clips: an item is then a track, not a row.

    Raises:
        DataError: if a label is missing that the recipe cannot make, there are fewer rows than devices, or
            clips are to be made of something that has no tracks.
    """
    rows = pd.concat([data.train, data.extra], ignore_index=True)
    if data.shards and (masks or not data.extra.empty or frames > 1):
        raise DataError(
            "shards are read in order, but masks, extra data and clips need crops in any order: train on the "
            "prepared folder itself, which has the crops as files"
        )
    transform = TRANSFORMS[recipe.transform](_size(recipe))
    if data.shards:
        batches = steps_per_epoch or math.ceil(len(rows) / (recipe.batch_size * devices))
        stream = _training_stream(data, recipe, transform, batches, devices)
        stream.epoch, stream.skip = divmod(first_step, batches)
        return _loader(stream, recipe.batch_size, workers)
    if rows["label"].nunique() < 2:
        raise DataError(
            f"the training rows are all of one label ({rows['label'].iloc[0]}); training needs both, or "
            "real faces and self_blend > 0"
        )
    dataset: FaceCrops | ClipCrops
    if frames > 1:
        tracks = tracks_of(rows)
        dataset = ClipCrops(rows, "/", tracks, frames, transform)
        rows = rows.iloc[[track[0] for track in tracks]]
    else:
        dataset = (MaskedCrops if masks else FaceCrops)(rows, "/", transform)
    weights = np.ones(len(rows)) if recipe.sampling == "shuffle" else balanced_weights(rows)
    count = steps_per_epoch * recipe.batch_size * devices if steps_per_epoch else len(rows)
    if count < devices:
        raise DataError(f"{count} training rows cannot be shared among {devices} devices")
    sampler = DrawSampler(
        weights,
        num_samples=count,
        replacement=recipe.sampling == "balanced" or count > len(rows),
        seed=recipe.seed,
        devices=devices,
    )
    sampler.epoch, batches = divmod(first_step, math.ceil(len(sampler) / recipe.batch_size))
    sampler.skip = batches * recipe.batch_size
    return _loader(dataset, recipe.batch_size, workers, sampler=sampler)


def _training_stream(
    data: TrainingData, recipe: Recipe, transform: Any, batches: int, devices: int
) -> ShardStream:
    """The crops of shards, `batches` per epoch and device."""
    return ShardStream(
        data.shards["train"],
        _places(data.train),
        transform,
        batches=batches,
        batch_size=recipe.batch_size,
        weights=balanced_weights(data.train) if recipe.sampling == "balanced" else None,
        seed=recipe.seed,
        devices=devices,
    )


def val_loader(
    data: TrainingData, recipe: Recipe, *, workers: int, devices: int = 1, frames: int = 1
) -> DataLoader[Any]:
    """The validation crops in the order of their rows (of their shards), without augmentation.

    With `frames` above 1 they come as clips, see `train_loader`; each crop is in one of them. Several
    devices deal them out; all get equally many, if need be by getting some rows that another has.
    """
    transform = transforms.evaluation(_size(recipe))
    if data.shards:
        stream = ShardStream(data.shards["val"], _places(data.val), transform, devices=devices)
        return _loader(stream, recipe.batch_size, workers)
    crops: FaceCrops | ClipCrops
    if frames > 1:
        crops = ClipCrops(data.val, "/", cut_into_clips(tracks_of(data.val), frames), frames, transform)
    else:
        crops = FaceCrops(data.val, "/", transform)
    return _loader(crops, recipe.batch_size, workers, sampler=RowsInTurn(len(crops), devices))


def training_domains(data: TrainingData, recipe: Recipe) -> torch.Tensor | None:
    """The kind of forgery of each training row, `(N,)` int64, -1 for real faces.

    `None` where forgeries are made on the fly: those are of no kind.
    """
    if recipe.self_blend:
        return None
    rows = pd.concat([data.train, data.extra], ignore_index=True)
    method = rows["dataset"].str.cat(rows["method"], "/").where(rows["label"] == 1)
    return torch.from_numpy(pd.factorize(method)[0].astype(np.int64))


def default_workers(processes: int = 1) -> int:
    """Loader processes for each of the `processes` on this machine that train: one per core this process may
    use, without those that train, eight at most."""
    return max(0, min(8, cpu_count() // processes - 1))


def _doubts(val: dict[str, int]) -> list[str]:
    """Whether a validation set is too small to choose an epoch by."""
    real, fake = val["real_videos"], val["fake_videos"]
    if min(real, fake) >= FEW_VIDEOS:
        return []
    return [
        f"validation has {real} real and {fake} fake videos: with fewer than {FEW_VIDEOS} of either, the "
        "epoch with the best AUC is chosen largely by chance"
    ]


def _check_crops(main: pd.DataFrame, extra: pd.DataFrame, *, files: bool) -> None:
    """Refuse crops that would count twice, and notice missing ones before hours have passed."""
    twice = pd.concat([main["path"], extra["path"]])
    if not (twice := twice[twice.duplicated()]).empty:
        raise DataError(
            f"{len(twice)} crops are in several of the folders or manifests: {first_few(list(twice))}"
        )
    if not files:
        return
    read = [*main.loc[main["split"].isin(["train", "val"]), "path"], *extra["path"]]
    if missing := [path for path in read if not Path(path).is_file()]:
        raise DataError(
            f"{len(missing)} of the {len(read)} crops to train on and to validate on are missing: "
            f"{first_few(missing)}. Prepare the data again, or `sficonv check` it."
        )


def _read(folder: Path, folders: list[dict[str, Any]]) -> pd.DataFrame:
    rows = read_manifest(folder)
    root, protocol = prepared_folder(folder).resolve(), read_protocol(folder)
    entry = {"name": root.name, "manifest_sha256": manifest_hash(rows), "crops": len(rows)}
    folders.append({**entry, "protocol": asdict(protocol)} if protocol else entry)
    rows = rows.assign(path=[str(root / path) for path in rows["path"]])
    if MASK in rows.columns:
        rows[MASK] = [str(root / path) if path else "" for path in rows[MASK].fillna("")]
    return rows


def _shards(data: Sequence[Path]) -> dict[str, list[ShardPart]]:
    """The shards of several folders by split; empty where the crops are files."""
    indices = [read_index(folder) for folder in data]
    if not any(indices):
        return {}
    found: dict[str, list[ShardPart]] = {"train": [], "val": []}
    first = 0
    for folder, index in zip(data, indices, strict=True):
        rows = read_manifest(folder)
        if index is None or index.manifest_hash != manifest_hash(rows):
            raise DataError(
                f"{folder}: its shards are missing or were written for another manifest; write them again, "
                "and give either shards or files as data"
            )
        for split, parts in found.items():
            parts += [ShardPart(index.folder / s.file, first, s.crops) for s in index.of_split(split)]
        first += len(rows)
    return found


def _places(rows: pd.DataFrame) -> np.ndarray:
    """For each number in the shards the position in `rows`, -1 for what is not in it."""
    places = np.full(rows.index.max() + 1, -1)
    places[rows.index] = np.arange(len(rows))
    return places


def _size(recipe: Recipe) -> int:
    if recipe.image_size is None:
        raise ValueError("the recipe leaves image_size to the model: put the model's config.image_size in")
    return recipe.image_size


def _crop_options(folder: Path) -> dict[str, Any]:
    """How `prepare` cut a folder's faces; a scan has to cut them alike."""
    try:
        saved = json.loads((prepared_folder(folder) / "prepare.json").read_text(encoding="utf-8"))["options"]
        return {"margin": float(saved["margin"]), "size": int(saved["size"])}
    except (OSError, ValueError, KeyError, TypeError):  # a manifest from elsewhere
        return {}


def _count(rows: pd.DataFrame) -> dict[str, int]:
    real = rows["label"] == 0
    return {
        "real_crops": int(real.sum()),
        "fake_crops": int((~real).sum()),
        "real_videos": int(rows["video_id"][real].nunique()),
        "fake_videos": int(rows["video_id"][~real].nunique()),
    }


def _loader(dataset: Dataset[Any], batch_size: int, workers: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        **options,
    )


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # one process per core is enough
