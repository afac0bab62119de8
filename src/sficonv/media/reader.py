"""Frames of one video stream in order, with jumps that never change what is decoded."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sficonv.errors import MediaError
from sficonv.media import gif
from sficonv.media.container import (
    container_duration,
    format_names,
    frame_rate,
    second_recording,
    stream_duration,
    tick,
)
from sficonv.media.display import as_displayed, displayed_size, quarter_turns
from sficonv.media.png import hdr_notes
from sficonv.media.timeline import Clock, Survey, may_leap, survey

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_BLIND_SEEK_GAP = 15.0  # seconds; without an index of keyframes a shorter jump rarely pays
_RESTARTING = {"flv", "gxf"}  # formats whose parts can be joined, beside those that say so themselves
_UNSURE = {"asf", "gif"}  # formats whose headers may not know the length of all of it
_DEAF = {"mov", "flv", "asf"}  # formats that end with their first recording for whoever reads them
_HELD = 3  # packets
SAME_TIME = 1e-4  # seconds; below any frame period, above rounding


class Reader:
    """Decoded frames of one stream, in order, and what went wrong on the way."""

    def __init__(
        self, path: Path, container: InputContainer, stream: VideoStream, number: int | None = None
    ) -> None:
        self.path = path
        self.fps = frame_rate(stream)
        self.enough = False  # stopped by choice: what lies behind was not looked at
        self._container, self._stream, self._number = container, stream, number
        self._start = stream.start_time or 0
        self._tick = tick(stream)
        self._said = stream_duration(container, stream)
        self._whole = self._survey()
        joined = self._whole is not None and self._whole.restarts > 0
        self._clock = Clock(self._tick, 1 / self.fps, leaps=may_leap(container)) if joined else None
        self._frames = self._decode()
        self._pushed_back: VideoFrame | None = None
        self.reached = 0.0  # end of the last frame decoded, in seconds
        self._errors = 0
        self._may_jump = not joined
        if self._whole is not None and joined:
            self.fps = self._whole.packets / self._whole.duration
        self._passed_over = -math.inf
        # Time counts from the first frame itself: what containers say about it is not always true.
        self._pushed_back = self.read()
        if self._pushed_back is not None:
            self._start = self._pushed_back.pts or 0
        self._keyframes, self._period, self._last = self._read_index()

    def _survey(self) -> Survey | None:
        """Read the whole file where nothing else shows how long it is, and whether its time starts again."""
        names = format_names(self._container)
        unknown = not self._said and not container_duration(self._container, self._stream)
        joined = bool(names & {"matroska", "avi"}) and second_recording(self.path, 0) > 0
        seams = joined or may_leap(self._container) or bool(names & _RESTARTING)
        if not (unknown or seams or names & _UNSURE):
            return None
        return survey(self.path, self._number, seams=seams)

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
        from av.error import FFmpegError

        packets = self._container.demux(self._stream)
        held: list[Packet[VideoStream]] = []  # a corrupt packet and the next few: at a seam it is none
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                self._errors += 1
                packet = None
            joined = packet is not None and self._clock is not None and self._clock.correct(packet)
            if joined or packet is None or len(held) > _HELD:
                yield from self._frames_of_held(held, trusted=joined)
                held = []
            if packet is None:
                return
            if joined:
                yield from self._drain()
            if held or packet.is_corrupt:
                held.append(packet)
            else:
                yield from self._frames_of(packet)

    def _frames_of_held(self, held: list[Packet[VideoStream]], *, trusted: bool) -> Iterator[VideoFrame]:
        """Before a seam, a packet is called corrupt because the counters behind it start again."""
        for packet in held:
            if packet.is_corrupt and not trusted:
                self._errors += 1
                continue
            packet.is_corrupt = False
            yield from self._frames_of(packet)

    def _frames_of(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        from av.error import EOFError as EndOfFile
        from av.error import FFmpegError

        wanted = packet.pts is None or self._seconds(packet.pts) >= self._passed_over
        self._stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
        try:
            yield from map(self._timed, packet.decode())
        except EndOfFile:
            return
        except FFmpegError:
            self._errors += 1

    def _drain(self) -> Iterator[VideoFrame]:
        """What the decoder still holds of the recording before a seam; the next one would displace it."""
        codec = self._stream.codec_context
        yield from map(self._timed, codec.decode(None))
        codec.flush_buffers()

    def _timed(self, frame: VideoFrame) -> VideoFrame:
        if frame.pts is None:  # AVI: one after the other
            frame.pts = self._start + round(self.reached / self._tick)
        shown = frame.duration * self._tick if frame.duration else 1 / self.fps
        self.reached = max(self.reached, self.time_of(frame) + shown)
        return frame

    @property
    def expected(self) -> float:
        """Seconds that the video should have; 0 where nothing says it."""
        if self._whole is not None and self._whole.restarts:
            return self._whole.duration
        if not self._said and len(self._container.streams) == 1:
            return container_duration(self._container, self._stream)
        return self._said

    @property
    def duration(self) -> float:
        """Seconds, as well as can be known."""
        said = self._said or container_duration(self._container, self._stream)
        # At a variable rate the length may have been counted in the order of decoding, in which the last
        # frame shown is not the last one.
        if self._whole is None and self._is_uneven:
            self._whole = survey(self.path, self._number, seams=False)
        if self._whole is None:
            return said
        return self._whole.duration if self._whole.restarts or not said else max(said, self._whole.duration)

    @property
    def count(self) -> int:
        """Number of frames; an estimate where the container does not say it."""
        if self._whole is not None and (
            self._whole.restarts or self._whole.packets > self._stream.frames > 0
        ):
            return self._whole.packets
        return self._stream.frames or max(1, round(self.duration * self.fps))

    @property
    def _is_uneven(self) -> bool:
        """Whether an index of all frames says that they follow one another at changing distances."""
        return len(self._stream.index_entries) == self._stream.frames > 1 and math.isinf(self._period)

    def size_of(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height of a frame as it is shown."""
        return displayed_size(frame, self._stream)

    def picture(self, frame: VideoFrame) -> np.ndarray:
        """A frame as it is shown: uint8 `(H, W, 3)`, RGB."""
        return as_displayed(frame, self._stream)

    def rotation_of(self, frame: VideoFrame) -> int:
        """Degrees by which a stored frame is turned anticlockwise to be shown."""
        return 90 * quarter_turns(frame)

    def notes(self, frame: VideoFrame) -> list[str]:
        """What a reader should know about this video; by its first frame."""
        notes = hdr_notes(int(frame.color_trc))
        if self._whole is not None and self._whole.restarts:
            parts = self._whole.restarts + 1
            notes.append(f"{parts} recordings joined: times are counted on from one to the next")
            if second_recording(self.path, self._whole.end):
                notes.append("a further recording lies behind them, where the reading stops: not judged")
        elif format_names(self._container) & _DEAF and second_recording(
            self.path, self._whole.end if self._whole else 0
        ):
            notes.append("a second recording lies behind the end of this one, unseen by players: not judged")
        if self._stream.metadata.get("alpha_mode") == "1":
            notes.append("parts of it may be transparent, which was not looked at")
        return notes

    @property
    def ends_early(self) -> bool:
        """Whether, read to its end, the video stopped before the length it claims."""
        return self.reached + max(0.5, 3 / self.fps) < self.expected

    def raise_if_damaged(self) -> None:
        """Say how far the decoding got if that is not as far as it should have."""
        cut = self._container.format.name == "gif" and not gif.is_whole(self.path)
        if not cut and not self._errors and (self.enough or not self.ends_early):
            return
        message = f"{self.path}: damaged or truncated: decoded {self.reached:.1f} s"
        message += f" of {self.expected:.1f} s" if self.expected > self.reached else ""
        pieces = "1 damaged piece" if self._errors == 1 else f"{self._errors} damaged pieces"
        raise MediaError(message + (f", {pieces} left out" if self._errors else ""))

    def _seconds(self, timestamp: int) -> float:
        return (timestamp - self._start) * self._tick
