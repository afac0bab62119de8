"""Which parts of a file are judged: the options of `scan`, `iter_scan`, a detector's call and the CLI."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral, Real


@dataclass(frozen=True)
class ScanOptions:
    """Which parts of each file are judged, and which limits apply.

    Args:
        crops: The images are face crops already: judge them whole, without looking for faces.
        every: Seconds between the sampled frames of a video.
        max_frames: Largest number of frames sampled per video; a longer video is sampled evenly over its
            whole length.
        start: Where to begin in each video, in seconds.
        end: Where to stop in each video, in seconds. Default: at its end.
        min_face: Shorter side of a face, in pixels, below which it is too small to decide a verdict.
        video_stream: Which video stream of a file to judge, counted from 0. Default: the one flagged as
            default, else the largest.
        max_pixels: Refuse images and videos with more pixels than this.
        max_duration: Refuse videos longer than this, in seconds. Default: no limit.

    Raises:
        ValueError: If a value makes no sense.

    Example:
        >>> ScanOptions(every=1.0).max_frames
        240
    """

    crops: bool = False
    every: float = 0.5
    max_frames: int = 240
    start: float = 0.0
    end: float | None = None
    min_face: int = 40
    video_stream: int | None = None
    max_pixels: int = 64_000_000
    max_duration: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, str(field.type), getattr(self, field.name))
        if not 0 < self.every < float("inf"):
            raise ValueError(f"every must be a positive number of seconds, got {self.every}")
        if self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {self.max_frames}")
        if self.min_face < 0:
            raise ValueError(f"min_face must not be negative, got {self.min_face}")
        if not 0 <= self.start < float("inf"):
            raise ValueError(f"start must be a time in seconds, 0 or more, got {self.start}")
        if self.end is not None and not self.end > self.start:
            raise ValueError(f"end must be later than start ({self.start} s), got {self.end}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {self.max_pixels}")
        if self.video_stream is not None and self.video_stream < 0:
            raise ValueError(f"video_stream must be 0 or more, got {self.video_stream}")
        if self.max_duration is not None and not self.max_duration > 0:
            raise ValueError(f"max_duration must be a positive number of seconds, got {self.max_duration}")


_KINDS = {"bool": (bool, "True or False"), "int": (Integral, "a whole number"), "float": (Real, "a number")}


def _check(name: str, annotation: str, value: object) -> None:
    kind, words = _KINDS[annotation.removesuffix(" | None")]
    if value is None and annotation.endswith("| None"):
        return
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be {words}, got {value!r}")
