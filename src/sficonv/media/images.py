"""Reading images that people really have, and telling images from videos by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageOps

from sficonv.errors import MediaError

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jpe jfif png webp bmp tif tiff avif jp2 ppm pgm heic heif".split()  # noqa: SIM905
)
VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "mp4 m4v mov avi mkv webm flv wmv mpg mpeg mts m2ts ts 3gp ogv gif".split()  # noqa: SIM905
)

# Only formats whose decoders run no foreign program (Pillow hands EPS to Ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
_PNG = b"\x89PNG\r\n\x1a\n"
_IMAGE_MAGIC = (
    b"\xff\xd8\xff",
    _PNG,
    b"BM",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_VIDEO_MAGIC = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF (WMV)
    b"OggS",
    b"\0\0\x01\xba",  # MPEG program stream
    b"\0\0\x01\xb3",  # MPEG-1/2 video
)
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
_HEIC_BRANDS = (b"heic", b"heix", b"heif", b"mif1", b"msf1", b"hevc", b"heim", b"heis")
_HEADER_SIZE = 1024


def read_image(path: str | Path, *, max_pixels: int = 64_000_000) -> np.ndarray:
    """Read any ordinary image as 8-bit RGB, upright.

    The EXIF orientation is applied; grey, palette and CMYK become RGB; 16-bit values are scaled to
    8 bits; transparent pixels are laid on white; of an animation the first frame is read. Colour
    profiles are ignored, as in the data that detectors are trained on.

    Args:
        path: JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, JPEG 2000 or PPM file, whatever its name.
        max_pixels: Larger images are refused from their header, before anything is decoded. (Pillow's own
            limit, `PIL.Image.MAX_IMAGE_PIXELS`, stands behind it.)

    Returns:
        uint8 array `(H, W, 3)`, RGB.

    Raises:
        MediaError: Missing, empty, truncated, too large, or not an image.

    Example:
        >>> from pathlib import Path; from PIL import Image; import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "grey.png"
        >>> Image.new("L", (4, 2), 128).save(file)
        >>> read_image(file).shape
        (2, 4, 3)
    """
    path = Path(path)
    header = _header(path)
    if _kind(path, header) == "video" and not header.startswith(b"GIF8"):
        raise MediaError(f"{path}: a video, not an image")
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise MediaError(
                    f"{path}: {width} x {height} pixels is more than the limit of {max_pixels:,}; "
                    "make it smaller or raise max_pixels"
                )
            image.load()
            if _is_16_bit_png(header):
                return _read_16_bit_png(path, image)
            return to_rgb(image)
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path}: too many pixels to decode safely ({error})") from error
    except Exception as error:  # decoders raise anything at all on damaged files
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
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


def media_kind(path: str | Path) -> Literal["image", "video"]:
    """Say whether a file is an image or a video, from its first bytes and never from its name.

    An animated GIF counts as a video. A container without a video stream (sound only) still says
    "video" here; decoding it raises.

    Args:
        path: Any file.

    Raises:
        MediaError: Missing, a folder, unreadable, empty, or neither image nor video.

    Example:
        >>> from pathlib import Path; from PIL import Image; import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "photo.mp4"
        >>> Image.new("RGB", (4, 2)).save(file, "png")
        >>> media_kind(file)
        'image'
    """
    path = Path(path)
    header = _header(path)
    if header.startswith(b"GIF8") and _is_animated(path):
        return "video"
    return _kind(path, header)


def iter_media(paths: Iterable[str | Path]) -> list[Path]:
    """List the media files among files and folders.

    Args:
        paths: Files and folders. A folder is searched to its end, links to folders included, in sorted
            order, for files whose suffix is that of an image or video; hidden files are skipped. A file
            named explicitly is always kept, even if it does not exist, and so is a folder below that
            cannot be read: what is wrong with it is said when it is read.

    Returns:
        The files, in the order given, each once.

    Raises:
        MediaError: One of the folders given cannot be read.

    Example:
        >>> iter_media(["portrait.any"])
        [PosixPath('portrait.any')]
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        files = walk_media(path) if is_folder(path) else [path]
        found.update(dict.fromkeys(files))
    return list(found)


def walk_media(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that look like media by suffix, sorted, each real folder once.

    A folder below it that cannot be read is yielded itself: reading it says what is wrong.

    Raises:
        MediaError: The folder itself cannot be read.
    """
    yield from _walk(_entries(folder), {folder.resolve()})


def _walk(entries: list[Path], seen: set[Path]) -> Iterator[Path]:
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not is_folder(entry):
            if entry.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                yield entry
            continue
        real = entry.resolve()
        if real in seen:  # a link back to a parent folder, or to one that has been listed
            continue
        seen.add(real)
        try:
            below = _entries(entry)
        except MediaError:
            yield entry
        else:
            yield from _walk(below, seen)


def is_folder(path: Path) -> bool:
    """Whether this is a folder; what may not even be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise MediaError(f"{folder}: the folder cannot be read ({error})") from error


def _header(path: Path) -> bytes:
    try:
        if is_folder(path):
            _entries(path)
        if path.exists() and not path.is_file():  # a pipe would wait for ever
            raise MediaError(f"{path}: is a folder or a device, not a file")
        with path.open("rb") as file:
            header = file.read(_HEADER_SIZE)
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{path}: cannot be opened ({error})") from error
    if not header:
        raise MediaError(f"{path}: the file is empty")
    return header


def _kind(path: Path, header: bytes) -> Literal["image", "video"]:
    if not any(header):
        raise MediaError(f"{path}: the file begins with zeros only (an interrupted download?)")
    if _is_text(header):
        start = header[:30].decode("utf-8", "ignore").strip()
        raise MediaError(f"{path}: the file is text ({start!r} ...), neither an image nor a video")
    if header[4:8] == b"ftyp" and b"avif" not in header[8:64] and header[8:12] in _HEIC_BRANDS:
        raise MediaError(f"{path}: HEIC/HEIF images are not supported; save the image as JPEG or PNG")
    if _is_image(header):
        return "image"
    if _is_video(header):
        return "video"
    raise MediaError(f"{path}: neither an image nor a video (unknown content {header[:8].hex(' ')} ...)")


def _is_image(header: bytes) -> bool:
    return (
        header.startswith(_IMAGE_MAGIC)
        or (header[:4] == b"RIFF" and header[8:12] == b"WEBP")
        or (header[4:8] == b"ftyp" and b"avif" in header[8:64])
        or (header[:2] in (b"P5", b"P6") and header[2:3].isspace())
    )


def _is_video(header: bytes) -> bool:
    return (
        header.startswith(_VIDEO_MAGIC)
        or header[4:8] in _MP4_BOXES
        or (header[:4] == b"RIFF" and header[8:12] == b"AVI ")
        or header[0:377:188] == b"GGG"  # MPEG transport stream: a sync byte in every packet
        or header[4:389:192] == b"GGG"  # the same as cameras write it
    )


def _is_text(header: bytes) -> bool:
    try:
        # A character may be cut in two where the reading stopped.
        text = header.decode("utf-8", "strict" if len(header) < _HEADER_SIZE else "ignore")
    except UnicodeDecodeError:
        return False
    cut = len(header) - len(text.encode())
    return cut < 4 and all(c.isprintable() or c.isspace() for c in text)


def _is_animated(path: Path) -> bool:
    try:
        with Image.open(path, formats=("GIF",)) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # damaged: reading it will say so
        return False


def _is_16_bit_png(header: bytes) -> bool:
    return header[12:16] == b"IHDR" and header[24] == 16 and header[25] in (2, 4, 6)


def _read_16_bit_png(path: Path, image: Image.Image) -> np.ndarray:
    """16-bit colour and alpha PNGs: Pillow drops the low byte, so OpenCV decodes and we round."""
    data = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if data is None or data.dtype != np.uint16 or data.shape[:2] != (image.height, image.width):
        return to_rgb(image)
    data = np.round(data / 257.0)
    if data.ndim == 3 and data.shape[2] == 4:
        alpha = data[..., 3:] / 255.0
        data = np.round(data[..., :3] * alpha + 255.0 * (1 - alpha))
    data = np.repeat(data[..., None], 3, axis=2) if data.ndim == 2 else data[..., ::-1]
    upright = ImageOps.exif_transpose(_with_exif(Image.fromarray(data.astype(np.uint8)), image))
    return np.array(upright)


def _with_exif(image: Image.Image, source: Image.Image) -> Image.Image:
    image.getexif().update(source.getexif())
    return image


def to_rgb(image: Image.Image) -> np.ndarray:
    """An image of Pillow as `read_image` gives it: RGB `uint8` `(H, W, 3)`, upright, on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _from_deep_grey(image: Image.Image) -> np.ndarray:
    """16-bit grey to 8 bits over the full range, never by cutting off at 255."""
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if low < 0 or high > 65535 or image.mode == "F":
        raise ValueError(f"{image.mode} pixels from {low:g} to {high:g}; save the image with 8 or 16 bits")
    grey = np.round(values / 257.0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
