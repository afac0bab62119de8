"""Masks in the shape of a face or of a part of it, from its landmarks."""

from __future__ import annotations

import cv2
import numpy as np

from sficonv.faces.alignment import TEMPLATE

# Half width of a face (in eye distances) at heights given in eye-to-mouth distances below the eyes:
# hair line, forehead, brows, eyes, nose, mouth, jaw, chin.
_OUTLINE_Y = (-1.0, -0.8, -0.45, 0.0, 0.5, 1.0, 1.35, 1.58, 1.66)
_OUTLINE_WIDTH = (0.35, 0.75, 1.0, 1.08, 1.03, 0.87, 0.62, 0.32, 0.15)

# Region: (top range, bottom range, width factor range), heights as above.
REGIONS = {
    "face": ((-0.85, -0.45), (1.5, 1.66), (0.92, 1.04)),
    "inner": ((-0.45, -0.25), (1.2, 1.45), (0.7, 0.88)),
    "lower": ((0.3, 0.6), (1.5, 1.66), (0.85, 1.0)),
    "mouth": ((0.6, 0.75), (1.25, 1.4), (0.5, 0.65)),
    "eyes": ((-0.5, -0.3), (0.25, 0.5), (0.85, 0.95)),
}
_REGION_SHARES = (0.45, 0.25, 0.13, 0.07, 0.10)
HULLS = ("face", "forehead", "inner", "lower")


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
    half = np.interp(y, _OUTLINE_Y, _OUTLINE_WIDTH).astype(np.float32) * factor * width
    # Round the cut edges of a region that ends inside the face.
    half *= np.sqrt(np.sin(np.linspace(0.12 * np.pi, 0.88 * np.pi, 16, dtype=np.float32)))
    centre = eyes + y[:, None] * down
    right = centre - half[:, None] * (1 + 0.55 * turn) * across
    left = centre + half[:, None] * (1 - 0.55 * turn) * across
    outline = np.concatenate([left, right[::-1]])
    return outline + _elastic(outline, 0.07 * width, rng)


def hull_outline(landmarks: np.ndarray, region: str, rng: np.random.Generator) -> np.ndarray:
    """The convex hull of a part of 68 landmarks, as in the paper, elastically deformed.

    Args:
        landmarks: `(68, 2)` pixels in the order of iBUG 300-W: jaw 0 to 16, brows to 26, nose to 35, eyes to
            47, mouth to 67.
        region: One of `HULLS`: "face", all of them; "forehead", with the brows raised; "inner", without the
            jaw; "lower", nose, mouth and jaw.
        rng: How far the brows are raised, and the deformation of the outline.

    Returns:
        float32 `(32, 2)` pixels.
    """
    points = landmarks.astype(np.float32).copy()
    if region == "forehead":
        points[17:27] += rng.uniform(0.2, 0.6) * (points[17:27].mean(axis=0) - points[30])
    part = {"inner": points[17:], "lower": np.concatenate([points[2:15], points[29:36], points[48:]])}
    hull = cv2.convexHull(part.get(region, points))[:, 0]
    closed = np.concatenate([hull, hull[:1]])
    along = np.concatenate([[0], np.hypot(*np.diff(closed, axis=0).T).cumsum()])
    at = np.linspace(0, along[-1], 32, endpoint=False)
    outline = np.stack([np.interp(at, along, closed[:, i]) for i in (0, 1)], axis=1).astype(np.float32)
    eyes = float(np.hypot(*(points[42:48].mean(axis=0) - points[36:42].mean(axis=0))))
    return outline + _elastic(outline, 0.07 * eyes, rng)


def blend_mask(landmarks: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A soft mask over a random region of the face (Shiohara and Yamasaki 2022, section 3.1.2).

    The outline is deformed elastically, filled, and blurred twice with two random kernels; what the first
    blur has touched is dropped in between, so the mask shrinks where the first kernel is the larger one.

    Args:
        landmarks: `(5, 2)` or `(68, 2)` pixels; a default face is assumed where they are not finite or
            give no area.
        shape: height and width of the image.
        rng: random decisions.

    Returns:
        float32 `(H, W)` in [0, 1], not empty.
    """
    height, width = shape
    fallback = TEMPLATE * np.array([width, height], np.float32)
    if not np.isfinite(landmarks).all():
        landmarks = fallback
    if len(landmarks) == 68:
        outline = hull_outline(landmarks, str(rng.choice(HULLS)), rng)
    else:
        outline = face_outline(landmarks, str(rng.choice(list(REGIONS), p=_REGION_SHARES)), rng)
    mask = fill(outline, shape)
    if np.count_nonzero(mask) < 0.01 * mask.size:
        mask = fill(face_outline(fallback, "face", rng), shape)
    largest = max(3, int(np.sqrt(np.count_nonzero(mask))) // 7)  # half the kernel; an eye band takes less
    first, second = (2 * int(k) + 1 for k in rng.integers(1, largest, size=2))
    core = (cv2.GaussianBlur(mask, (first, first), 0) == 255).astype(np.uint8) * 255
    if np.count_nonzero(core):
        mask = core
    return cv2.GaussianBlur(mask, (second, second), 0).astype(np.float32) / 255


def _elastic(points: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Displacements `(n, 2)` of a closed outline: smooth random waves along it, `reach` pixels strong."""
    angle = np.linspace(0, 2 * np.pi, len(points), endpoint=False)[:, None, None]
    order = np.arange(1, 6)[None, :, None]
    waves = rng.normal(size=(1, 5, 2)) * np.sin(angle * order + rng.uniform(0, 2 * np.pi, (1, 5, 2)))
    return (reach * (waves / order).sum(axis=1)).astype(np.float32)


def fill(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """uint8 `(H, W)`: 255 inside an outline `(n, 2)` in pixels, 0 outside."""
    mask = np.zeros(shape, np.uint8)
    return cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 255)
