"""Opening video files: the one place where FFmpeg is let at a file, and the choice among its streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sficonv.errors import MediaError
from sficonv.media.kinds import media_format, media_kind

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_PIXELS = 64_000_000

# No playlists, no lists of other files, no devices, no networks: a file says all there is to say by itself.
_FORMATS = (
    "mov,matroska,avi,flv,asf,mpeg,mpegts,mpegvideo,m4v,ogg,gif,mjpeg,h264,hevc,vvc,ivf,mxf,dv,"
    "yuv4mpegpipe,nut,rm,gxf"
)
_SAFE = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_BARE = {
    "mpegvideo",
    "m4v",
    "h264",
    "hevc",
    "vvc",
    "mjpeg",
}  # frames without a container: lengths are guesses
_MATROSKA = b"\x1aE\xdf\xa3"
_SEARCHED = 2**20  # bytes behind the last packet of a recording in which the next one may begin


def open_container(file: str | IO[bytes], form: str | None = None) -> InputContainer:
    """Open a video so that FFmpeg reads this file and no other.

    Args:
        file: An absolute path, or a file in memory.
        form: Its format, where FFmpeg would be misled by the name; default: by its content.

    Raises:
        MediaError: Not one of the formats that are allowed, or damaged.
    """
    import av

    try:
        options = dict(_SAFE)
        return av.open(file, "r", format=form, container_options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        name = file if isinstance(file, str) else "the video"
        raise MediaError(f"{name}: damaged or truncated, the video cannot be opened ({reason})") from error


@contextmanager
def open_video(
    path: Path, number: int | None = None
) -> Iterator[tuple[InputContainer, VideoStream, list[str]]]:
    """Open a file and one of its video streams; closed on leaving.

    Args:
        path: The file.
        number: Which of its video streams, counted from 0; default: the one flagged as default, of several
            such (or none) the largest. Cover pictures of sound files do not count, and single frames only
            where there is nothing else.

    Yields:
        The container, the stream, and a note where other streams are not looked at.

    Raises:
        MediaError: Not a video, damaged, without this video stream, or with frames that are too large.
    """
    if media_kind(path) != "video":
        raise MediaError(f"{path}: an image, not a video")
    try:
        form = "mjpeg" if media_format(path) == "jpeg" else None
        container = open_container(str(path.absolute()), form)
    except MediaError as error:
        raise MediaError(str(error).replace(str(path.absolute()), str(path), 1)) from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            why = "it holds sound only" if container.streams.audio else "damaged or truncated"
            raise MediaError(f"{path}: there is no video stream in the file ({why})")
        if number is not None and not 0 <= number < len(streams):
            raise MediaError(
                f"{path}: there is no video stream {number}; it has {len(streams)}, counted from 0"
            )
        stream = _chosen(streams) if number is None else streams[number]
        if stream.codec_context is None:
            raise MediaError(f"{path}: the video's codec is unknown; convert it to H.264")
        if stream.width * stream.height > MAX_PIXELS:
            raise MediaError(f"{path}: frames of {stream.width} x {stream.height} pixels are too large")
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # later frames may have another size
        yield container, stream, _others(streams, stream)


def _chosen(streams: list[VideoStream]) -> VideoStream:
    known = [s for s in streams if s.codec_context is not None] or streams
    known = [s for s in known if s.frames != 1] or known  # a single frame beside films is their preview
    flagged = [s for s in known if s.disposition & s.disposition.default] or known
    return max(flagged, key=lambda s: s.width * s.height if s.codec_context is not None else 0)


def _others(streams: list[VideoStream], chosen: VideoStream) -> list[str]:
    if len(streams) < 2:
        return []
    texts = {s.index: f"{i} ({s.width} x {s.height})" for i, s in enumerate(streams) if s.codec_context}
    others = ", ".join(texts.get(s.index, "one of an unknown codec") for s in streams if s is not chosen)
    return [
        f"{len(streams)} video streams: number {texts[chosen.index]} was judged; not judged: {others} "
        "(scan --video-stream chooses another)"
    ]


def frame_rate(stream: VideoStream) -> float:
    """Average frames per second; 25 where nothing says it."""
    rate = stream.average_rate
    if not rate or rate * (stream.time_base or 0) == 1:  # the unit of the time stamps, which says nothing
        rate = stream.guessed_rate or stream.base_rate or rate
    return float(rate) if rate else 25.0


def tick(stream: VideoStream) -> float:
    """Seconds per unit of the stream's time stamps."""
    return float(stream.time_base or 1)


def format_names(container: InputContainer) -> set[str]:
    """What FFmpeg calls the format of a file."""
    return set(container.format.name.split(","))


def stream_duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds that the file itself says of this stream, 0 where it does not."""
    guessed = format_names(container) & _BARE
    return stream.duration * tick(stream) if stream.duration and not guessed else 0.0


def container_duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds that the file itself says of all of it, from where this stream begins; 0 where it does not."""
    names = format_names(container)
    if not container.duration or names & _BARE:
        return 0.0
    late = (stream.start_time or 0) * tick(stream) if "matroska" in names else 0.0  # counts from time 0
    return max(0.0, container.duration / 1e6 - late)


def second_recording(path: Path, end: int) -> int:
    """Where in a file a second recording begins that its demuxer does not reach, 0 if there is none.

    Files that were joined byte by byte look like this.

    Args:
        path: An MP4, Matroska, AVI, FLV or ASF file.
        end: Where the last packet that was read ends, 0 where that is not known.
    """
    with path.open("rb") as file:
        header = file.read(16)
        if header[4:8] == b"ftyp":
            return _second_mp4(file, path.stat().st_size)
        if header[:4] == b"RIFF":
            return _second_avi(file, path.stat().st_size)
        magic = header if header.startswith(b"\x30\x26\xb2\x75") else header[:4]
        if magic not in (header, b"FLV\x01", _MATROSKA):
            return 0
        if magic == _MATROSKA:
            end = end or _end_of_matroska(file)
        return _found(file, magic, end) if end else 0


def _found(file: IO[bytes], magic: bytes, start: int) -> int:
    file.seek(start)
    at = file.read(_SEARCHED).find(magic)
    return start + at if at >= 0 else 0


def _second_mp4(file: IO[bytes], size: int) -> int:
    at, seen = 0, 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        seen += head[4:8] == b"ftyp"
        if seen > 1:
            return at
        if length < 8:
            return 0
        at += length
    return 0


def _second_avi(file: IO[bytes], size: int) -> int:
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        if head[:4] != b"RIFF" or (at and head[8:] == b"AVI "):
            return at if head[:4] == b"RIFF" else 0
        at += 8 + int.from_bytes(head[4:8], "little")
    return 0


def _end_of_matroska(file: IO[bytes]) -> int:
    """Where the first recording ends by what its header says; 0 for one that was recorded live."""
    at = 0
    for identifier in (_MATROSKA, b"\x18S\x80g"):
        file.seek(at)
        head = file.read(12)
        if not head.startswith(identifier) or len(head) < 12 or not head[4]:
            return 0
        width = 9 - head[4].bit_length()
        length = int.from_bytes(head[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:  # it ends where the file does
            return 0
        at += 4 + width + length
    return at
