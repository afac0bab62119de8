"""Pictures that move: animated WebP, PNG and AVIF, and the pages of a TIFF file, read as a video is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from sficonv.errors import MediaError
from sficonv.media.images import check_size, to_rgb
from sficonv.media.kinds import full_pages

_FORMATS = ("PNG", "WEBP", "AVIF", "TIFF")
_PAGE = 1.0  # seconds that a page is shown
_SHORTEST, _INSTEAD = 0.011, 0.1  # as browsers show what has no time of its own
_MOST = 20_000
_MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class _Picture:
    time: float
    pixels: np.ndarray


class AnimationReader:
    """The pictures of one file in order; the same questions and answers as of `sficonv.media.reader.Reader`.

    Args:
        path: An animated WebP, PNG or AVIF file, or a TIFF file with several pages.

    Raises:
        MediaError: It cannot be opened, or its pictures are too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.enough = False
        self.reached = 0.0
        self.ends_early = False
        self._damage = ""
        self._frames = self._decode()
        times = list(_times(path))
        self.count = max(1, len(times) - 1)
        self.duration = times[-1]
        steps = [after - before for before, after in pairwise(times)]
        self.fps = 1 / (sum(steps) / len(steps)) if steps else 1 / _PAGE

    def read(self) -> _Picture | None:
        """The next picture, `None` at the end."""
        return next(self._frames, None)

    def pass_over(self, until: float) -> None:
        """Nothing can be left out: each picture is painted over the one before."""

    def jump(self, target: float, *, position: float) -> bool:
        """Never: there is no way but from the start."""
        return False

    def time_of(self, frame: _Picture) -> float:
        """Seconds since the first picture."""
        return frame.time

    def size_of(self, frame: _Picture) -> tuple[int, int]:
        """Width and height."""
        return frame.pixels.shape[1], frame.pixels.shape[0]

    def picture(self, frame: _Picture) -> np.ndarray:
        """The pixels: uint8 `(H, W, 3)`, RGB."""
        return frame.pixels

    def rotation_of(self, frame: _Picture) -> int:
        """Always 0: pictures come upright."""
        return 0

    def notes(self, frame: _Picture) -> list[str]:
        """There is nothing to say."""
        return []

    def raise_if_damaged(self) -> None:
        """Say how far the decoding got if that is not as far as it should have."""
        if self._damage:
            raise MediaError(
                f"{self.path}: damaged or truncated: decoded {self.reached:.1f} s ({self._damage})"
            )

    def _decode(self) -> Iterator[_Picture]:
        try:
            with _opened(self.path) as image:
                for _ in _shown(image):
                    check_size(self.path, *image.size, _MAX_PIXELS)
                    pixels = to_rgb(image.copy() if image.format == "TIFF" else image)
                    yield _Picture(self.reached, pixels)
                    self.reached += _seconds(image)
        except MediaError:
            raise
        except Exception as error:  # decoders raise anything at all on damaged files
            self._damage = (str(error) or type(error).__name__).splitlines()[0][:200]


def _times(path: Path) -> Iterator[float]:
    """When each picture begins and the last one ends; less of them where the file is damaged."""
    time = 0.0
    yield time
    try:
        with _opened(path) as image:
            for _ in _shown(image):
                check_size(path, *image.size, _MAX_PIXELS)
                if image.format != "TIFF":
                    image.load()
                time += _seconds(image)
                yield time
    except MediaError:
        raise
    except Exception:  # reading the pictures will say so
        return


def _opened(path: Path) -> Image.Image:
    return Image.open(path, formats=_FORMATS)


def _shown(image: Image.Image) -> Iterator[object]:
    if image.format == "TIFF":
        for page in full_pages(image)[:_MOST]:
            image.seek(page)
            yield page
        return
    yield from (frame for _, frame in zip(range(_MOST), ImageSequence.Iterator(image), strict=False))


def _seconds(image: Image.Image) -> float:
    if image.format == "TIFF":
        return _PAGE
    seconds = float(image.info.get("duration", 0) or 0) / 1000
    return seconds if seconds >= _SHORTEST else _INSTEAD
