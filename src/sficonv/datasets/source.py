"""What a dataset consists of before anything is decoded: its videos and images."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

_LONGEST_COMPONENT = 200  # bytes; file systems end at 255, and suffix and number are still to come


@dataclass(frozen=True)
class SourceItem:
    """One source video or image.

    Attributes:
        path: The file.
        label: 0 = real, 1 = fake.
        dataset: Name of the dataset.
        method: Manipulation, "real" for real.
        compression: "raw", "c23", "c40", or "" where it is not known.
        video_id: Unique over the dataset; images of one video share it.
        source_ids: Identities seen in it.
        split: "train", "val", "test" or "".
        kind: By its suffix; what it really is shows when it is read.
        name: Where its crops go, relative and without suffix; unique.
        frame: For an image: its number in the video.
        official_split: The split in the lists published with the dataset, "" where there is none. `split`
            may differ, for example where everything is put into one split.
        mask: Of a fake: the video or image that shows in white where it was forged; `None`: there is none.
        members: For an archive: the names in it of the frames of one sequence, in order.
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
    official_split: str = ""
    mask: Path | None = None
    members: tuple[str, ...] = ()


def source_key(item: SourceItem, root: Path) -> str:
    """What identifies an item below the source `root`, unique and the same at every run.

    Args:
        item: An item that was read from `root`.
        root: The folder, or the list file, that was read.

    Returns:
        The path below the folder (of a list: below the list's folder; the whole path where it lies
        elsewhere), for a sequence in an archive followed by `!` and the folder inside.

    Example:
        >>> item = SourceItem(Path("d/real/a.jpg"), 0, "d", "real", "", "d/a", (), "", "image")
        >>> source_key(item, Path("d"))
        'real/a.jpg'
    """
    path = item.path.as_posix()
    for base in (root, root.parent):  # a list's paths are relative to the folder that it lies in
        prefix = base.as_posix().rstrip("/") + "/"
        if path.startswith(prefix):
            path = path.removeprefix(prefix)
            break
    return f"{path}!{item.members[0].rpartition('/')[0]}" if item.members else path


def with_clean_texts(item: SourceItem) -> SourceItem:
    """The item with texts that a manifest can hold and a name that every file system takes.

    File names may hold bytes that are not UTF-8 (Python shows them as lone surrogates), backslashes, or
    fill all 255 bytes, so that no room is left for the number of the crop. `path` stays as it is.
    """
    texts = (item.dataset, item.method, item.video_id, item.name, *item.source_ids)
    plain = all(map(str.isascii, texts)) and "\\" not in item.name and len(item.name) <= _LONGEST_COMPONENT
    if plain and not {".", ".."} & set(item.name.split("/")):
        return item  # nearly all, and there may be a hundred thousand
    return replace(
        item,
        dataset=clean_text(item.dataset),
        method=clean_text(item.method),
        video_id=clean_text(item.video_id),
        source_ids=tuple(map(clean_text, item.source_ids)),
        name="/".join(map(_clean_component, item.name.split("/"))),
    )


def with_distinct_names(items: list[SourceItem]) -> list[SourceItem]:
    """a.jpg and a.png in one folder, or a.mp4 beside a folder a: keep both, told apart by their suffix."""
    times = Counter(item.name for item in items)
    folders = {item.name.rpartition("/")[0] for item in items}  # where a video of this name puts its crops
    taken = folders | set(times)
    distinct: list[SourceItem] = []
    for item in items:
        name = item.name
        if times[name] > 1 or name in folders:
            name += item.path.suffix.replace(".", "_")
            while name in taken:
                name += "_"
            taken.add(name)
        distinct.append(replace(item, name=name))
    return distinct


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
class Expectation:
    """How many videos there should be of one kind, according to whoever published the dataset.

    Attributes:
        method: As in `SourceItem`; "real" for real.
        label: 0 = real, 1 = fake.
        compression: As in `SourceItem`.
        count: Videos (image sets: images) in the complete dataset.
        origin: Where the number comes from, in words.
        splits: How many of them are in which official split, as far as that is known.
        missing: Names known not to be there; empty where only the count is known.
    """

    method: str
    label: int
    count: int
    origin: str
    compression: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What was found below a root.

    Attributes:
        layout: How it was read.
        dataset: Name of the dataset.
        items: The videos and images.
        notes: What a person should know about how it was read.
        expected: What the complete dataset would have.
        drawn: Whether we divided it into splits ourselves, because neither lists nor folders say how.
    """

    layout: str
    dataset: str
    items: list[SourceItem]
    notes: list[str]
    expected: list[Expectation] = field(default_factory=list)
    drawn: bool = False
