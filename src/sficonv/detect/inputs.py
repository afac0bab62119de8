"""What people hand to a detector (paths, images, arrays, tensors, lists of them) as files to read."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from PIL import Image

from sficonv.detect.reading import SourceFile, find_files
from sficonv.errors import EMPTY_PATH

if TYPE_CHECKING:
    from torch import Tensor

Source: TypeAlias = Union[str, Path, Image.Image, np.ndarray, "Tensor"]
Sources: TypeAlias = Source | Iterable[Source]

SHAPES = "RGB images (H, W, 3) or (3, H, W), or a batch (N, H, W, 3) or (N, 3, H, W)"


def sources_of(given: Sources) -> Iterator[SourceFile]:
    """Everything that `given` stands for: folders are searched, batches taken apart.

    Args:
        given: A path, an image, a batch of images, or any iterable of these, such as a list or `Path.glob()`.

    Raises:
        ValueError: If an array is no image, see `images_of`, or a path is empty.
        TypeError: If it is something else altogether.

    Example:
        >>> [source.path.name for source in sources_of(np.zeros((2, 8, 8, 3), np.uint8))]
        ['image-0', 'image-1']
    """
    seen: set[Path] = set()
    number = 0
    for each in given if _are_several(given) else [given]:  # type: ignore[union-attr]
        if isinstance(each, str | os.PathLike):
            if not os.fspath(each):
                raise ValueError(EMPTY_PATH)
            each = Path(each)
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
    if isinstance(given, str | os.PathLike):
        from sficonv.media.kinds import is_folder

        return not is_folder(Path(given))
    return not _are_several(given) and getattr(given, "ndim", 3) < 4


def _are_several(given: Any) -> bool:
    """Whether `given` is a collection of sources: what is iterable, but for what is one source or none."""
    if isinstance(given, np.ndarray):
        return given.dtype.kind == "U" and given.ndim == 1  # names of files
    alone = (str, bytes, os.PathLike, Image.Image, Mapping, io.IOBase)
    return isinstance(given, Iterable) and not isinstance(given, alone) and not hasattr(given, "detach")


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
    if isinstance(given, str | os.PathLike):
        raise TypeError(
            f"{str(given)!r} is a path: scores takes faces that are cut out already; scan judges files"
        )
    array = _array_of(given)
    if array is None:
        raise TypeError(
            f"a detector judges paths, images of Pillow, arrays and tensors, not {type(given).__name__}"
        )
    batch = array[None] if array.ndim == 3 else array
    if batch.ndim != 4 or 3 not in (batch.shape[1], batch.shape[3]) or not all(batch.shape[1:]):
        raise ValueError(f"images must be RGB, uint8 or floats in [0, 1]: {SHAPES}, got {_of(array)}")
    if batch.shape[3] != 3:
        batch = batch.transpose(0, 2, 3, 1)
    return list(_to_8_bit(batch, _of(array)))


def _array_of(given: Any) -> np.ndarray | None:
    """The values of an array or a tensor; None of anything else."""
    if isinstance(given, np.ndarray):
        return given
    if not (hasattr(given, "detach") and hasattr(given, "is_meta")):  # no tensor, asked without torch
        return None
    if given.is_meta:
        raise ValueError("a tensor on the device 'meta' holds no values")
    tensor = given.detach().cpu().to_dense()
    values: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # bfloat16, too
    return values


def _to_8_bit(batch: np.ndarray, given: str) -> np.ndarray:
    if batch.dtype == np.uint8:
        return batch
    if not np.issubdtype(batch.dtype, np.floating):
        hint = ": divide 16 bits by 65535" if batch.dtype == np.uint16 else ""
        raise ValueError(f"images must be RGB uint8, or floats in [0, 1], got {given}{hint}")
    if batch.size and not (batch.min() >= 0 and batch.max() <= 1):
        raise ValueError(
            f"images of floating point must lie in [0, 1], got values from {batch.min():.3g} to "
            f"{batch.max():.3g}: pass them as they are before any normalisation"
        )
    return (batch * 255).round().astype(np.uint8)


def _of(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
