"""Pairs of a real face and a forgery of it made on the fly, for training on real faces alone.

How the forgeries are made, and after whom, is told in `sficonv.faces.blending`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.tv_tensors import Mask

from sficonv.datasets.crops import (
    Counterparts,
    Key,
    Transform,
    apply_transform,
    read_crop,
    to_tensor,
)
from sficonv.datasets.manifest import identities
from sficonv.datasets.masks import mask_files, mask_or_label
from sficonv.errors import DataError
from sficonv.faces.blending import cross_blend_with_mask, self_blend_with_mask


class Forgery(NamedTuple):
    """A forged face.

    Args:
        image: uint8 `(H, W, 3)`.
        mask: float32 `(H, W)` in [0, 1], how much of a pixel is pasted; `None` for a fake crop of the data.
        path: That crop's path in the manifest, else "".
    """

    image: np.ndarray
    mask: np.ndarray | None
    path: str = ""


class SelfBlended(Dataset[Any]):
    """Pairs (real face, forgery of it) from rows of real faces.

    Both images of a pair go through `transform` with the same parameters, so that compression, size,
    blur and flips say nothing about the label.

    Args:
        df: manifest rows; the real ones are the items, in order.
        root: folder that `path` is relative to (absolute paths are taken as they are).
        transform: uint8 `(2, 3, H, W)` to uint8 `(2, 3, H, W)`.
        real_fakes: share of pairs whose forgery is a fake crop of `df` made from the same source video in
            the same compression (else, of the same dataset and compression), as near in time as there is.
            Real faces without such a counterpart get a pseudo-forgery. Default 0.
        cross: share of the pseudo-forgeries that paste another person's face. Default 0.2.
        seed: with the draw of the sampler, decides everything random.

    Items are `(pair, labels, index)`: uint8 `(2, 3, H, W)`, `[0, 1]`, int. Use `collate_pairs`. Raises
    `DataError` when there is no real row, or when a crop cannot be read.
    """

    candidates = 48  # donors looked at for each paste; the one whose face has the most similar shape is taken

    def __init__(
        self,
        df: pd.DataFrame,
        root: str | Path,
        transform: Transform | None = None,
        *,
        real_fakes: float = 0.0,
        cross: float = 0.2,
        seed: int = 0,
    ) -> None:
        real, fake = df[df["label"] == 0], df[df["label"] == 1]
        if real.empty:
            raise DataError("self-blended training needs real faces, and the data given has none (label 0)")
        self.rows = real
        self.root = Path(root)
        self.transform = transform
        self.real_fakes, self.cross, self.seed = real_fakes, cross, seed
        self.paths = real["path"].tolist()
        self.landmarks = np.stack([_points(points) for points in real["landmarks"]])
        self.times = real["time"].to_numpy(np.float32)
        self.identities = identities(real)
        self.groups = list(real[["dataset", "compression"]].itertuples(index=False, name=None))
        self.shapes = np.stack([_shape(points) for points in self.landmarks])
        self.donors = np.flatnonzero(np.isfinite(self.shapes).all(axis=1))
        self.fakes = Counterparts(fake)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor, int]:
        index, image, forgery, draw = self.draw_pair(key)
        pair = torch.stack([to_tensor(image), to_tensor(forgery.image)])
        return apply_transform(self.transform, pair, draw), torch.tensor([0, 1]), index

    def draw_pair(self, key: Key) -> tuple[int, np.ndarray, Forgery, int]:
        """Row, real crop `(H, W, 3)`, forgery of it, and the number that decides their augmentation."""
        index, draw = key if isinstance(key, tuple) else (key, 0)
        rng = np.random.default_rng((self.seed, index, draw))
        image = read_crop(self.root / self.paths[index])
        return index, image, self.forge(index, image, rng), int(rng.integers(2**31))

    def forge(self, index: int, image: np.ndarray, rng: np.random.Generator) -> Forgery:
        """The forgery that goes with real row `index`, whose crop is `image`."""
        if rng.random() < self.real_fakes:
            path = self.fakes.near(self.groups[index], self.identities[index], self.times[index], rng)
            if path is not None:
                fake = read_crop(self.root / path)
                if fake.shape != image.shape:
                    fake = cv2.resize(fake, image.shape[1::-1], interpolation=cv2.INTER_AREA)
                return Forgery(fake, None, path)
        if rng.random() < self.cross and np.isfinite(self.shapes[index]).all():
            donor = self._donor(index, rng)
            if donor is not None:
                other = read_crop(self.root / self.paths[donor])
                points = self.landmarks[index], self.landmarks[donor]
                return Forgery(*cross_blend_with_mask(image, points[0], other, points[1], rng))
        return Forgery(*self_blend_with_mask(image, self.landmarks[index], rng))

    def _donor(self, index: int, rng: np.random.Generator) -> int | None:
        some = self.donors[rng.integers(len(self.donors), size=self.candidates)]
        others = [int(i) for i in some if self.identities[i].isdisjoint(self.identities[index])]
        if not others:
            return None
        distance = np.square(self.shapes[others] - self.shapes[index]).sum(axis=1)
        return others[int(distance.argmin())]


class MaskedSelfBlended(SelfBlended):
    """`SelfBlended` with masks: items are `(pair, labels, index, masks)`, the masks uint8 `(2, 1, H, W)`.

    Args:
        df, root, transform, **options: See `SelfBlended`; the column `mask` is used where there is one.
    """

    def __init__(
        self, df: pd.DataFrame, root: str | Path, transform: Transform | None = None, **options: Any
    ) -> None:
        super().__init__(df, root, transform, **options)
        fake = df[df["label"] == 1]
        self.masks = dict(zip(fake["path"], mask_files(fake, Path(root)), strict=True))

    def __getitem__(self, key: Key) -> Any:
        index, image, forgery, draw = self.draw_pair(key)
        pair = torch.stack([to_tensor(image), to_tensor(forgery.image)])
        size = (image.shape[0], image.shape[1])
        if forgery.mask is None:
            forged = mask_or_label(self.masks[forgery.path], size, forged=True)
        else:
            forged = torch.from_numpy(np.rint(255 * forgery.mask).astype(np.uint8))[None]
        masks = Mask(torch.stack([torch.zeros_like(forged), forged]))
        pair, masks = apply_transform(self.transform, (pair, masks), draw)
        return pair, torch.tensor([0, 1]), index, masks.as_subclass(Tensor)


def collate_pairs(items: list[tuple[Any, ...]]) -> tuple[Tensor, ...]:
    """Batch pairs: images uint8 `(2 B, 3, H, W)`, labels `(2 B,)` as 0, 1, 0, 1, ..., indices `(2 B,)`, and
    masks uint8 `(2 B, 1, H, W)` if the items have them."""
    pairs, labels, indices, *masks = zip(*items, strict=True)
    batch = torch.cat(pairs), torch.cat(labels), torch.tensor(indices).repeat_interleave(2)
    return (*batch, *map(torch.cat, masks))


def _points(values: object) -> np.ndarray:
    points = np.asarray([] if values is None else values, dtype=np.float32)
    return points.reshape(5, 2) if points.size == 10 else np.full((5, 2), np.nan, np.float32)


def _shape(points: np.ndarray) -> np.ndarray:
    """Landmarks freed of position, size and tilt: `(10,)`, NaN where unknown or degenerate."""
    centred = points - points.mean(axis=0)
    as_complex = centred[:, 0] + 1j * centred[:, 1]
    axis = as_complex[3:].mean() - as_complex[:2].mean()
    if not np.isfinite(axis) or abs(axis) < 1:
        return np.full(10, np.nan, np.float32)
    free = as_complex / axis
    return np.concatenate([free.real, free.imag]).astype(np.float32)
