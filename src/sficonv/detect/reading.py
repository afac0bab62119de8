"""Files in, faces out: what is decoded, where faces are looked for, and what was wrong with the file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from sficonv.detect.options import ScanOptions
from sficonv.detect.quality import image_doubt, video_doubt
from sficonv.errors import MediaError
from sficonv.faces.face import crop_face
from sficonv.faces.search import FaceSearch, turned_upright
from sficonv.faces.tracking import Box, Tracker, look
from sficonv.media.resize import resize

if TYPE_CHECKING:
    from sficonv.media.video import VideoInfo

log = logging.getLogger(__name__)

Paths = str | Path | Sequence[str | Path]
OnProgress = Callable[[Path, float], None]


@dataclass
class SourceFile:
    """One input and what reading it showed.

    Args:
        path: The file; of an image in memory its name in the answer.
        skipped: Why it is not looked at, of a file in a folder that is no image or video.
        kind, error, duration, frames, notes: As of `ScanResult`.
        image: An image that is in memory already, RGB `uint8` `(H, W, 3)`; let go once it is read.
    """

    path: Path
    kind: Literal["image", "video"] | None = None
    skipped: str = ""
    error: str | None = None
    duration: float | None = None
    frames: int = 0
    notes: list[str] = field(default_factory=list)
    image: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class FoundFace:
    """A face on its way to the model.

    Args:
        image: The crop, RGB `uint8` `(H, W, 3)`.
        points: Its five landmarks `(5, 2)` as fractions of the crop's width and height; `None` if unknown.
        frame, time, box, score, sharpness, track: As of `FaceScore`.
    """

    image: np.ndarray
    points: np.ndarray | None
    frame: int
    time: float
    box: Box
    score: float
    sharpness: float
    track: int


def find_files(paths: Paths) -> Iterator[SourceFile]:
    """The files that `paths` stand for, each once, then what is skipped in a folder.

    `error` says what is known already to be wrong with one.
    """
    from sficonv.media.listing import list_media, why_skipped

    seen: set[Path] = set()
    for path in [paths] if isinstance(paths, str | Path) else paths:
        try:
            listing = list_media([Path(path)])
        except (MediaError, OSError, ValueError) as error:
            yield SourceFile(Path(path), error=str(error))
            continue
        yield from (SourceFile(file) for file in listing.files if file not in seen)
        if not listing.files:
            yield SourceFile(Path(path), error=f"{path}: no images or videos in this folder")
        seen.update(listing.files)
        yield from (SourceFile(f, skipped=why_skipped(f)) for f in listing.skipped if f not in seen)
        seen.update(listing.skipped)


@dataclass(frozen=True)
class CutFace:
    """A face cut out of a frame.

    Args:
        image: The crop, RGB `uint8` `(H, W, 3)`.
        box: `(x0, y0, x1, y1)` in pixels of the frame.
        landmarks: `(5, 2)` in pixels of the frame.
        score: How sure the face detector is.
        points: The landmarks as fractions of the crop's width and height; `None` if unknown.
    """

    image: np.ndarray
    box: Box
    landmarks: np.ndarray
    score: float
    points: np.ndarray | None = None


class FindFaces(Protocol):
    """What finds the faces of the frames of one file after the other."""

    def begin(self, *, still: bool) -> Search:
        """Start with a new file: one picture, or a video."""


class Search(Protocol):
    """What finds the faces of one file."""

    def __call__(self, image: np.ndarray) -> list[CutFace]:
        """From a frame, RGB `uint8` `(H, W, 3)`, to its faces."""

    def notes(self) -> list[str]:
        """What a reader should know of the search, in plain words."""


def read_faces(
    file: SourceFile, options: ScanOptions, find_faces: FindFaces, on_progress: OnProgress | None
) -> Iterator[FoundFace]:
    """The faces of one file, frame by frame; a frame is dropped before the next one is decoded.

    Whatever is wrong with the file ends up in `file.error`; nothing is raised.

    Args:
        file: What to read; `kind`, `error`, `duration`, `frames` and `notes` are filled in.
        options: What of it.
        find_faces: A `FaceFinder` or `WholeImages`.
        on_progress: Called with the path and the share that was read after each frame.
    """
    if file.error or file.skipped:
        return
    tracker = Tracker(max_gap=max(2.0, 4 * options.every))
    search: Search | None = None
    try:
        for number, time, image in _frames(file, options):
            search = search or find_faces.begin(still=file.kind == "image")
            faces = search(image)
            tracks = tracker.update(
                time,
                [f.box for f in faces],
                [f.landmarks for f in faces],
                [look(f.image) for f in faces],
                frame_size=(image.shape[1], image.shape[0]),
            )
            file.frames += 1
            for f, track in zip(faces, tracks, strict=True):
                yield FoundFace(f.image, f.points, number, time, f.box, f.score, sharpness(f.image), track)
            if on_progress:
                on_progress(file.path, _share(time, file, options))
    except MediaError as error:
        file.error = str(error)
    except Exception as error:  # one file that trips a decoder must not cost the others their verdict
        log.debug("while reading %s", file.path, exc_info=True)
        file.error = f"{file.path}: could not be processed ({type(error).__name__}: {error})"
    file.notes += search.notes() if search is not None else []
    if file.error and file.frames and file.kind == "video":
        file.notes.append(f"the file is damaged: judged by the {file.frames} frames that could be decoded")


def _share(time: float, file: SourceFile, options: ScanOptions) -> float:
    end = min(file.duration or 0.0, options.end or float("inf"))
    return min(0.99, (time - options.start) / (end - options.start)) if end > options.start else 0.0


def _frames(file: SourceFile, options: ScanOptions) -> Iterator[tuple[int, float, np.ndarray]]:
    from sficonv.media.images import read_picture
    from sficonv.media.kinds import media_kind

    if file.image is not None:
        image, file.image, file.kind = file.image, None, "image"
        yield 0, 0.0, image
        return
    file.kind = media_kind(file.path)
    if file.kind == "image":
        picture = read_picture(file.path, max_pixels=options.max_pixels)
        file.notes += filter(None, [*picture.notes, image_doubt(file.path)])
        file.error = picture.damage or None
        yield 0, 0.0, picture.pixels
        return
    from itertools import islice

    from sficonv.media.video import iter_frames, probe

    info = probe(file.path, stream=options.video_stream)
    file.duration = info.duration or None
    _check_limits(info, options)
    file.notes += filter(None, [*info.notes, video_doubt(info)])
    sampled = iter_frames(file.path, stream=options.video_stream, **_sampling(info, options, file.notes))
    for frame in islice(sampled, options.max_frames):
        yield frame.index, frame.time, frame.image


def _check_limits(info: VideoInfo, options: ScanOptions) -> None:
    if info.width * info.height > options.max_pixels:
        raise MediaError(
            f"{info.path}: {info.width} x {info.height} pixels is more than the limit of "
            f"{options.max_pixels:,}; make it smaller, or raise max_pixels "
            "(scan --max-pixels, serve --max-megapixels)"
        )
    if options.max_duration is not None and info.duration > options.max_duration:
        raise MediaError(
            f"{info.path}: {info.duration:.0f} s is longer than the limit of {options.max_duration:.0f} s "
            "(--max-duration)"
        )
    if info.duration and options.start >= info.duration:
        raise MediaError(
            f"{info.path}: start lies at {options.start:g} s, but the video is {info.duration:.1f} s long"
        )


def _sampling(info: VideoInfo, options: ScanOptions, notes: list[str]) -> dict[str, Any]:
    """Which frames of a video: one every so often, or, of a long one, as many as allowed, evenly spread."""
    end = min(info.duration, options.end if options.end is not None else float("inf"))
    length = end - options.start
    if length / options.every <= options.max_frames:
        return {"every": options.every, "start": options.start, "end": options.end}
    step = length / options.max_frames
    notes.append(
        f"long video: {options.max_frames} frames looked at, one every {step:.1f} s; "
        "a shorter forged passage may be missed"
    )
    return {"times": [options.start + step * (i + 0.5) for i in range(options.max_frames)]}


class FaceFinder:
    """Finds the faces of frames and cuts them as the detector was trained on.

    Args:
        margin: Side of the square relative to the longer side of the face box.
        size: Of the crops, in pixels.
        smallest: Shorter side of a face, in pixels, from which it is looked for.
    """

    def __init__(self, *, margin: float, size: int, smallest: int) -> None:
        from sficonv.faces.detectors import YuNet

        self.margin, self.size, self.smallest = margin, size, smallest
        self._detector = YuNet()

    def begin(self, *, still: bool) -> Search:
        """Start with a new file: one picture, or a video."""
        return _CropSearch(self, FaceSearch(self._detector, smallest=self.smallest, still=still))


class _CropSearch:
    def __init__(self, finder: FaceFinder, search: FaceSearch) -> None:
        self._finder, self._search = finder, search
        self.notes = search.notes

    def __call__(self, image: np.ndarray) -> list[CutFace]:
        margin, size = self._finder.margin, self._finder.size
        cut = []
        for face, turns in ((found.face, found.turns) for found in self._search(image)):
            crop, points = crop_face(image, face, margin=margin, size=size)
            crop, points = turned_upright(crop, points / np.float32(size), turns)
            cut.append(CutFace(crop, face.box, face.landmarks, face.score, points))
        return cut


class WholeImages:
    """The images are crops already: one face each, all of it."""

    def begin(self, *, still: bool) -> Search:
        """Start with a new file."""
        return self

    def __call__(self, image: np.ndarray) -> list[CutFace]:
        """The whole image."""
        height, width = image.shape[:2]
        corners = np.array(
            [[0, 0], [width, 0], [width / 2, height / 2], [0, height], [width, height]], np.float32
        )
        return [CutFace(image, (0.0, 0.0, float(width), float(height)), corners, 1.0)]

    def notes(self) -> list[str]:
        """Nothing was looked for."""
        return []


def sharpness(crop: np.ndarray) -> float:
    """Variance of the Laplacian of the crop in grey at 256 px: near 0 for a blur, hundreds where sharp."""
    import cv2

    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(resize(grey, (256, 256)), cv2.CV_64F).var())
