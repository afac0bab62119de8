"""How to read a dataset: the options of `inspect` and `prepare` that say what the files are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LayoutName = Literal[
    "deepfakebench",
    "csv",
    "txt",
    "deeperforensics",
    "ffpp",
    "celebdf",
    "dfdcp",
    "dfdc",
    "wilddeepfake",
    "ffiw",
    "hff",
    "uadfv",
    "df40",
    "folder",
]


@dataclass(frozen=True)
class SourceOptions:
    """How the source is read.

    Args:
        layout: How files and labels are arranged. Default: recognised by the folder's contents or the list's
            file name.
        dataset: Name of the dataset in the manifest. Default: the layout's name; of a plain folder or list
            its own name.
        label: Label of every file, 0 for real and 1 for fake, in a plain folder without `real/` and `fake/`.
        video_pattern: Regular expression to find in each file name (without suffix) of a plain folder. Its
            named group `video` says which video the file belongs to; the optional groups `ids` and `frame`
            give the identities, separated by `_`, and the frame number.
        video_folders: The images in one folder are the frames of one video, in a plain folder.
        fake_label: The number that means fake in a CSV or text list. Default: 1 in a CSV list; in a text
            list the folders in its paths have to tell.
        base_folder: The folder that the paths in a list are relative to. Default: the list's own folder or
            one above it, whichever fits.
        split: Put every file into this split, whatever lists and folders say.
        split_fractions: Shares of train, val and test where neither lists nor folders assign files to
            splits. If only a validation set is missing, it is taken out of the training set.
        methods: Keep only the fakes of these manipulation methods, such as `[Deepfakes, FaceSwap]`; real
            files are always kept. Default: all.
        compressions: Keep only these compressions, such as `[c23]`. Default: all.

    Example:
        >>> SourceOptions(split="test").fractions is None
        True
    """

    layout: LayoutName | None = None
    dataset: str | None = None
    label: Literal[0, 1] | None = None
    video_pattern: str | None = None
    video_folders: bool = False
    fake_label: Literal[0, 1] | None = None
    base_folder: str | Path | None = None
    split: Literal["train", "val", "test"] | None = None
    split_fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    methods: Sequence[str] | None = None
    compressions: Sequence[str] | None = None

    @property
    def fractions(self) -> tuple[float, float, float] | None:
        """`split_fractions`, or `None` where every file goes into one split."""
        return self.split_fractions if self.split is None else None
