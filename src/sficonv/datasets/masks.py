"""Where a face was forged: masks beside the crops, for detectors that learn to find the forged pixels.

A manifest may have a column `mask`: the path, relative to its folder, of a grey image that says how much of
each pixel is pasted (0: none of it, 255: all), or empty text. A fake without a mask counts as forged
everywhere; a real face is forged nowhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.tv_tensors import Mask

from sficonv.datasets.crops import FaceCrops, Key, Transform, apply_transform, read_crop, to_tensor
from sficonv.errors import DataError

MASK = "mask"


def read_mask(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """Decode a mask file to uint8 `(H, W)`, brought to `size` where it has another one.

    Args:
        path: A grey image.
        size: Height and width of the crop.

    Raises:
        DataError: If it is missing or cannot be decoded.
    """
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        why = "cannot be decoded" if Path(path).is_file() else "is missing"
        raise DataError(f"{path}: this mask of a face crop {why}; the column `mask` of the manifest names it")
    if mask.shape == size:
        return mask
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)


class MaskedCrops(FaceCrops):
    """`FaceCrops` with masks: items are `(image, label, index, mask)`, the mask uint8 `(1, H, W)`.

    Args:
        df, root, transform: See `FaceCrops`; the column `mask` is used where there is one.

    Example:
        >>> crops = MaskedCrops(read_manifest("prepared"), "prepared")  # doctest: +SKIP
        >>> image, label, index, mask = crops[0]                        # doctest: +SKIP
    """

    def __init__(self, df: pd.DataFrame, root: str | Path, transform: Transform | None = None) -> None:
        super().__init__(df, root, transform)
        self.masks = mask_files(df, Path(root))

    def __getitem__(self, key: Key) -> Any:
        index, draw = key if isinstance(key, tuple) else (key, None)
        image, label = to_tensor(read_crop(self.paths[index])), self.labels[index]
        size = (image.shape[1], image.shape[2])
        mask = mask_or_label(self.masks[index] if label else "", size, forged=bool(label))
        image, mask = apply_transform(self.transform, (image, Mask(mask)), draw)
        return image, label, index, mask.as_subclass(Tensor)


def mask_files(df: pd.DataFrame, root: Path) -> list[str]:
    """The path of each row's mask file, "" where it has none."""
    if MASK not in df.columns:
        return [""] * len(df)
    return [str(root / path) if path else "" for path in df[MASK].fillna("")]


def mask_or_label(path: str, size: tuple[int, int], *, forged: bool) -> Tensor:
    """The mask file at `path` as uint8 `(1, H, W)`; without one, all of the face or nothing of it."""
    if path:
        return torch.from_numpy(read_mask(path, size))[None]
    return torch.full((1, *size), 255 if forged else 0, dtype=torch.uint8)
