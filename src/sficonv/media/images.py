"""Reading images that people really have: any pixel format, large metadata, cut files."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from sficonv.errors import MediaError
from sficonv.media import jpeg, png
from sficonv.media.heif import teach_pillow
from sficonv.media.kinds import is_mjpeg, media_format
from sficonv.media.pixels import Picture, check_size, deep_picture, orientation_of, to_rgb
from sficonv.media.tiff import pages, raw_error
from sficonv.media.tiff_pages import read_pages

# Only formats whose decoders run no foreign program (Pillow hands EPS to Ghostscript).
_FORMATS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "bmp": "BMP",
    "gif": "GIF",
    "tiff": "TIFF",
    "avif": "AVIF",
    "jpeg2000": "JPEG2000",
    "ppm": "PPM",
    "heic": "HEIF",
}
_HEAD = 65536
_WHOLE = 0.999
MAX_PIXELS = 64_000_000


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read any ordinary image as 8-bit RGB, upright; `read_picture` for those who want whole files only.

    Args:
        path: As of `read_picture`.
        max_pixels: As of `read_picture`.

    Returns:
        uint8 array `(H, W, 3)`, RGB.

    Raises:
        MediaError: As `read_picture`, and where a part of the picture is missing.

    Example:
        >>> from pathlib import Path; from PIL import Image; import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (4, 2), 128).save(file)
        >>> read_image(file).shape
        (2, 4, 3)
    """
    picture = read_picture(path, max_pixels=max_pixels)
    if picture.damage:
        raise MediaError(picture.damage)
    return picture.pixels


def read_picture(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read any ordinary image as 8-bit RGB, upright, with what there is to say about it.

    The EXIF orientation is applied; grey, palette and CMYK become RGB; 16-bit and float values are scaled to
    8 bits; transparent pixels are laid on white; of an animation the first frame is read. Colour profiles
    are ignored, as in the data that detectors are trained on. Of a JPEG or PNG file that was cut, what is
    there is read.

    Args:
        path: JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC, JPEG 2000 or PPM file, whatever its name.
        max_pixels: Larger images are refused from their header, before anything is decoded. (Pillow's own
            limit, `PIL.Image.MAX_IMAGE_PIXELS`, stands behind it.)

    Raises:
        MediaError: Missing, empty, damaged, too large, camera raw, or not an image.

    Example:
        >>> from pathlib import Path; from PIL import Image; import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (4, 2), 128).save(file)
        >>> read_picture(file).notes
        ()
    """
    path = Path(path)
    name = media_format(path)
    if (name not in _FORMATS and name != "raw") or is_mjpeg(path, name):
        raise MediaError(f"{path}: a video, not an image")
    if name == "raw":
        raise raw_error(path)
    try:
        return _decode(path, name, max_pixels)
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path}: too many pixels to decode safely ({error})") from error
    except Exception as error:  # decoders raise anything at all on damaged files
        with suppress(Exception):
            if (rescued := _rescued(path, name, max_pixels)) is not None:
                return rescued
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        if isinstance(error, UnidentifiedImageError):
            reason = f"its {name.upper()} header cannot be read"
        raise MediaError(f"{path}: the image is damaged or truncated ({reason})") from error


def write_png(file: Path, image: np.ndarray) -> str:
    """Write an image without loss, making the folder where it is missing.

    Args:
        file: Where.
        image: uint8, RGB `(H, W, 3)` or grey `(H, W)`.

    Returns:
        SHA-256 of the file in hexadecimal digits.

    Raises:
        OSError: It cannot be written.
    """
    ordered = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    sound, data = cv2.imencode(".png", ordered)
    if not sound:
        raise ValueError(f"{file}: PNG encoding failed")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.tobytes())
    return hashlib.sha256(data.tobytes()).hexdigest()


def _decode(path: Path, name: str, max_pixels: int) -> Picture:
    if name == "heic":
        teach_pillow(path)
    if name == "png":
        data, notes = png.only_pixels(path)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            check_size(path, *image.size, max_pixels)
            if data[24] == 16:
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                del data
                return deep_picture(pixels, orientation_of(image), notes)
            return Picture(to_rgb(image), tuple(notes))
    if name == "tiff" and (first := pages(path)[:1]):
        return next(read_pages(path, first, max_pixels))
    with Image.open(path, formats=(_FORMATS[name],)) as image:
        check_size(path, *image.size, max_pixels)
        return Picture(to_rgb(image), tuple(_notes_of(path, name)))


def _notes_of(path: Path, name: str) -> list[str]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    notes = []
    at = head.find(b"colrnclx")
    if name in ("avif", "heic") and at > 0:
        notes += png.hdr_notes(int.from_bytes(head[at + 10 : at + 12], "big"))
    if name in ("jpeg", "heic") and (b"MotionPhoto" in head or b"MicroVideo" in head):
        notes.append("a motion photo: the short video that the file holds as well was not judged")
    return notes


def _rescued(path: Path, name: str, max_pixels: int) -> Picture | None:
    """What is left of a JPEG or PNG file that was cut; `None` where that is nothing."""
    if name == "jpeg":
        return _cut_jpeg(path, max_pixels)
    if name == "png":
        found = png.rescued(path, max_pixels)
        if found is not None:
            with Image.open(io.BytesIO(found[0]), formats=("PNG",)) as image:
                return _partial(path, to_rgb(image), found[1])
    return None


def _cut_jpeg(path: Path, max_pixels: int) -> Picture | None:
    """With an end put behind it, a cut JPEG file is decoded; what is missing comes out in one colour."""
    with Image.open(io.BytesIO(jpeg.mended(path.read_bytes())), formats=("JPEG",)) as image:
        check_size(path, *image.size, max_pixels)
        image.load()
        stored = np.asarray(image.convert("RGB"))
        flat = (stored == stored[-1, -1]).all(axis=(1, 2))
        there = len(flat) - int(np.argmin(flat[::-1])) if not flat.all() else 0
        if not there:
            return None
        if image.info.get("progressive"):  # every part of the file sharpens all of the picture
            lost = "its fine detail is missing"
            return Picture(to_rgb(image), (f"the file is damaged: {lost}",), _damage(path, lost))
        return _partial(path, to_rgb(image), there / len(flat))


def _partial(path: Path, pixels: np.ndarray, share: float) -> Picture:
    if share > _WHOLE:
        note = "the file is damaged or its end is missing; the picture itself could be decoded"
        return Picture(pixels, (note,))
    missing = f"{100 * (1 - share):.0f} % of the picture is missing"
    return Picture(pixels, (f"the file is damaged: {missing}, the rest was judged",), _damage(path, missing))


def _damage(path: Path, what: str) -> str:
    return f"{path}: the image is damaged or truncated: {what}"
