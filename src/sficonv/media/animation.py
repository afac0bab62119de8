"""Pictures that move (animated WebP, PNG and AVIF; the pages of TIFF and HEIC files), read as a video is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from sficonv.errors import MediaError
from sficonv.media import png, webp
from sficonv.media.heif import teach_pillow
from sficonv.media.pixels import Picture, check_size, to_rgb
from sficonv.media.tiff import pages
from sficonv.media.tiff_pages import read_pages

_FORMATS = {"png": "PNG", "webp": "WEBP", "avif": "AVIF", "heic": "HEIF"}
_PAGE = 1.0  # seconds that a page is shown
_SHORTEST, _INSTEAD = 0.011, 0.1  # as browsers show what has no time of its own
_MOST = 20_000
_MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class _Shown:
    time: float
    pixels: np.ndarray


class AnimationReader:
    """The pictures of one file in order; the same questions and answers as of `sficonv.media.reader.Reader`.

    Args:
        path: An animated WebP, PNG or AVIF file, or a TIFF or HEIC file with several pictures.
        name: Its format, as of `sficonv.media.kinds.media_format`.

    Raises:
        MediaError: It cannot be opened, or its pictures are too large.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.enough = False
        self.reached = 0.0
        self.ends_early = False
        self._name = name
        self._damage = ""
        self._notes: dict[str, None] = {}
        self._frames = self._decode()
        times = list(_times(path, name))
        self.count = max(1, len(times) - 1)
        self.duration = times[-1]
        steps = [after - before for before, after in pairwise(times)]
        self.fps = 1 / (sum(steps) / len(steps)) if steps else 1 / _PAGE

    def read(self) -> _Shown | None:
        """The next picture, `None` at the end."""
        return next(self._frames, None)

    def pass_over(self, until: float) -> None:
        """Nothing can be left out: each picture is painted over the one before."""

    def jump(self, target: float, *, position: float) -> bool:
        """Never: there is no way but from the start."""
        return False

    def time_of(self, frame: _Shown) -> float:
        """Seconds since the first picture."""
        return frame.time

    def size_of(self, frame: _Shown) -> tuple[int, int]:
        """Width and height."""
        return frame.pixels.shape[1], frame.pixels.shape[0]

    def picture(self, frame: _Shown) -> np.ndarray:
        """The pixels: uint8 `(H, W, 3)`, RGB."""
        return frame.pixels

    def rotation_of(self, frame: _Shown) -> int:
        """Always 0: pictures come upright."""
        return 0

    def notes(self, frame: _Shown) -> list[str]:
        """What a reader should know of what was read so far."""
        return list(self._notes)

    def raise_if_damaged(self) -> None:
        """Say how far the decoding got if that is not as far as it should have."""
        if self._damage:
            raise MediaError(
                f"{self.path}: damaged or truncated: decoded {self.reached:.1f} s ({self._damage})"
            )

    def _decode(self) -> Iterator[_Shown]:
        try:
            for seconds, picture in _pictures(self.path, self._name):
                self._notes.update(dict.fromkeys(picture.notes))
                self._damage = picture.damage
                yield _Shown(self.reached, picture.pixels)
                self.reached += seconds
        except MediaError:
            raise
        except Exception as error:  # decoders raise anything at all on damaged files
            self._damage = (str(error) or type(error).__name__).splitlines()[0][:200]


def _pictures(path: Path, name: str) -> Iterator[tuple[float, Picture]]:
    """Each picture, and for how many seconds it is shown."""
    if name == "tiff":
        for page in read_pages(path, pages(path), _MAX_PIXELS):
            yield _PAGE, page
        return
    file, notes, damage = _cleaned(path, name)
    for image in _images(path, file, name):
        pixels = to_rgb(image)  # which also finds out how long it is shown
        yield _seconds(image), Picture(pixels, tuple(notes), damage)


def _times(path: Path, name: str) -> Iterator[float]:
    """When each picture begins and the last one ends; less of them where the file is damaged."""
    if name == "tiff":
        yield from (number * _PAGE for number in range(len(pages(path)) + 1))
        return
    time = 0.0
    yield time
    try:
        for image in _images(path, _cleaned(path, name)[0], name):
            image.load()
            time += _seconds(image)
            yield time
    except MediaError:
        raise
    except Exception:  # reading the pictures will say so
        return


def _cleaned(path: Path, name: str) -> tuple[Path | io.BytesIO, list[str], str]:
    """The file without that over which decoders stumble, notes, and what is wrong with it."""
    if name == "png":
        data, notes = png.only_pixels(path)
        return io.BytesIO(data), notes, ""
    if name == "webp":
        data, cut = webp.whole_part(path)
        return io.BytesIO(data), [], "its end is missing" if cut else ""
    return path, [], ""


def _images(path: Path, file: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    if name == "heic":
        teach_pillow(path)
    with Image.open(file, formats=(_FORMATS[name],)) as image:
        for _, frame in zip(range(_MOST), ImageSequence.Iterator(image), strict=False):
            check_size(path, *frame.size, _MAX_PIXELS)
            yield frame


def _seconds(image: Image.Image) -> float:
    if image.format == "HEIF":
        return _PAGE
    seconds = float(image.info.get("duration", 0) or 0) / 1000
    return seconds if seconds >= _SHORTEST else _INSTEAD
