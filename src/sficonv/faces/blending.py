"""Forging a face by blending it with itself or with another person's face.

Self-blended images (Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022):
two slightly different copies of one face are blended with a face-shaped mask, which leaves the traces
that every blend leaves and no others. The second kind pastes another person's face after aligning it
and matching its colours, as in Face X-ray (Li et al., CVPR 2020) and as face-swapping programs do.

Images are RGB uint8 `(H, W, 3)`; landmarks are `(5, 2)` pixels: right eye, left eye, nose, right and left
corner of the mouth. Every random decision comes from the generator that is passed in.
"""

from __future__ import annotations

import cv2
import numpy as np

from sficonv.faces.alignment import similarity
from sficonv.faces.face_masks import blend_mask, face_outline, fill
from sficonv.media.corruptions import jpeg

BLEND_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)


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
        return jpeg(image, int(rng.integers(35, 95)))
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
        landmarks: `(5, 2)` pixels, or NaN where unknown; or 68 points, whose convex hull is the mask then.
        rng: random decisions.

    Returns:
        The forgery, uint8 `(H, W, 3)`; outside the mask the image is its target copy.

    Example:
        >>> face = np.full((64, 64, 3), 128, np.uint8)
        >>> self_blend(face, np.full((5, 2), np.nan), np.random.default_rng(0)).shape
        (64, 64, 3)
    """
    return self_blend_with_mask(image, landmarks, rng)[0]


def self_blend_with_mask(
    image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`self_blend`, and where it put how much of the source: float32 `(H, W)` in [0, 1]."""
    mask = blend_mask(landmarks, image.shape[:2], rng)
    source = target = image
    if rng.random() < 0.5:
        source = shift_statistics(image, rng)
    else:
        target = shift_statistics(image, rng)
    source, mask = move_slightly(source, mask, rng)
    mask = mask * np.float32(rng.choice(BLEND_RATIOS))
    return _blend(source, target, mask), mask


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
    return cross_blend_with_mask(image, landmarks, donor, donor_landmarks, rng)[0]


def cross_blend_with_mask(
    image: np.ndarray,
    landmarks: np.ndarray,
    donor: np.ndarray,
    donor_landmarks: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """`cross_blend`, and where it put how much of the donor: float32 `(H, W)` in [0, 1]."""
    height, width = image.shape[:2]
    mask = blend_mask(landmarks, (height, width), rng)
    matrix = similarity(donor_landmarks, landmarks)
    if rng.random() < 0.5:
        donor = _lower_resolution(donor, rng)  # generators of swapped faces work at 64 to 256 px
    source = cv2.warpAffine(
        donor, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    inside = cv2.warpAffine(np.full(donor.shape[:2], 255, np.uint8), matrix, (width, height))
    mask = mask * (cv2.GaussianBlur(inside, (7, 7), 0).astype(np.float32) / 255)
    # The whole face, whatever the region: lips alone would give a tint and not a skin tone.
    source = _match_colours(source, image, fill(face_outline(landmarks, "face", rng), (height, width)))
    mask = mask * np.float32(rng.choice((0.75, 1.0, 1.0, 1.0)))
    return _blend(source, image, mask), mask


def _lower_resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = image.shape[1::-1]
    factor = rng.uniform(0.25, 0.75)
    small = [max(1, round(side * factor)) for side in size]
    up = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST], p=[0.6, 0.3, 0.1]))
    if up == cv2.INTER_NEAREST:  # blocks, as strong as they may be
        small = [max(1, side // 2) for side in size]
    return cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), size, interpolation=up)


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
