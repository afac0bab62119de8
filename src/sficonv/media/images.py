"""Reading images that people really have: any pixel format, large metadata, cut files."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from sficonv.errors import MediaError
from sficonv.media import png
from sficonv.media.kinds import is_mjpeg, media_format
from sficonv.media.tiff import ORIENTATION, first_directory, raw_error, upright_bytes

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
_STRIP = 256  # rows brought from 16 to 8 bits at a time
_HEAD = 65536
_WHOLE = 0.999
MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class Picture:
    """An image, and what a reader should know about it.

    Attributes:
        pixels: uint8 `(H, W, 3)`, RGB, upright.
        notes: In plain words, what was left out or may mislead: metadata that was not read, missing rows,
            high dynamic range.
        damage: What is wrong with the file, "" for a sound one. The pixels are those that could be decoded.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()
    damage: str = ""


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


def to_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of a Pillow image: uint8 `(H, W, 3)`, upright, on white."""
    image.load()  # may find the orientation, or apply it
    orientation = image.getexif().get(ORIENTATION, 1)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _upright(_to_8_bits(np.asarray(image)[..., None])[0], orientation)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return _upright(np.array(image.convert("RGB")), orientation)


def check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse what is too large to be decoded.

    Raises:
        MediaError: More pixels than allowed.
    """
    if width * height > max_pixels:
        raise MediaError(
            f"{path}: {width} x {height} pixels is more than the limit of {max_pixels:,}; make it "
            "smaller, or raise max_pixels (scan --max-pixels, serve --max-megapixels)"
        )


def _decode(path: Path, name: str, max_pixels: int) -> Picture:
    if name == "heic":
        _register_heif(path)
    if name == "png":
        data, notes = png.only_pixels(path)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            check_size(path, *image.size, max_pixels)
            if data[24] == 16:
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                orientation = image.getexif().get(ORIENTATION, 1)
                del data
                return _deep(pixels, orientation, notes)
            return Picture(to_rgb(image), tuple(notes))
    if name == "tiff" and (tags := first_directory(path)) and _is_deep(tags):
        check_size(path, tags.get(256, [0])[0], tags.get(257, [0])[0], max_pixels)
        orientation = tags.get(ORIENTATION, [1])[0]
        encoded = np.frombuffer(upright_bytes(path) if orientation > 1 else path.read_bytes(), np.uint8)
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if pixels is not None and pixels.dtype != np.uint8:
            return _deep(pixels, orientation, [])
    with Image.open(path, formats=(_FORMATS[name],)) as image:
        check_size(path, *image.size, max_pixels)
        return Picture(to_rgb(image), tuple(_notes_of(path, name)))


def _register_heif(path: Path) -> None:
    """HEIC is read through Pillow, by libheif."""
    try:
        from pi_heif import register_heif_opener
    except ImportError as error:
        raise MediaError(
            f"{path}: HEIC images need the package pi-heif (pip install pi-heif); or save the image as JPEG"
        ) from error
    register_heif_opener()


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


def _is_deep(tags: dict[int, list[int]]) -> bool:
    return max(tags.get(258, [1])) > 8 or 3 in tags.get(339, [1])  # bits, kind of number (3: float)


def _deep(pixels: np.ndarray | None, orientation: int, notes: list[str]) -> Picture:
    """What OpenCV decoded with more than 8 bits: it keeps all of them, where Pillow drops the low ones."""
    if pixels is None:
        raise ValueError("its pixels cannot be decoded")
    values, more = _to_8_bits(pixels.reshape(*pixels.shape[:2], -1), bgr=True)
    return Picture(_upright(values, orientation), (*notes, *more))


def _to_8_bits(values: np.ndarray, *, bgr: bool = False) -> tuple[np.ndarray, list[str]]:
    """Numbers `(H, W, C)` of any range as RGB: grey or colour, with or without alpha, never cut off at 255.

    The sensors of cameras and microscopes give 10, 12 or 14 bits, which many programs store in 16 as they
    are; float pixels reach up to 1, 255 or 65535.
    """
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 65535:
        raise ValueError(f"pixels from {low:g} to {high:g}; save the image with 8 or 16 bits")
    notes = []
    if values.dtype.kind == "f":
        full = next(limit for limit in (1, 255, 65535) if high <= limit)
    else:
        bits = next(bits for bits in (10, 12, 14, 16) if high < 2**bits) if high >= 256 else 16
        full = 2**bits - 1
        if bits < 16:
            notes.append(f"its pixels use {bits} of 16 bits: brightened to show them")
    height, width, channels = values.shape
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        strip = values[top : top + _STRIP].astype(np.float32) * np.float32(255 / full)
        colour = strip[..., :1] if channels < 3 else strip[..., :3]
        if channels in (2, 4):
            alpha = strip[..., -1:] / 255
            colour = colour * alpha + 255 * (1 - alpha)
        out[top : top + _STRIP] = np.rint(colour[..., ::-1] if bgr else colour)
    return out, notes


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as its EXIF orientation says that it is to be shown."""
    turns = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}.get(orientation, 0)
    turned = np.rot90(pixels, turns) if turns else pixels
    return np.ascontiguousarray(turned[:, ::-1] if orientation in (2, 4, 5, 7) else turned)


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
    with Image.open(io.BytesIO(path.read_bytes() + b"\xff\xd9"), formats=("JPEG",)) as image:
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
