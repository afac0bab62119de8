"""Decoding the pages of TIFF files: by Pillow, and by OpenCV where they have more than 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sficonv.errors import MediaError
from sficonv.media.pixels import ORIENTATION, Picture, check_size, deep_picture, to_rgb
from sficonv.media.tiff import Page, alone

_WIDTH, _HEIGHT, _BITS, _WHITE_OR_BLACK, _SAMPLES, _PLANES, _SAMPLE_FORMAT = 256, 257, 258, 262, 277, 284, 339


def read_pages(path: Path, pages: Sequence[Page], max_pixels: int) -> Iterator[Picture]:
    """The pictures of some pages, one after the other.

    Args:
        path: A TIFF file.
        pages: Of `sficonv.media.tiff.pages`.
        max_pixels: Larger pages are refused before anything is decoded.

    Raises:
        MediaError: A page is too large, or stored as no decoder here reads it rightly.
        Exception: Whatever decoders raise on a damaged file.
    """
    with ExitStack() as stack:
        image: Image.Image | None = None
        for page in pages:
            check_size(path, page.tags.get(_WIDTH, [0])[0], page.tags.get(_HEIGHT, [0])[0], max_pixels)
            if (picture := _deep(path, page)) is not None:
                yield picture
                continue
            image = image or stack.enter_context(Image.open(path, formats=("TIFF",)))
            image.seek(page.number)
            check_size(path, *image.size, max_pixels)
            yield Picture(to_rgb(image.copy() if len(pages) > 1 else image))


def _deep(path: Path, page: Page) -> Picture | None:
    """A page with more than 8 bits, or of signed or floating numbers; `None` for any other."""
    tags = page.tags
    if max(tags.get(_BITS, [1])) <= 8 and not {2, 3} & set(tags.get(_SAMPLE_FORMAT, [1])):
        return None
    if tags.get(_PLANES) == [2] and tags.get(_SAMPLES, [1])[0] > 1:
        raise MediaError(
            f"{path}: more than 8 bits stored colour by colour, which decoders read wrongly; save it with "
            "8 bits, or pixel by pixel"
        )
    pixels = cv2.imdecode(alone(path, page), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype == np.uint8:
        return None
    inverted = tags.get(_WHITE_OR_BLACK) == [0]
    return deep_picture(pixels, tags.get(ORIENTATION, [1])[0], inverted=inverted)
