"""Frames of one video stream in order, with jumps that never change what is decoded."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from sficonv.errors import MediaError
from sficonv.media.images import media_kind

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_MAX_PIXELS = 64_000_000
_BLIND_SEEK_GAP = 15.0  # seconds; without an index of keyframes a shorter jump rarely pays
SAME_TIME = 1e-4  # seconds; below any frame period, above rounding


class Reader:
    """Decoded frames of one stream, in order, and what went wrong on the way."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self.path = path
        self.fps = frame_rate(stream)
        self.enough = False  # stopped by choice: what lies behind was not looked at
        self._container, self._stream = container, stream
        self._start = stream.start_time or 0
        self._tick = _tick(stream)
        self._frames = self._decode()
        self._pushed_back: VideoFrame | None = None
        self.reached = 0.0  # end of the last frame decoded, in seconds
        self._errors = 0
        self._may_jump = True
        self._passed_over = -math.inf
        # Time counts from the first frame itself: what containers say about it is not always true.
        self._pushed_back = self.read()
        if self._pushed_back is not None:
            self._start = self._pushed_back.pts or 0
        self._keyframes, self._period, self._last = self._read_index()

    @property
    def uneven(self) -> bool:
        """Whether an index of all frames says that they follow one another at changing distances."""
        return len(self._stream.index_entries) == self._stream.frames > 1 and math.isinf(self._period)

    def _read_index(self) -> tuple[list[int], float, float]:
        """Times of the keyframes, and where all frames follow one another evenly: the period, the last time.

        The index holds decoding times; a frame shows later by what the first one waits.
        """
        index = [self._stream.index_entries[i] for i in range(len(self._stream.index_entries))]
        times = sorted(entry.timestamp for entry in index)
        keys = sorted(entry.timestamp for entry in index if entry.is_keyframe)
        steps = [after - before for before, after in pairwise(times)]
        even = len(times) == self._stream.frames > 1 and max(steps) <= 1.1 * min(steps) + 1
        period = max(steps) * self._tick if even else math.inf
        last = (times[-1] - times[0]) * self._tick if even else math.inf
        return [self._start + key - keys[0] for key in keys], period, last

    def pass_over(self, until: float) -> None:
        """Say that no frame that is off display before this time is wanted.

        The decoder may then leave out frames to which no other refers. Only where frames follow one another
        evenly is it known early enough how long one is on display.
        """
        self._passed_over = min(until, self._last) - 16 * self._period

    def time_of(self, frame: VideoFrame) -> float:
        """Seconds since the first frame."""
        return self._seconds(frame.pts or 0)

    def read(self) -> VideoFrame | None:
        """The next sound frame, `None` at the end."""
        if self._pushed_back is not None:
            frame, self._pushed_back = self._pushed_back, None
            return frame
        for frame in self._frames:
            if not frame.is_corrupt:
                return frame
            self._errors += self.reached > 0  # a stream cut anywhere may begin with such frames
        return None

    def jump(self, target: float, *, position: float) -> bool:
        """Move to the last keyframe before `target` if that skips anything.

        Returns:
            Whether frames are now read from somewhere else: from that keyframe, or, where the video
            cannot be decoded from there (its headers change on the way, or the index is wrong), from
            the beginning again.
        """
        timestamp = self._landing(target, position)
        if timestamp is None or not self._seek(timestamp):
            return False
        self._pushed_back = next(self._frames, None)
        landed = self._pushed_back
        if landed is None or landed.is_corrupt or self.time_of(landed) > target + SAME_TIME:
            self._may_jump = False
            self._errors, self.reached = 0, 0.0
            self._seek(min(self._start, 0))
        return True

    def _landing(self, target: float, position: float) -> int | None:
        if not self._may_jump or target <= position:
            return None
        if self._keyframes:
            at = bisect_right(self._keyframes, target + SAME_TIME, key=self._seconds) - 1
            pays = at >= 0 and self._seconds(self._keyframes[at]) > position + 2 / self.fps
            return self._keyframes[at] if pays else None
        if target - position < _BLIND_SEEK_GAP:
            return None
        return self._start + int((target - 1) / self._tick)

    def _seek(self, timestamp: int) -> bool:
        from av.error import FFmpegError

        try:
            self._container.seek(timestamp, backward=True, stream=self._stream)
        except (FFmpegError, OSError):
            self._may_jump = False
            return False
        self._pushed_back = None
        self._frames = self._decode()
        return True

    def _decode(self) -> Iterator[VideoFrame]:
        """Every frame from here to the end; packets that cannot be decoded are counted and left out."""
        from av.error import EOFError as EndOfFile
        from av.error import FFmpegError

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                self._errors += 1
                return
            if packet is None:
                return
            if packet.is_corrupt:
                self._errors += 1
                continue
            wanted = packet.pts is None or self._seconds(packet.pts) >= self._passed_over
            self._stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
            try:
                decoded = packet.decode()
            except EndOfFile:
                return
            except FFmpegError:
                self._errors += 1
                continue
            for frame in decoded:
                if frame.pts is None:  # AVI: one after the other
                    frame.pts = self._start + round(self.reached / self._tick)
                yield frame
                shown = frame.duration * self._tick if frame.duration else 1 / self.fps
                self.reached = max(self.reached, self.time_of(frame) + shown)

    @property
    def expected(self) -> float:
        """Seconds that the video should have; 0 where nothing says it."""
        duration = stream_duration(self._stream)
        if not duration and len(self._container.streams) == 1:
            duration = (self._container.duration or 0) / 1e6
        return duration

    @property
    def ends_early(self) -> bool:
        """Whether, read to its end, the video stopped before the length it claims."""
        return self.reached + max(0.5, 3 / self.fps) < self.expected

    def raise_if_damaged(self) -> None:
        """Say how far the decoding got if that is not as far as it should have."""
        if not self._errors and (self.enough or not self.ends_early):
            return
        message = f"{self.path}: damaged or truncated: decoded {self.reached:.1f} s"
        message += f" of {self.expected:.1f} s" if self.expected else ""
        pieces = "1 damaged piece" if self._errors == 1 else f"{self._errors} damaged pieces"
        raise MediaError(message + (f", {pieces} left out" if self._errors else ""))

    def _seconds(self, timestamp: int) -> float:
        return (timestamp - self._start) * self._tick


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream, cover pictures of sound files aside; closed on leaving.

    Raises:
        MediaError: Not a video, damaged, without a video stream, or with frames that are too large.
    """
    if media_kind(path) != "video":
        raise MediaError(f"{path}: an image, not a video")
    import av

    try:
        container = av.open(str(path.absolute()), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{path}: damaged or truncated, the video cannot be opened ({reason})") from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            why = "it holds sound only" if container.streams.audio else "damaged or truncated"
            raise MediaError(f"{path}: there is no video stream in the file ({why})")
        stream = streams[0]
        if stream.codec_context is None:
            raise MediaError(f"{path}: the video's codec is unknown; convert it to H.264")
        if stream.width * stream.height > _MAX_PIXELS:
            raise MediaError(f"{path}: frames of {stream.width} x {stream.height} pixels are too large")
        stream.thread_type = "AUTO"
        yield container, stream


def frame_rate(stream: VideoStream) -> float:
    """Average frames per second; 25 where nothing says it."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else 25.0


def _tick(stream: VideoStream) -> float:
    """Seconds per unit of the stream's timestamps."""
    return float(stream.time_base or 1)


def stream_duration(stream: VideoStream) -> float:
    """Seconds, or 0 where the container does not say it for this stream."""
    return stream.duration * _tick(stream) if stream.duration else 0.0


def demuxed_duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds to the end of the last frame, found by reading (not decoding) the rest of the file."""
    from av.error import FFmpegError

    last, shown = stream.start_time or 0, 0
    try:
        for packet in container.demux(stream):
            if packet.pts is not None and packet.pts >= last:
                last, shown = packet.pts, packet.duration or 0
    except FFmpegError:
        pass
    return (last - (stream.start_time or 0)) * _tick(stream) + (
        shown * _tick(stream) or 1 / frame_rate(stream)
    )
