"""Fakes to look at: one face each of different videos, with its mask where one is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from sficonv.datasets.crops import FaceCrops
from sficonv.datasets.manifest import prepared_folder, read_manifest
from sficonv.datasets.masks import MaskedCrops
from sficonv.errors import DataError
from sficonv.faces.forging import self_blend
from sficonv.faces.outlines import random_regions
from sficonv.media.batches import Draw


class Fake(NamedTuple):
    """One forged face.

    Args:
        image: uint8 `(3, H, W)`.
        mask: uint8 `(1, H, W)`, how much of each pixel is forged; `None` where nobody knows.
        path: Of the crop in the manifest; of a forgery made here that of its real face.
        video: Its video.
        footage: The person filmed. Fakes made from the same footage show the same face.
    """

    image: Tensor
    mask: Tensor | None
    path: str
    video: str
    footage: str


def draw_fakes(
    data: str | Path, count: int, *, split: str = "test", self_blend: bool = False, seed: int = 0
) -> tuple[list[Fake], list[str]]:
    """Draw one face from each of `count` different fake videos.

    Videos of different footage come first; a second fake of the same footage is taken only when every
    footage has given one. The same seed gives the same faces, whatever the order of the manifest.

    Args:
        data: A folder made by `prepare`, or one of its manifests.
        count: How many; fewer are returned where there are fewer videos.
        split: `"train"`, `"val"`, `"test"`, or `"all"`.
        self_blend: Forge real faces by blending each with itself instead: the masks are then known exactly.
        seed: Of the choice, and of the forgeries.

    Returns:
        The fakes, in the order drawn, and a line for each crop that could not be read and was left out.

    Raises:
        DataError: The split holds nothing usable.
    """
    manifest = read_manifest(data)
    rows = manifest[manifest["label"] == (0 if self_blend else 1)]
    rows = rows if split == "all" else rows[rows["split"] == split]
    if rows.empty:
        kind = "real" if self_blend else "fake"
        there = ", ".join(sorted({repr(name) for name in manifest["split"]})) or "none"
        raise DataError(
            f"{data}: no {kind} faces in split {split!r} (its splits: {there}; 'all' takes every row)"
        )
    rows = _one_of_each_video(rows, seed)
    fakes: list[Fake] = []
    problems: list[str] = []
    read = _self_blended(rows, data, seed) if self_blend else _as_they_are(rows, data)
    for fake in read:
        if isinstance(fake, Fake):
            fakes.append(fake)
        else:
            problems.append(str(fake))
        if len(fakes) == count:
            break
    if not fakes:
        raise DataError(f"{data}: none of {len(problems)} face crops can be read, the first: {problems[0]}")
    return fakes, problems


def forged_pixels(mask: Tensor, side: int) -> Tensor:
    """Where more than half of the strongest blend is forged.

    Args:
        mask: uint8 `(1, H, W)`.
        side: Of the result, in pixels.

    Returns:
        bool `(side, side)`.

    Example:
        >>> forged_pixels(Tensor([[[0, 60], [0, 60]]]).byte(), 2).tolist()
        [[False, True], [False, True]]
    """
    shares = F.interpolate(mask[None].float(), size=(side, side), mode="area")[0, 0]
    return shares > shares.max() / 2


def _one_of_each_video(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    target = rows["dataset"] + "/" + rows["source_ids"].str.split(",").str[0]
    rows = rows.assign(footage=target.where(rows["source_ids"] != "", rows["video_id"]))
    shuffled = rows.sort_values("path").sample(frac=1, random_state=seed).drop_duplicates("video_id")
    turn = shuffled.groupby("footage").cumcount().to_numpy()
    return shuffled.iloc[np.argsort(turn, kind="stable")].reset_index(drop=True)


def _as_they_are(rows: pd.DataFrame, data: str | Path) -> Iterator[Fake | DataError]:
    crops = MaskedCrops(rows, prepared_folder(data))
    for index, (path, video, footage) in enumerate(_names(rows)):
        try:
            image, _, _, mask = crops[index]
        except DataError as error:
            yield error
            continue
        yield Fake(image, mask if crops.masks[index] else None, path, video, footage)


def _self_blended(rows: pd.DataFrame, data: str | Path, seed: int) -> Iterator[Fake | DataError]:
    crops = FaceCrops(rows, prepared_folder(data))
    for index, (path, video, footage) in enumerate(_names(rows)):
        try:
            image = crops[index][0]
        except DataError as error:
            yield error
            continue
        points = np.asarray(rows["landmarks"].iloc[index], np.float32).reshape(-1, 2)
        outline = random_regions(points, image.shape[-1], 1, np.random.default_rng((seed, index)))
        forged = self_blend(image[None].float(), torch.from_numpy(outline), Draw((seed << 32) + index, "cpu"))
        fake, mask = forged.fake[0].round().to(torch.uint8), (255 * forged.mask[0]).round().to(torch.uint8)
        yield Fake(fake, mask, path, video, footage)


def _names(rows: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    return rows[["path", "video_id", "footage"]].itertuples(index=False, name=None)
