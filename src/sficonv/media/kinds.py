"""What a file is, by its content and never by its name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from PIL import Image

from sficonv.errors import MediaError
from sficonv.media import png, tiff, webp
from sficonv.media.heif import teach_pillow

_IMAGE_NAMES = (
    "jpg jpeg jpe jfif jpg_large png apng webp bmp dib tif tiff avif avifs heic heif heics hif jp2 j2k jpf "
    "jpx ppm pgm dng nef cr2 cr3 arw orf rw2 raf pef srw"
)
_VIDEO_NAMES = (
    "mp4 m4v mov qt avi divx mkv webm flv f4v wmv asf mpg mpeg mpeg4 m1v m2v mod tod vob mts m2ts m2t ts 3gp "
    "3g2 ogv ogm gif mxf dv ivf y4m h264 264 avc hevc h265 265 mjpeg mjpg nut rm rmvb"
)
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _IMAGE_NAMES.split())
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _VIDEO_NAMES.split())

# The parts of a file that tell its format: where, what, and the format's name.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"\0\0\0\x0cjP  ", "jpeg2000"),
    (0, b"\xff\x4f\xff\x51", "jpeg2000"),
    (8, b"WEBP", "webp"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"OggS", "ogg"),
    (0, b"\0\0\x01\xba", "mpeg"),
    (0, b"\0\0\x01\xb3", "mpegvideo"),
    (0, b"\0\0\x01\xb0", "m4v"),  # a bare stream of MPEG-4 part 2
    (0, b"DKIF", "ivf"),
    (0, b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
    (0, b"nut/multimedia container\0", "nut"),
    (0, b".RMF\0\0\0", "rm"),
    (0, b"\x1f\x07\0", "dv"),
    (0, b"\0\0\0\0\x01\xbc", "gxf"),
    (8, b"AVI ", "avi"),
    (4, b"moov", "mp4"),
    (4, b"mdat", "mp4"),
    (4, b"wide", "mp4"),
    (4, b"free", "mp4"),
    (4, b"skip", "mp4"),
    (4, b"pnot", "mp4"),
    (4, b"styp", "mp4"),
)
_IMAGES = frozenset(("jpeg", "png", "gif", "bmp", "tiff", "jpeg2000", "webp", "avif", "heic", "ppm", "raw"))
# How many pictures there are in a file that may be an animation.
_COUNTED: dict[str, Callable[[Path], int]] = {
    "png": png.animation_frames,
    "webp": webp.animation_frames,
    "tiff": lambda path: len(tiff.pages(path)),
}
_TEXT_FORMATS = ("yuv4mpegpipe", "ppm")  # begin with letters, as a text does
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"heif", b"mif1", b"mif2", b"avci")
_HEIC_SEQUENCES = (b"hevc", b"hevx", b"msf1")
_HEADER_SIZE = 1024


def media_kind(path: str | Path) -> Literal["image", "video"]:
    """Say whether a file is an image or a video, from its content and never from its name.

    Pictures that move count as videos: animated GIF, WebP, PNG and AVIF, TIFF and HEIC files of several
    pictures, and JPEG pictures one after the other. A container without a video stream (sound only) still
    says "video" here; decoding it raises.

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
    name = media_format(path)
    return "video" if name not in _IMAGES or is_animation(path, name) or is_mjpeg(path, name) else "image"


def media_format(path: Path) -> str:
    """The name of a file's format, such as "jpeg", "mp4" or "raw".

    Raises:
        MediaError: As `media_kind`.
    """
    header = _header(path)
    name = _sniff(header)
    if name in _TEXT_FORMATS:
        return name
    if not any(header):
        raise MediaError(f"{path}: the file begins with zeros only (an interrupted download?)")
    if _is_text(header):
        raise MediaError(f"{path}: the file is text, neither an image nor a video")
    if tiff.raw_format(path, header):
        return "raw"
    if not name:
        raise MediaError(f"{path}: neither an image nor a video (unknown content {header[:8].hex(' ')} ...)")
    return name


def is_animation(path: Path, name: str) -> bool:
    """Whether an image file of this format holds several pictures, to be shown one after the other."""
    try:
        if name in _COUNTED:
            return _COUNTED[name](path) > 1
        if name in ("gif", "avif", "heic"):
            if name == "heic":
                teach_pillow(path)
            with Image.open(path, formats=("HEIF" if name == "heic" else name.upper(),)) as image:
                return getattr(image, "n_frames", 1) > 1
    except Exception:  # damaged: reading it will say so
        pass
    return False


def is_mjpeg(path: Path, name: str) -> bool:
    """Whether a JPEG file is a film: several whole pictures, one right behind the other.

    Files in which the pictures belong to one photograph (depth, brightness, a preview) say so by a directory
    of their own.
    """
    if name != "jpeg":
        return False
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return data.count(b"\xff\xd9\xff\xd8") >= 2 and b"MPF\0" not in data[:65536]


def is_folder(path: Path) -> bool:
    """Whether this is a folder; not if it may not even be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _header(path: Path) -> bytes:
    try:
        if is_folder(path):
            next(path.iterdir(), None)  # a folder that may not be read says so
        if path.exists() and not path.is_file():  # a pipe would wait for ever
            raise MediaError(f"{path}: is a folder or a device, not a file")
        with path.open("rb") as file:
            header = file.read(_HEADER_SIZE)
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        what = "the folder cannot be read" if is_folder(path) else "cannot be opened"
        raise MediaError(f"{path}: {what} ({error})") from error
    if not header:
        raise MediaError(f"{path}: the file is empty")
    return header


def _sniff(header: bytes) -> str:
    if header[4:8] == b"ftyp":
        return _mp4_brand(header)
    if header[:2] in (b"P5", b"P6") and header[2:3].isspace():
        return "ppm"
    for at, magic, name in _MAGIC:
        if header.startswith(magic, at) and (at != 8 or header.startswith(b"RIFF")):
            return name
    # MPEG transport stream: a sync byte in every packet, also as cameras write it; a recording of a broadcast
    # may begin in the middle of one.
    if header[0:377:188] == b"GGG" or header[4:389:192] == b"GGG":
        return "mpegts"
    if any(header[at : at + 753 : 188] == b"GGGGG" for at in range(188)):
        return "mpegts"
    return _elementary(header)


def _mp4_brand(header: bytes) -> str:
    size = int.from_bytes(header[:4], "big")
    brands = header[8 : max(16, min(size, 256))]
    if b"avif" in brands or brands.startswith(b"avis"):
        return "avif"
    if brands.startswith(_HEIC_SEQUENCES):
        return "mp4"
    return "heic" if brands.startswith(_HEIC_BRANDS) else "mp4"


def _elementary(header: bytes) -> str:
    """A bare H.264, H.265 or H.266 stream: a start code, then a unit such as these begin with."""
    start = 4 if header.startswith(b"\0\0\0\1") else 3 if header.startswith(b"\0\0\1") else 0
    if not start or len(header) < start + 2:
        return ""
    first, second = struct.unpack_from("BB", header, start)
    if first & 0x9F in (7, 9):  # parameters, access unit delimiter
        return "h264"
    kind = first >> 1 & 0x3F
    if first & 0x81 == 0 and kind in (32, 33, 34, 35) and second & 7 == 1:
        return "hevc"
    if first & 0xC0 == 0 and second >> 3 in (14, 15, 16, 20) and second & 7 == 1:
        return "vvc"
    return ""


def _is_text(header: bytes) -> bool:
    try:
        # A character may be cut in two where the reading stopped.
        text = header.decode("utf-8", "strict" if len(header) < _HEADER_SIZE else "ignore")
    except UnicodeDecodeError:
        return False
    cut = len(header) - len(text.encode())
    return cut < 4 and all(c.isprintable() or c.isspace() for c in text)
