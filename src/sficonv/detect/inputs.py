"""What people hand to a detector (paths, images, arrays, tensors, lists of them) as files to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from PIL import Image

from sficonv.detect.reading import SourceFile, find_files

if TYPE_CHECKING:
    from torch import Tensor

Source: TypeAlias = Union[str, Path, Image.Image, np.ndarray, "Tensor"]
Sources: TypeAlias = Source | Sequence[Source]

SHAPES = "RGB images (H, W, 3) or (3, H, W), or a batch (N, H, W, 3) or (N, 3, H, W)"


def sources_of(given: Sources) -> Iterator[SourceFile]:
    """Everything that `given` stands for: folders are searched, batches taken apart.

    Args:
        given: A path, an image, a batch of images, or a list of any of them.

    Raises:
        ValueError: If an array is no image: see `images_of`.
        TypeError: If it is something else altogether.

    Example:
        >>> [source.path.name for source in sources_of(np.zeros((2, 8, 8, 3), np.uint8))]
        ['image-0', 'image-1']
    """
    seen: set[Path] = set()
    number = 0
    for each in given if isinstance(given, list | tuple) else [given]:
        if isinstance(each, str | Path):
            new = [file for file in find_files(each) if file.path not in seen]  # named twice, judged once
            seen.update(file.path for file in new)
            yield from new
            continue
        for image in images_of(each):
            name = "image" if is_one(given) else f"image-{number}"
            number += 1
            yield SourceFile(Path(name), kind="image", image=image)


def is_one(given: Sources) -> bool:
    """Whether `given` is one file or one image, so that its answer is one result."""
    if isinstance(given, str | Path):
        from sficonv.media.kinds import is_folder

        return not is_folder(Path(given))
    return not isinstance(given, list | tuple) and getattr(given, "ndim", 3) < 4


def images_of(given: Any) -> list[np.ndarray]:
    """An image or a batch of images that is in memory, as a list of RGB `uint8` `(H, W, 3)`.

    Args:
        given: An image of Pillow of any mode, or an array or tensor of a shape in `SHAPES`, `uint8` or
            floating point in [0, 1].

    Raises:
        ValueError: If the shape, the type or the values are others; it names them as they were given.
        TypeError: If it is neither an image nor an array.

    Example:
        >>> images_of(np.ones((3, 8, 10), np.float32))[0].shape
        (8, 10, 3)
    """
    if isinstance(given, Image.Image):
        from sficonv.media.pixels import to_rgb

        return [to_rgb(given)]
    if hasattr(given, "detach"):  # a tensor, without importing torch to ask
        given = given.detach().cpu().numpy()
    if not isinstance(given, np.ndarray):
        raise TypeError(
            f"a detector judges paths, images of Pillow, arrays and tensors, not {type(given).__name__}"
        )
    batch = given[None] if given.ndim == 3 else given
    if batch.ndim != 4 or 3 not in (batch.shape[1], batch.shape[3]) or not all(batch.shape[1:]):
        raise ValueError(f"images must be RGB, uint8 or floats in [0, 1]: {SHAPES}, got {_of(given)}")
    if batch.shape[3] != 3:
        batch = batch.transpose(0, 2, 3, 1)
    return list(_to_8_bit(batch))


def _to_8_bit(batch: np.ndarray) -> np.ndarray:
    if batch.dtype == np.uint8:
        return batch
    if not np.issubdtype(batch.dtype, np.floating):
        raise ValueError(f"images must be RGB uint8, or floats in [0, 1], got {_of(batch)}")
    if batch.size and not (batch.min() >= 0 and batch.max() <= 1):
        raise ValueError(
            f"images of floating point must lie in [0, 1], got values from {batch.min():.3g} to "
            f"{batch.max():.3g}: pass them as they are before any normalisation"
        )
    return (batch * 255).round().astype(np.uint8)


def _of(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
