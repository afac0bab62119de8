"""Forgeries made on the fly from real faces alone.

Self-blended images (Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022):
two slightly different copies of one face are blended with a face-shaped mask, which leaves the traces
that every blend leaves and no others. The second kind pastes another person's face after aligning it
and matching its colours, as in Face X-ray (Li et al., CVPR 2020) and as face-swapping programs do.

Images are RGB uint8 `(H, W, 3)`; landmarks are `(5, 2)` pixels: right eye, left eye, nose, right and left
corner of the mouth. Every random decision comes from the generator that is passed in.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sficonv.data.dataset import (
    Counterparts,
    Key,
    Transform,
    apply_transform,
    identities,
    read_crop,
    to_tensor,
)
from sficonv.errors import DataError

# Where the five points lie in a crop of margin 1.3 around an upright face, as a share of its side.
DEFAULT_LANDMARKS = np.array(
    [[0.37, 0.405], [0.63, 0.405], [0.50, 0.555], [0.385, 0.675], [0.615, 0.675]], np.float32
)

# Half width of a face (in eye distances) at heights given in eye-to-mouth distances below the eyes:
# hair line, forehead, brows, eyes, nose, mouth, jaw, chin.
OUTLINE_Y = (-1.0, -0.8, -0.45, 0.0, 0.5, 1.0, 1.35, 1.58, 1.66)
OUTLINE_WIDTH = (0.35, 0.75, 1.0, 1.08, 1.03, 0.87, 0.62, 0.32, 0.15)

# Region: (top range, bottom range, width factor range), heights as above.
REGIONS = {
    "face": ((-0.85, -0.45), (1.5, 1.66), (0.92, 1.04)),
    "inner": ((-0.45, -0.25), (1.2, 1.45), (0.7, 0.88)),
    "lower": ((0.3, 0.6), (1.5, 1.66), (0.85, 1.0)),
    "mouth": ((0.6, 0.75), (1.25, 1.4), (0.5, 0.65)),
    "eyes": ((-0.5, -0.3), (0.25, 0.5), (0.85, 0.95)),
}
REGION_SHARES = (0.45, 0.25, 0.13, 0.07, 0.10)
BLEND_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)


def face_outline(landmarks: np.ndarray, region: str, rng: np.random.Generator) -> np.ndarray:
    """A closed outline of one region of the face, extrapolated from the five points.

    Args:
        landmarks: `(5, 2)` pixels, finite.
        region: a key of `REGIONS`.
        rng: random size of the region and elastic deformation of its outline.

    Returns:
        float32 `(n, 2)` pixels.
    """
    right_eye, left_eye, nose, right_mouth, left_mouth = landmarks.astype(np.float32)
    eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
    down = mouth - eyes
    height = max(float(np.hypot(*down)), 1.0)
    across = left_eye - right_eye
    distance = max(float(np.hypot(*across)), 1e-3)
    # In profile the eyes nearly coincide while the head keeps its depth.
    width = max(distance, 0.75 * height)
    across /= distance
    # A turned head shows less of the side that the nose points to.
    turn = float(np.clip((nose - eyes) @ across / width, -0.4, 0.4))

    top, bottom, factor = (rng.uniform(*span) for span in REGIONS[region])
    y = np.linspace(top, bottom, 16, dtype=np.float32)
    half = np.interp(y, OUTLINE_Y, OUTLINE_WIDTH).astype(np.float32) * factor * width
    # Round the cut edges of a region that ends inside the face.
    half *= np.sqrt(np.sin(np.linspace(0.12 * np.pi, 0.88 * np.pi, 16, dtype=np.float32)))
    centre = eyes + y[:, None] * down
    right = centre - half[:, None] * (1 + 0.55 * turn) * across
    left = centre + half[:, None] * (1 - 0.55 * turn) * across
    outline = np.concatenate([left, right[::-1]])
    return outline + _elastic(outline, 0.07 * width, rng)


def blend_mask(landmarks: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A soft mask over a random region of the face.

    The outline is deformed elastically, filled, and blurred twice with two random kernels; what the first
    blur has touched is dropped in between, so the mask shrinks where the first kernel is the larger one.

    Args:
        landmarks: `(5, 2)` pixels; a default face is assumed where they are not finite or give no area.
        shape: height and width of the image.
        rng: random decisions.

    Returns:
        float32 `(H, W)` in [0, 1], not empty.
    """
    height, width = shape
    fallback = DEFAULT_LANDMARKS * np.array([width, height], np.float32)
    if not np.isfinite(landmarks).all():
        landmarks = fallback
    region = rng.choice(list(REGIONS), p=REGION_SHARES)
    mask = _fill(face_outline(landmarks, region, rng), shape)
    if np.count_nonzero(mask) < 0.01 * mask.size:
        mask = _fill(face_outline(fallback, "face", rng), shape)
    largest = max(3, int(np.sqrt(np.count_nonzero(mask))) // 7)  # half the kernel; an eye band takes less
    first, second = (2 * int(k) + 1 for k in rng.integers(1, largest, size=2))
    core = (cv2.GaussianBlur(mask, (first, first), 0) == 255).astype(np.uint8) * 255
    if np.count_nonzero(core):
        mask = core
    return cv2.GaussianBlur(mask, (second, second), 0).astype(np.float32) / 255


def shift_statistics(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change colours and sharpness a little: shifts in RGB and HSV, brightness and contrast, then one
    of sharpening, lower resolution and JPEG. uint8 `(H, W, 3)` to the same."""
    levels = np.arange(256, dtype=np.float32)
    gain, offset = 1 + rng.uniform(-0.1, 0.1), rng.uniform(-20, 20, 3) * (rng.random() < 0.5)
    offset = offset + rng.uniform(-12, 12) + 128 * (1 - gain)
    table = np.clip(levels[:, None] * gain + offset, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[:, None, :])
    if rng.random() < 0.5:
        hue, saturation, value = rng.uniform(-4, 4), rng.uniform(0.8, 1.2), rng.uniform(0.92, 1.08)
        table = np.stack([(levels + hue) % 180, levels * saturation, levels * value], axis=1)
        hsv = cv2.LUT(
            cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.clip(table, 0, 255).astype(np.uint8)[:, None]
        )
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    choice = rng.random()
    if choice < 0.35:
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 1.6))
        amount = rng.uniform(0.3, 0.9)
        return cv2.addWeighted(image, 1 + amount, soft, -amount, 0)
    if choice < 0.8:
        return _lower_resolution(image, rng)
    if choice < 0.95:
        return _jpeg(image, int(rng.integers(35, 95)))
    return image


def move_slightly(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scale (0.95 to 1.05, each axis for itself) and shift (up to 3 %) an image together with its mask."""
    height, width = mask.shape
    scale = rng.uniform(0.95, 1.05, 2)
    shift = rng.uniform(-0.03, 0.03, 2) * (width, height) + (1 - scale) * (width / 2, height / 2)
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    moved = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return moved, cv2.warpAffine(mask, matrix, (width, height))


def self_blend(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Forge a face with itself (Shiohara and Yamasaki 2022, section 3).

    Args:
        image: RGB uint8 `(H, W, 3)` crop of a real face.
        landmarks: `(5, 2)` pixels, or NaN where unknown.
        rng: random decisions.

    Returns:
        The forgery, uint8 `(H, W, 3)`; outside the mask the image is its target copy.

    Example:
        >>> face = np.full((64, 64, 3), 128, np.uint8)
        >>> self_blend(face, np.full((5, 2), np.nan), np.random.default_rng(0)).shape
        (64, 64, 3)
    """
    mask = blend_mask(landmarks, image.shape[:2], rng)
    source = target = image
    if rng.random() < 0.5:
        source = shift_statistics(image, rng)
    else:
        target = shift_statistics(image, rng)
    source, mask = move_slightly(source, mask, rng)
    return _blend(source, target, mask * np.float32(rng.choice(BLEND_RATIOS)))


def cross_blend(
    image: np.ndarray,
    landmarks: np.ndarray,
    donor: np.ndarray,
    donor_landmarks: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paste another person's face: aligned by the five points, colours matched over the face.

    Args:
        image, donor: RGB uint8 crops `(H, W, 3)` of two persons; sizes may differ.
        landmarks, donor_landmarks: `(5, 2)` pixels of each, finite.
        rng: random decisions.

    Returns:
        The forgery, uint8, of the size of `image`.
    """
    height, width = image.shape[:2]
    mask = blend_mask(landmarks, (height, width), rng)
    matrix = _similarity(donor_landmarks, landmarks)
    if rng.random() < 0.5:
        donor = _lower_resolution(donor, rng)  # generators of swapped faces work at 64 to 256 px
    source = cv2.warpAffine(
        donor, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    inside = cv2.warpAffine(np.full(donor.shape[:2], 255, np.uint8), matrix, (width, height))
    mask = mask * (cv2.GaussianBlur(inside, (7, 7), 0).astype(np.float32) / 255)
    # The whole face, whatever the region: lips alone would give a tint and not a skin tone.
    source = _match_colours(source, image, _fill(face_outline(landmarks, "face", rng), (height, width)))
    return _blend(source, image, mask * np.float32(rng.choice((0.75, 1.0, 1.0, 1.0))))


class SelfBlended(Dataset):
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
        index, draw = key if isinstance(key, tuple) else (key, 0)
        rng = np.random.default_rng((self.seed, index, draw))
        image = read_crop(self.root / self.paths[index])
        pair = torch.stack([to_tensor(image), to_tensor(self.forge(index, image, rng))])
        return apply_transform(self.transform, pair, int(rng.integers(2**31))), torch.tensor([0, 1]), index

    def forge(self, index: int, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The forgery that goes with real row `index`, whose crop is `image`."""
        if rng.random() < self.real_fakes:
            path = self.fakes.near(self.groups[index], self.identities[index], self.times[index], rng)
            if path is not None:
                fake = read_crop(self.root / path)
                same = fake.shape == image.shape
                return fake if same else cv2.resize(fake, image.shape[1::-1], interpolation=cv2.INTER_AREA)
        if rng.random() < self.cross and np.isfinite(self.shapes[index]).all():
            donor = self._donor(index, rng)
            if donor is not None:
                other = read_crop(self.root / self.paths[donor])
                return cross_blend(image, self.landmarks[index], other, self.landmarks[donor], rng)
        return self_blend(image, self.landmarks[index], rng)

    def _donor(self, index: int, rng: np.random.Generator) -> int | None:
        some = self.donors[rng.integers(len(self.donors), size=self.candidates)]
        others = [int(i) for i in some if self.identities[i].isdisjoint(self.identities[index])]
        if not others:
            return None
        distance = np.square(self.shapes[others] - self.shapes[index]).sum(axis=1)
        return others[int(distance.argmin())]


def collate_pairs(items: list[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Batch pairs: images uint8 `(2 B, 3, H, W)`, labels `(2 B,)` as 0, 1, 0, 1, ..., indices `(2 B,)`."""
    pairs, labels, indices = zip(*items, strict=True)
    return torch.cat(pairs), torch.cat(labels), torch.tensor(indices).repeat_interleave(2)


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


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity transform `(2, 3)` that takes one set of points to another."""
    s, t = (points @ np.array([1, 1j]) for points in (source.astype(np.float64), target.astype(np.float64)))
    s0, t0 = s.mean(), t.mean()
    factor = np.vdot(s - s0, t - t0) / max(np.vdot(s - s0, s - s0).real, 1e-9)
    shift = t0 - factor * s0
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _elastic(points: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Displacements `(n, 2)` of a closed outline: smooth random waves along it, `reach` pixels strong."""
    angle = np.linspace(0, 2 * np.pi, len(points), endpoint=False)[:, None, None]
    order = np.arange(1, 6)[None, :, None]
    waves = rng.normal(size=(1, 5, 2)) * np.sin(angle * order + rng.uniform(0, 2 * np.pi, (1, 5, 2)))
    return (reach * (waves / order).sum(axis=1)).astype(np.float32)


def _fill(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    return cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 255)


def _lower_resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = image.shape[1::-1]
    factor = rng.uniform(0.25, 0.75)
    small = [max(1, round(side * factor)) for side in size]
    up = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST], p=[0.6, 0.3, 0.1]))
    if up == cv2.INTER_NEAREST:  # blocks, as strong as they may be
        small = [max(1, side // 2) for side in size]
    return cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), size, interpolation=up)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _match_colours(source: np.ndarray, target: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Give `source` the mean and spread of `target`, both taken where the uint8 mask is set, in Lab
    (Reinhard et al. 2001)."""
    if not where.any():
        return source
    lab = cv2.cvtColor(source, cv2.COLOR_RGB2LAB)
    mean, spread = cv2.meanStdDev(lab, mask=where)
    to_mean, to_spread = cv2.meanStdDev(cv2.cvtColor(target, cv2.COLOR_RGB2LAB), mask=where)
    gain = np.clip(to_spread / np.maximum(spread, 1e-3), 0.6, 1.6)
    table = np.clip((np.arange(256)[:, None] - mean[:, 0]) * gain[:, 0] + to_mean[:, 0], 0, 255)
    return cv2.cvtColor(cv2.LUT(lab, table.astype(np.uint8)[:, None]), cv2.COLOR_LAB2RGB)


def _blend(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    x, y, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
    box = np.s_[y : y + height, x : x + width]
    weight = mask[box][:, :, None]
    out = target.copy()
    base = target[box].astype(np.float32)
    out[box] = np.rint(base + weight * (source[box] - base)).astype(np.uint8)
    return out
