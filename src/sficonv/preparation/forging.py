"""Fakes for those who only have real faces: self-blended images written beside the real crops."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sficonv.datasets.source import SourceItem, text_hash
from sficonv.faces.alignment import TEMPLATE, similarity
from sficonv.faces.detectors import import_dlib, shape_predictor
from sficonv.faces.forging import forge_one
from sficonv.media.images import read_image, write_png
from sficonv.preparation.options import Points
from sficonv.splits.near_duplicates import perceptual_hash

METHOD = "selfblend"
_PREDICTOR_68 = "shape_predictor_68_face_landmarks.dat"
# Centre and side of the box that dlib would find in a crop whose five points lie at TEMPLATE (measured).
_DLIB_CENTRE = np.array([0.49, 0.545])
_DLIB_SIDE = 0.62


def check_points(points: Points) -> None:
    """See that the landmarks asked for are available.

    Raises:
        DataError: dlib or its model is missing.
    """
    if points == "68":
        shape_predictor(_PREDICTOR_68)


def with_identity(item: SourceItem) -> SourceItem:
    """The item with an identity that its forgeries can share: of a file that names none, its video."""
    return item if item.source_ids else replace(item, source_ids=(item.video_id.replace(",", "_"),))


def original_stem(path: str) -> str:
    """Path of a crop without its suffix; of a forgery that of its original.

    Example:
        >>> original_stem("crops/london/001_0_selfblend3.png")
        'crops/london/001_0'
    """
    return re.sub(rf"(_{METHOD}\d+)?\.png$", "", path)


def add_forgeries(
    crops: list[dict[str, Any]], video_id: str, out: Path, count: int, points: Points, seed: int
) -> list[dict[str, Any]]:
    """Write self-blended forgeries of real crops, each with its mask.

    A forgery depends on the crop, its number and the seed alone, so a run that was interrupted, or one
    with more processes, writes the same ones. It keeps the identity of its original.

    Args:
        crops: What `prepare_item` found in a real file; the crop files are read from `out`.
        video_id: Of the real file; the forgeries get one of their own, as a video has one label.
        out: The prepared folder.
        count: Forgeries for each crop.
        points: "five": the region is extrapolated from the five points; "68": it is the convex hull of
            dlib's 68 points.
        seed: Of everything random.

    Returns:
        A dictionary per forgery, as for the crops, with `label`, `method`, `video_id` and `mask` (grey PNG,
        relative to `out`: the share of the pasted copy in each pixel, 255 = all).

    Raises:
        OSError: The files cannot be written.
        DataError: dlib or its model is missing.
    """
    forgeries = []
    for crop in crops:
        image = read_image(out / crop["path"])
        five = np.array(crop["landmarks"], np.float32).reshape(5, 2)
        landmarks = points_68(image, five) if points == "68" else five
        stem = original_stem(crop["path"])
        for number in range(count):
            drawn = text_hash(f"{seed}/{number}/{crop['path']}")
            fake, mask = forge_one(image, landmarks, seed=int(drawn[:15], 16))
            path = f"{stem}_{METHOD}{number}.png"
            mask_path = f"masks/{path.removeprefix('crops/')}"
            write_png(out / mask_path, np.rint(255 * mask).astype(np.uint8))
            forgeries.append(
                {
                    **crop,
                    "path": path,
                    "sha256": write_png(out / path, fake),
                    "phash": perceptual_hash(fake),
                    "label": 1,
                    "method": METHOD,
                    "video_id": f"{video_id}#{METHOD}",
                    "mask": mask_path,
                }
            )
    return forgeries


def points_68(crop: np.ndarray, five: np.ndarray) -> np.ndarray:
    """dlib's 68 landmarks of a face crop whose five points are known.

    Args:
        crop: uint8 `(S, S, 3)`, RGB.
        five: `(5, 2)` pixels; where they are not finite, the place that faces have in a crop is assumed.

    Returns:
        float32 `(68, 2)` pixels, in the order of iBUG 300-W.

    Raises:
        DataError: dlib or the model is missing.
    """
    size = len(crop)
    known = five if np.isfinite(five).all() else TEMPLATE * np.float32(size)
    to_crop = similarity(TEMPLATE, known)
    x, y = to_crop[:, :2] @ _DLIB_CENTRE + to_crop[:, 2]
    half = float(np.hypot(*to_crop[:, 0])) * _DLIB_SIDE / 2
    box = import_dlib().rectangle(*(round(v) for v in (x - half, y - half, x + half, y + half)))
    shape = shape_predictor(_PREDICTOR_68)(np.ascontiguousarray(crop), box)
    return np.array([(shape.part(i).x, shape.part(i).y) for i in range(68)], np.float32)
