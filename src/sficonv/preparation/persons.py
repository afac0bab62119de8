"""Which of the people in a video are kept: the largest face, one person, everybody, or who was forged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sficonv.errors import MediaError
from sficonv.media.images import read_image
from sficonv.media.kinds import media_kind
from sficonv.media.video import Frame, iter_frames
from sficonv.preparation.options import Kept

_MASK_SIDE = 160  # pixels; enough to tell two faces apart
_FORGED_SHARE = 0.5
_BRIGHT = 25  # compression leaves a faint haze around masks


def keep(crops: list[dict[str, Any]], which: Kept) -> list[dict[str, Any]]:
    """Choose among the crops of one video or image.

    Args:
        crops: Dictionaries with `frame`, `face` (0 = largest of its frame), `track` and `box`.
        which: "largest": the largest face of each frame, whoever it is. "main": one person only, whose track
            has the largest sum of face areas, so that neither a passer-by close to the camera nor a
            change of order between two people mixes them. "all": every face.

    Returns:
        The chosen ones, in the order given.
    """
    if which == "largest":
        return _first_of_each_frame(crops)
    if which == "main" and crops:
        area: dict[int, float] = defaultdict(float)
        for crop in crops:
            x0, y0, x1, y1 = crop["box"]
            area[crop["track"]] += (x1 - x0) * (y1 - y0)
        main = max(area, key=lambda track: (area[track], -track))
        # A still image has no tracks (all are -1), so there the largest face is meant.
        return _first_of_each_frame([crop for crop in crops if crop["track"] == main])
    return list(crops)


def forged(crops: list[dict[str, Any]], masks: Masks) -> list[dict[str, Any]]:
    """The crops of the people who were forged, according to the masks.

    A track is forged if, over the frames in which it is seen and something is masked, its boxes hold at least
    half of the masked area on average.

    Args:
        crops: As for `keep`, with `time` in seconds.
        masks: The masks of the same video.

    Returns:
        These crops; of each frame the one that holds most of the mask comes first.
    """
    shares = [masks.share(crop["time"], crop["box"]) for crop in crops]
    # Without tracks (still images) every face stands for itself.
    people = [crop["track"] if crop["track"] >= 0 else -1 - n for n, crop in enumerate(crops)]
    seen: dict[int, list[float]] = defaultdict(list)
    for person, share in zip(people, shares, strict=True):
        if share is not None:
            seen[person].append(share)
    chosen = {person for person, values in seen.items() if np.mean(values) >= _FORGED_SHARE}
    order = sorted(range(len(crops)), key=lambda n: (crops[n]["frame"], -(shares[n] or 0.0)))
    return [crops[n] for n in order if people[n] in chosen]


@dataclass(frozen=True)
class Masks:
    """What was forged in a video, at some times of it.

    Attributes:
        times: Seconds, ascending.
        masks: bool `(h, w)` each, reduced in size, true where the frame was forged.
        scale: Size of the video's frames relative to that of the masks: across and down.
    """

    times: np.ndarray
    masks: list[np.ndarray]
    scale: tuple[float, float]

    @classmethod
    def read(cls, path: Path, times: Sequence[float], size: tuple[int, int]) -> Masks:
        """Decode a video of masks (bright where forged) as FaceForensics++ has them, or the mask of an image.

        Args:
            path: The video or image.
            times: The times at which masks are wanted, in seconds.
            size: Width and height of the frames of the video that was forged.

        Raises:
            MediaError: It cannot be decoded, or nothing is masked in any of these frames.
        """
        found, masks = [], []
        still = media_kind(path) == "image"
        for frame in (
            [Frame(0, 0.0, read_image(path))] if still else iter_frames(path, times=times, threads=1)
        ):
            height, width = frame.image.shape[:2]
            factor = min(1.0, _MASK_SIDE / max(height, width))
            small = (max(1, round(width * factor)), max(1, round(height * factor)))
            masks.append(cv2.resize(frame.image.max(axis=2), small, interpolation=cv2.INTER_AREA) > _BRIGHT)
            found.append(frame.time)
        if not any(mask.any() for mask in masks):
            raise MediaError(f"{path}: nothing is masked in the frames looked at")
        height, width = masks[0].shape
        return cls(np.array(found), masks, (size[0] / width, size[1] / height))

    def share(self, time: float, box: Sequence[float]) -> float | None:
        """Share of the masked area in a box (pixels of the video) at a time; `None` if nothing is masked."""
        mask = self.masks[int(np.abs(self.times - time).argmin())]
        whole = int(np.count_nonzero(mask))
        if not whole:
            return None
        (across, down), (x0, y0, x1, y1) = self.scale, box
        left, top = max(0, round(x0 / across)), max(0, round(y0 / down))
        inside = mask[top : max(0, round(y1 / down)), left : max(0, round(x1 / across))]
        return int(np.count_nonzero(inside)) / whole


def _first_of_each_frame(crops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    frames: set[int] = set()
    first = []
    for crop in crops:
        if crop["frame"] not in frames:
            frames.add(crop["frame"])
            first.append(crop)
    return first
