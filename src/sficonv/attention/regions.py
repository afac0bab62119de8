"""Which parts of a face an attention map lies on, from the five points of the face detector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

REGIONS = ("eyes", "nose", "mouth", "forehead", "cheeks", "outline", "background")


def face_regions(points: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    """Divide a face crop into regions.

    The points give a frame of the face: x across in eye distances from the middle between the eyes, y down in
    eye-to-mouth distances. In it eyes, nose and mouth are ellipses; the head is a larger ellipse whose rim is
    the outline; above the eyes lies the forehead, the rest of the head counts as cheeks (chin included). The
    proportions are those of an average face seen from the front; for a profile they are rough.

    Args:
        points: `(5, 2)` x and y in pixels of the crop: both eyes, nose, both corners of the mouth.
        height: Of the crop, in pixels.
        width: Of the crop, in pixels.

    Returns:
        `(height, width)`, each pixel the number of its region in `REGIONS`.

    Raises:
        ValueError: If the points are not five finite pairs, or eyes or mouth fall on one spot.

    Example:
        >>> points = np.array([[90, 100], [166, 100], [128, 140], [100, 180], [156, 180]])
        >>> REGIONS[face_regions(points, 256, 256)[100, 90]]
        'eyes'
    """
    points = np.asarray(points, dtype=float)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"points must be five finite pairs (x, y), got shape {points.shape}")
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    across, down = float(np.linalg.norm(points[1] - points[0])), float(np.linalg.norm(mouth - eyes))
    if across < 1 or down < 1:
        raise ValueError("the points of the face fall on one spot")
    direction = (mouth - eyes) / down
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) - eyes
    # seen from the side the eyes move together: the height then gives the better scale
    scale = max(across, 0.6 * down)
    x = (grid @ np.array([direction[1], -direction[0]])) / scale
    y = (grid @ direction) / down

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> NDArray[Any]:
        return np.hypot((x - cx) / rx, (y - cy) / ry)

    head = ellipse(0.0, 0.35, 1.15, 1.6)
    regions = np.full((height, width), REGIONS.index("background"), np.uint8)
    regions[head < 1.2] = REGIONS.index("outline")
    regions[head < 0.9] = REGIONS.index("cheeks")
    regions[(head < 0.9) & (y < -0.35)] = REGIONS.index("forehead")
    regions[ellipse(0.0, 0.5, 0.32, 0.42) < 1] = REGIONS.index("nose")
    regions[ellipse(0.0, 1.0, 0.6, 0.3) < 1] = REGIONS.index("mouth")
    regions[np.minimum(ellipse(-0.5, 0.0, 0.42, 0.35), ellipse(0.5, 0.0, 0.42, 0.35)) < 1] = 0
    return regions


def region_shares(attention: NDArray[Any], points: NDArray[Any]) -> dict[str, float]:
    """Share of the attention on each region of the face.

    Args:
        attention: Non-negative map `(H, W)` of the whole crop, in any resolution.
        points: `(5, 2)`, x and y of the five points as fractions of the crop's width and height.

    Returns:
        One share per region of `REGIONS`; they add up to 1 (all 0 for a map of zeros).

    Raises:
        ValueError: As `face_regions`; or the map is not two-dimensional or has negative or non-finite values.

    Example:
        >>> points = np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]])
        >>> round(sum(region_shares(np.ones((64, 64)), points).values()), 6)
        1.0
    """
    attention = np.asarray(attention, dtype=float)
    if attention.ndim != 2 or not np.isfinite(attention).all() or (attention < 0).any():
        raise ValueError("attention must be a map (H, W) of finite values that are not negative")
    height, width = attention.shape
    regions = face_regions(np.asarray(points) * np.array([width, height]), height, width)
    sums = np.bincount(regions.ravel(), attention.ravel(), minlength=len(REGIONS))
    total = sums.sum()
    return {name: float(s / total) if total else 0.0 for name, s in zip(REGIONS, sums, strict=True)}
