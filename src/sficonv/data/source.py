"""What a data set consists of before anything is decoded: its videos and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class SourceItem:
    """One source video or image.

    Attributes:
        path: The file.
        label: 0 = real, 1 = fake.
        dataset: Name of the data set.
        method: Manipulation, "real" for real.
        compression: "raw", "c23", "c40", or "" where it is not known.
        video_id: Unique over the data set; images of one video share it.
        source_ids: Identities seen in it.
        split: "train", "val", "test" or "".
        kind: By its suffix; what it really is shows when it is read.
        name: Where its crops go, relative and without suffix; unique.
        frame: For an image: its number in the video.
    """

    path: Path
    label: int
    dataset: str
    method: str
    compression: str
    video_id: str
    source_ids: tuple[str, ...]
    split: str
    kind: Literal["image", "video"]
    name: str = ""
    frame: int = 0


@dataclass(frozen=True)
class Source:
    """What was found below a root: the items, and what a person should know about how it was read."""

    layout: str
    dataset: str
    items: list[SourceItem]
    notes: list[str]
