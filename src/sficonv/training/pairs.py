"""Pairs of a real face and a forgery of it, drawn and made on the device in batches.

Half of every batch are real faces, the other half forgeries *of these very faces*, and both go through the
same augmentation. So nothing but the forgery itself tells the two apart: not the person, the camera, the
codec or the size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sficonv.datasets.manifest import identities
from sficonv.errors import DataError
from sficonv.faces.forging import Forged, paste, self_blend
from sficonv.faces.outlines import random_regions
from sficonv.media.batches import Draw
from sficonv.training.augmentation import PairAugmentation

SAME_PLACE = 0.4
"""Least overlap of the boxes of a real face and its forgery."""


@dataclass(frozen=True)
class PairShares:
    """What the forgeries of a batch are.

    Args:
        forgeries: Share that are fakes of the data, each beside the crop it was made from.
        unrelated: Share that are fakes of the data which were made from no crop, such as generated faces,
            beside any real crop of the same data set.
        pasted: Share of the rest, which is made on the device, that pastes another person's face; the others
            are blended with themselves.
        real_sources: Weight of each data set among the real faces that are forged on the device. Default: the
            square root of its number of videos.
        forgery_sources: Weight of each data set among the forgeries. Default: all alike. Within a data set
            the methods weigh alike.
    """

    forgeries: float = 0.5
    unrelated: float = 0.05
    pasted: float = 0.25
    real_sources: Mapping[str, float] = field(default_factory=dict)
    forgery_sources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("forgeries", "unrelated", "pasted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.forgeries + self.unrelated > 1:
            raise ValueError("forgeries and unrelated must not exceed 1 together")


class Crops(Protocol):
    """Face crops that can be read by row."""

    def take(self, rows: Tensor) -> Tensor:
        """Float `(B, 3, S, S)`, 0 to 255, of int64 `(B,)` rows, on the device of `rows`."""


class CropsInMemory:
    """Crops that lie in the memory of the device.

    Args:
        images: uint8 `(N, 3, S, S)`.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def take(self, rows: Tensor) -> Tensor:
        """See `Crops`."""
        return self.images[rows].float()


class PairBatch(NamedTuple):
    """A batch: real faces first, then the forgeries in the same order.

    Args:
        images: Float `(2 P, 3, S, S)`, whole numbers from 0 to 255.
        labels: int64 `(2 P,)`.
        masks: Float `(2 P, 1, S, S)`, the forged pixels; 0 for real faces.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor


class PairMaker:
    """Makes batches of pairs.

    Args:
        rows: Manifest rows of the crops, in the order in which `crops` has them. Fakes pair with real crops
            of the same `dataset` and `compression` that share an identity, the nearest in time.
        crops: Their pixels.
        pairs: Pairs in a batch.
        shares: What the forgeries are.
        augmentation: What both images of a pair go through.
        seed: With the number of the step, decides everything random.
        device: Where batches are made.
        variants: Regions kept for each real face.

    Raises:
        DataError: If there is no real crop.
    """

    CANDIDATES = 24  # donors looked at for each paste; the one whose face has the most similar shape is taken

    def __init__(
        self,
        rows: pd.DataFrame,
        crops: Crops,
        *,
        pairs: int,
        shares: PairShares | None = None,
        augmentation: PairAugmentation | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        variants: int = 8,
    ) -> None:
        self.crops, self.pairs, self.seed, self.device = crops, pairs, seed, torch.device(device)
        self.shares = shares or PairShares()
        self.augmentation = augmentation or PairAugmentation()
        rows = rows.reset_index(drop=True)
        real = np.flatnonzero(rows["label"] == 0)
        if not len(real):
            raise DataError("pairs are made of real faces, and the data given has none (label 0)")
        tensor = self._tensor
        points = _points(
            rows["landmarks"].iloc[real], float(rows["size"].iloc[0]) if "size" in rows else 256.0
        )
        rng = np.random.default_rng(seed)
        self.real = tensor(real)
        self.outlines = tensor(np.stack([random_regions(p, 1, variants, rng) for p in points]))
        self.landmarks, self.shapes = tensor(np.nan_to_num(points, nan=0.5)), tensor(_shapes(points))
        self.people = tensor(_people(rows.iloc[real]))
        self.weights = tensor(_real_weights(rows.iloc[real], self.shares.real_sources))
        donors = self.weights.clone()
        donors[~self.shapes.isfinite().all(1)] = 0
        self.donor_weights = donors
        self.shapes = self.shapes.nan_to_num(1e3)
        found = counterparts(rows)
        self.forgery_real, self.forgery_fake, self.forgery_weights = self._drawn(found.pairs, rows)
        self._keep_unrelated(found.unrelated)

    def counts(self) -> dict[str, int]:
        """How many pairs of a batch are of which kind."""
        forgeries = round(self.shares.forgeries * self.pairs) if len(self.forgery_real) else 0
        unrelated = round(self.shares.unrelated * self.pairs) if len(self.unrelated_fake) else 0
        made = self.pairs - forgeries - unrelated
        pasted = round(self.shares.pasted * made) if bool((self.donor_weights > 0).sum() > 1) else 0
        return {
            "forgeries": forgeries,
            "unrelated": unrelated,
            "pasted": pasted,
            "self_blended": made - pasted,
        }

    @torch.no_grad()
    def batch(self, step: int) -> PairBatch:
        """The batch of one step; the same step gives the same batch."""
        draw = Draw((self.seed << 32) + step, self.device)
        counts = self._counts
        parts = [self._self_blended(counts["self_blended"], draw), self._pasted(counts["pasted"], draw)]
        parts += [self._forgeries(counts["forgeries"], draw), self._unrelated(counts["unrelated"], draw)]
        real, fake, mask = (
            torch.cat(list(part)) for part in zip(*[p for p in parts if p is not None], strict=True)
        )
        order = draw.order(self.pairs)
        real, fake, mask = self.augmentation(real[order], fake[order], mask[order], draw)
        labels = torch.arange(2, device=self.device).repeat_interleave(self.pairs)
        return PairBatch(torch.cat([real, fake]), labels, torch.cat([torch.zeros_like(mask), mask]))

    @cached_property
    def _counts(self) -> dict[str, int]:
        return self.counts()  # asks the device once, not in every step

    def _outlines_of(self, who: Tensor, draw: Draw) -> Tensor:
        return self.outlines[who, draw.integers(len(who), self.outlines.shape[1])]

    def _self_blended(self, count: int, draw: Draw) -> Forged | None:
        if not count:
            return None
        who = draw.weighted(self.weights, count)
        return self_blend(self.crops.take(self.real[who]), self._outlines_of(who, draw), draw)

    def _pasted(self, count: int, draw: Draw) -> Forged | None:
        if not count:
            return None
        who = draw.weighted(self.donor_weights, count)
        others = draw.weighted(self.donor_weights, count * self.CANDIDATES).view(count, -1)
        far = ((self.shapes[others] - self.shapes[who][:, None]) ** 2).sum(-1)
        far = far + (self.people[others] == self.people[who][:, None]) * 1e6
        donor = others.gather(1, far.argmin(1, keepdim=True))[:, 0]
        return paste(
            self.crops.take(self.real[who]),
            self._outlines_of(who, draw),
            self.landmarks[who],
            self.crops.take(self.real[donor]),
            self.landmarks[donor],
            draw,
        )

    def _forgeries(self, count: int, draw: Draw) -> Forged | None:
        if not count:
            return None
        which = draw.weighted(self.forgery_weights, count)
        return _found(self.crops.take(self.forgery_real[which]), self.crops.take(self.forgery_fake[which]))

    def _unrelated(self, count: int, draw: Draw) -> Forged | None:
        if not count:
            return None
        which = draw.weighted(self.unrelated_weights, count)
        first, many = self.unrelated_real_span[which].unbind(1)
        real = self.unrelated_real[first + (draw.uniform(count) * many).long()]
        real, fake = self.crops.take(real), self.crops.take(self.unrelated_fake[which])
        return Forged(real, fake, torch.ones_like(real[:, :1]))

    def _drawn(self, forgeries: pd.DataFrame, rows: pd.DataFrame) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of real and fake, and the weight of each pair."""
        weights = np.zeros(len(forgeries))
        if len(forgeries):
            wanted = self.shares.forgery_sources
            source, method = forgeries["dataset"], forgeries["dataset"] + "/" + forgeries["method"]
            methods = method.groupby(source).transform("nunique")
            share = source.map(lambda name: wanted.get(name, 1.0)).to_numpy(float)
            weights = share / methods.to_numpy() / method.map(method.value_counts()).to_numpy()
        real, fake = (self._tensor(forgeries[key].to_numpy(np.int64)) for key in ("real", "fake"))
        return real, fake, self._tensor(weights)

    def _keep_unrelated(self, sides: dict[str, tuple[list[int], list[int]]]) -> None:
        """Of data sets whose fakes were made from no crop: the fakes, and where their data set's real
        crops lie."""
        real: list[int] = []
        fake: list[int] = []
        span: list[tuple[int, int]] = []
        weights: list[float] = []
        for name, (of_real, of_fake) in sides.items():
            span += [(len(real), len(of_real))] * len(of_fake)
            weights += [self.shares.forgery_sources.get(name, 1.0) / len(of_fake)] * len(of_fake)
            real += of_real
            fake += of_fake
        integers = [np.array(x, np.int64) for x in (real, fake, np.array(span, np.int64).reshape(-1, 2))]
        self.unrelated_real, self.unrelated_fake, self.unrelated_real_span = map(self._tensor, integers)
        self.unrelated_weights = self._tensor(np.array(weights, np.float64))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.tensor(values).to(self.device)


def _found(real: Tensor, fake: Tensor) -> Forged:
    """A forgery of the data: it is forged where it differs from its original by more than the codec does."""
    differs = torch.nn.functional.avg_pool2d((fake - real).abs().mean(1, keepdim=True), 9, 1, 4)
    return Forged(real, fake, (differs > 4).to(real.dtype))


def _points(landmarks: pd.Series, size: float) -> np.ndarray:
    """Landmarks `(N, L, 2)` in units of the crop's side, NaN where unknown; 68 where all have them, else
    5."""
    arrays = [np.asarray([] if p is None else p, np.float32).reshape(-1, 2) for p in landmarks]
    known = {len(p) for p in arrays if len(p)}
    count = known.pop() if len(known) == 1 else 5
    missing = np.full((count, 2), np.nan, np.float32)
    return np.stack([p if len(p) == count else missing for p in arrays]) / size


def _shapes(points: np.ndarray) -> np.ndarray:
    """Landmarks freed of position, size and tilt: `(N, 2 L)`, NaN where unknown or degenerate."""
    centred = points - points.mean(1, keepdims=True)
    z = centred[..., 0] + 1j * centred[..., 1]
    low, high = (slice(48, None), slice(36, 48)) if points.shape[1] == 68 else (slice(3, None), slice(0, 2))
    axis = z[:, low].mean(1) - z[:, high].mean(1)
    axis[np.abs(axis) < 0.02] = np.nan
    with np.errstate(invalid="ignore"):
        free = z / axis[:, None]
    return np.concatenate([free.real, free.imag], 1).astype(np.float32)


def _people(rows: pd.DataFrame) -> np.ndarray:
    """A number for each person: the first identity of a row within its data set."""
    names = [f"{d}/{min(who)}" for d, who in zip(rows["dataset"], identities(rows), strict=True)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _real_weights(rows: pd.DataFrame, wanted: Mapping[str, float]) -> np.ndarray:
    """Data sets by their shares, within one the videos alike, within a video its crops."""
    video = rows["dataset"] + "/" + rows["video_id"]
    videos = video.groupby(rows["dataset"]).transform("nunique").to_numpy(float)
    crops = video.map(video.value_counts()).to_numpy(float)
    share = np.array([wanted.get(d, np.sqrt(n)) for d, n in zip(rows["dataset"], videos, strict=True)])
    return share / videos / crops


class Counterparts(NamedTuple):
    """Which fakes go with which real crops.

    Args:
        pairs: `real` and `fake`, the rows of a real crop and of the fake made from it, `dataset`, `method`.
        unrelated: For each data set with fakes that were made from none of its crops: the rows of its real
            crops, and of those fakes.
        apart: Fakes among those whose nearest real crop shows another place of the frame.
    """

    pairs: pd.DataFrame
    unrelated: dict[str, tuple[list[int], list[int]]]
    apart: int


def counterparts(rows: pd.DataFrame) -> Counterparts:
    """Find the real crop that each fake was made from: of the same data set, compression and person, at the
    nearest time, in the same place of the frame."""
    real_of: dict[tuple[str, str, str], list[int]] = {}
    people = [[who for who in text.split(",") if who] for text in rows["source_ids"].fillna("")]
    label, source = rows["label"].to_numpy(), list(zip(rows["dataset"], rows["compression"], strict=True))
    for i in np.flatnonzero(label == 0):
        for who in people[i]:
            real_of.setdefault((*source[i], who), []).append(int(i))
    time = rows["time"].to_numpy(float) if "time" in rows else np.zeros(len(rows))
    boxes = [np.asarray(box, np.float32) for box in rows["box"]] if "box" in rows else None
    found, apart = [], 0
    alone: dict[str, list[int]] = {}
    for i in np.flatnonzero(label == 1):
        # the first identity is the one whose video was changed: its frames are what the forgery was made from
        candidates = next((real_of[key] for who in people[i] if (key := (*source[i], who)) in real_of), [])
        near = np.nan_to_num(np.abs(time[candidates] - time[i]))
        real = candidates[int(near.argmin())] if candidates else None
        if real is None or (boxes is not None and _overlap(boxes[real], boxes[i]) < SAME_PLACE):
            apart += real is not None
            alone.setdefault(rows["dataset"].iloc[i], []).append(int(i))
            continue
        found.append((real, int(i), rows["dataset"].iloc[i], rows["method"].iloc[i] or ""))
    reals = {d: np.flatnonzero((label == 0) & (rows["dataset"] == d)).tolist() for d in alone}
    pairs = pd.DataFrame(found, columns=["real", "fake", "dataset", "method"])
    unrelated = {name: (reals[name], fakes) for name, fakes in alone.items() if reals[name]}
    return Counterparts(pairs, unrelated, apart)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1); 1 where one is unknown."""
    if len(a) != 4 or len(b) != 4 or not np.isfinite([a, b]).all():
        return 1.0
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    areas = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]))
    return common / (areas - common) if areas > common else 1.0
