"""Which crops of a manifest form a clip, and clips as a torch dataset.

A track is the frames of one face in one video, in their order; a clip is a piece of a track.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sficonv.datasets.crops import Key, Transform, apply_transform, read_crop, to_tensor


def tracks_of(df: pd.DataFrame) -> list[np.ndarray]:
    """The tracks of a manifest.

    Args:
        df: Manifest rows. Whose face a crop shows is told by `video_id` and the column `track` that `prepare`
            writes; where there is none, or it is -1, by the face's rank in its frame (`face`).

    Returns:
        The positions of each track's rows in `df`, by frame; the tracks in the order of their first rows.

    Example:
        >>> rows = {"video_id": ["a", "b", "a"], "face": 0, "frame": [9, 0, 3]}
        >>> [track.tolist() for track in tracks_of(pd.DataFrame(rows))]
        [[2, 0], [1]]
    """
    face = df["face"].to_numpy()
    track = df["track"].fillna(-1).to_numpy() if "track" in df.columns else np.full(len(df), -1)
    keys = pd.DataFrame(
        {"video": df["video_id"].to_numpy(), "track": track, "face": np.where(track < 0, face, 0)}
    )
    frame = df["frame"].to_numpy()
    found = keys.groupby(["video", "track", "face"]).indices.values()
    tracks = [rows[np.argsort(frame[rows], kind="stable")] for rows in map(np.asarray, found)]
    return sorted(tracks, key=lambda rows: int(rows.min()))


def cut_into_clips(tracks: Sequence[np.ndarray], frames: int) -> list[np.ndarray]:
    """Cut each track into as few clips of at most `frames` frames as it takes, of about equal length.

    Example:
        >>> [clip.tolist() for clip in cut_into_clips([np.arange(5)], 4)]
        [[0, 1, 2], [3, 4]]
    """
    return [clip for track in tracks for clip in np.array_split(track, -(-len(track) // frames))]


def clips_by_key(keys: Sequence[Hashable], frames: int) -> list[np.ndarray]:
    """Clips of items that are given in their order in time.

    Args:
        keys: Which track each item belongs to.
        frames: Most items of a clip.

    Returns:
        The positions of each clip's items.

    Example:
        >>> [clip.tolist() for clip in clips_by_key("aabab", 2)]
        [[0, 1], [3], [2, 4]]
    """
    tracks: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        tracks.setdefault(key, []).append(position)
    return cut_into_clips([np.array(track) for track in tracks.values()], frames)


class ClipCrops(Dataset[Any]):
    """Clips of a manifest, decoded when asked for.

    Args:
        df: Manifest rows, see `sficonv.datasets.crops.FaceCrops`.
        root: Folder that `path` is relative to.
        clips: The positions of the rows of each item, from `tracks_of` or `cut_into_clips`. Of one with more
            than `frames` rows, as many in a row are taken, from a place that is drawn.
        frames: Frames of an item; missing ones are zeros, at the end.
        transform: Maps a uint8 tensor `(t, 3, H, W)` to another one, all frames alike; it draws from torch's
            generator.

    Items are `(images, label, indices)`: uint8 `(frames, 3, H, W)`, int, and int64 `(frames,)`, the positions
    of the rows, -1 where a frame is missing. Crops of another size than the first of the clip are brought to
    it. Raises `DataError` naming the file when a crop is missing or cannot be decoded.

    Example:
        >>> df = read_manifest("prepared")                                 # doctest: +SKIP
        >>> images, label, indices = ClipCrops(df, "prepared", tracks_of(df), 8)[0]  # doctest: +SKIP
    """

    def __init__(
        self,
        df: pd.DataFrame,
        root: str | Path,
        clips: Sequence[np.ndarray],
        frames: int,
        transform: Transform | None = None,
    ) -> None:
        self.paths = [str(Path(root) / path) for path in df["path"]]
        self.labels = [int(label) for label in df["label"]]
        self.clips, self.frames, self.transform = clips, frames, transform

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> tuple[Tensor, int, Tensor]:
        item, draw = key if isinstance(key, tuple) else (key, None)
        rows = self.clips[item]
        first = 0 if draw is None else draw % max(1, len(rows) - self.frames + 1)
        rows = rows[first : first + self.frames]
        crops = [read_crop(self.paths[row]) for row in rows]
        height, width = crops[0].shape[:2]
        alike = [
            crop if crop.shape == crops[0].shape else cv2.resize(crop, (width, height)) for crop in crops
        ]
        images = apply_transform(self.transform, torch.stack([to_tensor(crop) for crop in alike]), draw)
        missing = self.frames - len(rows)
        images = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
        indices = torch.cat([torch.from_numpy(rows.astype(np.int64)), torch.full((missing,), -1)])
        return images, self.labels[rows[0]], indices
