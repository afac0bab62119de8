"""Decoding videos with PyAV: only what is wanted, upright, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from sficonv.errors import MediaError
from sficonv.media.animation import AnimationReader
from sficonv.media.container import open_video
from sficonv.media.kinds import is_animation, media_format
from sficonv.media.reader import SAME_TIME, Reader


@dataclass(frozen=True)
class VideoInfo:
    """What a video says about itself.

    Attributes:
        path: The file.
        width: Pixels, after rotation.
        height: Pixels, after rotation.
        fps: Average frames per second.
        duration: Seconds.
        frames: Number of frames (an estimate where the container does not say).
        rotation: Degrees by which the stored frames are turned anticlockwise to stand upright.
        notes: In plain words, what is not shown or may mislead: other streams, joined recordings, high
            dynamic range.
    """

    path: Path
    width: int
    height: int
    fps: float
    duration: float
    frames: int
    rotation: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: Frame number at the average rate, counted from 0; strictly increasing.
        time: Seconds since the first frame.
        image: uint8 `(H, W, 3)`, RGB, upright.
    """

    index: int
    time: float
    image: np.ndarray


def probe(path: str | Path, *, stream: int | None = None) -> VideoInfo:
    """Read size, rate and length of a video; its first frame is decoded to be sure.

    Args:
        path: A video file, or pictures that move.
        stream: Which of several video streams, counted from 0; default: the one flagged as default, else the
            largest.

    Raises:
        MediaError: Missing, empty, damaged, not a video, or without a video stream.

    Example:
        >>> probe("clip.mp4").fps  # doctest: +SKIP
        25.0
    """
    path = Path(path)
    with _reader(path, stream) as (reader, notes):
        first = reader.read()
        if first is None:
            raise MediaError(f"{path}: no frame of the video can be decoded (damaged or truncated)")
        width, height = reader.size_of(first)
        notes = (*notes, *reader.notes(first))
        rotation = reader.rotation_of(first)
        return VideoInfo(path, width, height, reader.fps, reader.duration, reader.count, rotation, notes)


@contextmanager
def _reader(path: Path, stream: int | None, threads: int = 0) -> Iterator[tuple[Any, Sequence[str]]]:
    """What reads the frames of a file, and what is to be said about the choice of its stream."""
    name = media_format(path)
    if name != "gif" and is_animation(path, name):
        yield AnimationReader(path, name), ()
        return
    with open_video(path, stream) as (container, chosen, notes):
        chosen.codec_context.thread_count = threads
        yield Reader(path, container, chosen, stream), notes


def sample_times(info: VideoInfo, n: int) -> list[float]:
    """Times of `n` frames spread evenly over a video: the middles of `n` equal parts.

    Args:
        info: From `probe`.
        n: How many; more than the video has frames gives each frame once when decoded.

    Returns:
        Seconds, ascending.

    Example:
        >>> sample_times(VideoInfo(Path("a.mp4"), 64, 64, 25.0, 8.0, 200, 0), 4)
        [1.0, 3.0, 5.0, 7.0]
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return [info.duration * (i + 0.5) / n for i in range(n)]


def iter_frames(
    path: str | Path,
    *,
    times: Sequence[float] | None = None,
    every: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    threads: int = 0,
    stream: int | None = None,
) -> Iterator[Frame]:
    """Decode a video lazily, in order, converting only the wanted frames to RGB.

    For a wanted time the frame on display at that time is given, once, even if several wanted times
    fall on it. Between wanted times the decoder jumps to a later keyframe where there is one.

    Args:
        path: A video file.
        times: Wanted times in seconds since the first frame, in any order.
        every: Or: seconds from one frame to the next. Neither: every frame.
        start: With `every` or neither: begin here (seconds).
        end: With `every` or neither: stop before this time (seconds); default the end of the video.
        threads: Decoder threads; 0 lets the decoder choose.
        stream: Which of several video streams, as of `probe`.

    Yields:
        `Frame`s with rising index.

    Raises:
        ValueError: Both `times` and `every`, or `every` not positive.
        MediaError: The file cannot be opened as a video; or, after everything that could be decoded has
            been yielded, the video is damaged or ends early (the message says how far it got).

    Example:
        >>> for frame in iter_frames("clip.mp4", every=0.5):  # doctest: +SKIP
        ...     print(frame.time, frame.image.shape)
    """
    if times is not None and every is not None:
        raise ValueError("give times or every, not both")
    if every is not None and not every > 0:
        raise ValueError(f"every must be positive, got {every}")
    return _iter_frames(Path(path), times, every, start, end, threads, stream)


def _iter_frames(
    path: Path,
    times: Sequence[float] | None,
    every: float | None,
    start: float,
    end: float | None,
    threads: int,
    stream: int | None,
) -> Iterator[Frame]:
    with _reader(path, stream, threads) as (reader, _):
        if times is not None:
            chosen = _on_display(reader, iter(sorted(times)), beyond_end=True)
        elif every is not None:
            chosen = _on_display(reader, _ticks(every, start, end), beyond_end=False)
        else:
            chosen = _between(reader, start, end)
        index = -1
        for frame in chosen:
            time = reader.time_of(frame)
            index = max(index + 1, round(time * reader.fps))
            yield Frame(index, time, reader.picture(frame))
        reader.raise_if_damaged()


def _ticks(every: float, start: float, end: float | None) -> Iterator[float]:
    for i in count():
        time = start + i * every
        if end is not None and time >= end - SAME_TIME:
            return
        yield time


def _between(reader: Any, start: float, end: float | None) -> Iterator[Any]:
    reader.pass_over(start)
    reader.jump(start, position=0.0)
    while (frame := reader.read()) is not None:
        time = reader.time_of(frame)
        if end is not None and time >= end - SAME_TIME:
            reader.enough = True
            return
        if time >= start - SAME_TIME:
            yield frame


def _on_display(reader: Any, wanted: Iterator[float], *, beyond_end: bool) -> Iterator[Any]:
    """The frames on display at the wanted (ascending) times, each once.

    With `beyond_end` the last frame stands for all times after it.
    """
    current = following = None
    given = -1.0
    for target in wanted:
        reader.pass_over(target)
        if reader.jump(target, position=reader.time_of(following) if following else 0.0):
            current = following = None
        while following is None or reader.time_of(following) <= target + SAME_TIME:
            current = following or current
            following = reader.read()
            if following is None:
                break
            current = current or following
        past_end = following is None and target >= max(reader.reached, 2 * SAME_TIME) - SAME_TIME
        if past_end and (reader.ends_early or not beyond_end):
            return
        if current is not None and reader.time_of(current) > given:
            given = reader.time_of(current)
            yield current
        if following is None:  # the end: every later time would show the last frame again
            return
    reader.enough = True
