"""Which part of a face is forged: convex regions from its landmarks."""

from __future__ import annotations

import cv2
import numpy as np

from sficonv.faces.alignment import TEMPLATE

CORNERS = 32
_FIVE = {  # heights in eye-to-mouth distances below the eyes, half widths in eye distances
    "face": (-0.75, 1.66),
    "forehead": (-0.85, 1.66),
    "inner": (-0.4, 1.35),
    "lower": (0.45, 1.66),
    "mouth": (0.65, 1.35),
    "eyes": (-0.45, 0.4),
}
_HEIGHTS = (-1.0, -0.8, -0.45, 0.0, 0.5, 1.0, 1.35, 1.58, 1.66)
_HALF_WIDTHS = (0.35, 0.75, 1.0, 1.08, 1.03, 0.87, 0.62, 0.32, 0.15)
REGIONS = ("face", "forehead", "inner", "lower", "mouth", "eyes")
SHARES = (0.3, 0.3, 0.17, 0.13, 0.05, 0.05)


def random_regions(landmarks: np.ndarray, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Outlines of random regions of one face (Shiohara and Yamasaki 2022, section 3.1.2).

    Args:
        landmarks: `(5, 2)` pixels: right eye, left eye, nose, right and left corner of the mouth; or `(68,
            2)` in the order of iBUG 300-W. Where they are not finite, the usual place of a face in a crop is
            assumed.
        size: Side of the crop in pixels.
        count: Number of regions: whole face, brows raised, without the jaw, lower half, mouth or eyes.
        rng: Every random decision.

    Returns:
        float32 `(count, CORNERS, 2)`, convex, clockwise on screen, in units of the crop's side; the last
        corner repeats where there are fewer.
    """
    if not np.isfinite(landmarks).all():
        landmarks = TEMPLATE * size
    out = np.empty((count, CORNERS, 2), np.float32)
    for i, region in enumerate(rng.choice(REGIONS, size=count, p=SHARES)):
        points = (
            _of_68(landmarks, str(region), rng) if len(landmarks) == 68 else _of_5(landmarks, str(region))
        )
        hull = cv2.convexHull(points.astype(np.float32))[:, 0]
        centre = hull.mean(0)
        hull = (centre + (hull - centre) * rng.uniform(0.92, 1.1)) / size
        hull = hull[np.linspace(0, len(hull), min(len(hull), CORNERS), endpoint=False).astype(int)]
        out[i] = np.concatenate([hull, np.repeat(hull[-1:], CORNERS - len(hull), axis=0)])
    return out


def _of_68(points: np.ndarray, region: str, rng: np.random.Generator) -> np.ndarray:
    points = points.astype(np.float32).copy()
    if region == "forehead":
        points[17:27] += rng.uniform(0.2, 0.6) * (points[17:27].mean(0) - points[30])
    part = {
        "inner": points[17:],
        "lower": np.concatenate([points[2:15], points[29:36], points[48:]]),
        "mouth": points[48:],
        "eyes": np.concatenate([points[17:27], points[36:48], points[28:29]]),
    }
    return part.get(region, points)


def _of_5(points: np.ndarray, region: str) -> np.ndarray:
    right_eye, left_eye, nose, right_mouth, left_mouth = points.astype(np.float32)
    eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
    down, across = mouth - eyes, left_eye - right_eye
    height, distance = (max(float(np.hypot(*v)), 1e-3) for v in (down, across))
    width = max(distance, 0.75 * height)  # in profile the eyes nearly coincide while the head keeps its depth
    across = across / distance
    turn = float(np.clip((nose - eyes) @ across / width, -0.4, 0.4))  # a turned head shows less of one side
    y = np.linspace(*_FIVE[region], 12, dtype=np.float32)
    half = np.interp(y, _HEIGHTS, _HALF_WIDTHS)[:, None] * width
    centre = eyes + y[:, None] * down
    return np.concatenate(
        [centre - half * (1 + 0.55 * turn) * across, centre + half * (1 - 0.55 * turn) * across]
    )
