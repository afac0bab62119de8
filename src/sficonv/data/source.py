"""What a data set consists of before anything is decoded: its videos and images."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

_LONGEST_COMPONENT = 200  # bytes; file systems end at 255, and suffix and number are still to come


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


def with_clean_texts(item: SourceItem) -> SourceItem:
    """The item with texts that a manifest can hold and a name that every file system takes.

    File names may hold bytes that are not UTF-8 (Python shows them as lone surrogates), backslashes, or
    fill all 255 bytes, so that no room is left for the number of the crop. `path` stays as it is.
    """
    return replace(
        item,
        dataset=clean_text(item.dataset),
        method=clean_text(item.method),
        video_id=clean_text(item.video_id),
        source_ids=tuple(map(clean_text, item.source_ids)),
        name="/".join(map(_clean_component, item.name.split("/"))),
    )


def clean_text(text: str) -> str:
    r"""Valid UTF-8: what is not becomes an escape such as `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


def text_hash(text: str) -> str:
    """SHA-256 of any text in hexadecimal digits; of valid texts that of their UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _clean_component(component: str) -> str:
    encoded = clean_text(component).encode()
    if b"\\" not in encoded and len(encoded) <= _LONGEST_COMPONENT and component not in (".", ".."):
        return component
    # 45 characters of at most 4 bytes stay below the limit; the hash keeps apart what is cut off.
    return re.sub(r"[^\w.-]", "_", component)[:45] + "-" + text_hash(component)[:8]


@dataclass(frozen=True)
class Source:
    """What was found below a root: the items, and what a person should know about how it was read."""

    layout: str
    dataset: str
    items: list[SourceItem]
    notes: list[str]
