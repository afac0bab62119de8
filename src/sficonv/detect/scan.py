"""Images, videos and folders in, one verdict per file out.

Frames are decoded one at a time, faces are cropped at once and the frame is dropped; crops wait in one queue
over all files until a batch is full or they take too much memory. Memory therefore grows neither with the
length of a video nor with the number of large photographs.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sficonv.detect.detector import Detector, Verdict
from sficonv.detect.results import Evidence, FaceScore, ScanResult, reserved, shrunk
from sficonv.detect.tracks import Box, Tracker, look
from sficonv.detect.verdict import judge_tracks, reasons_for_doubt
from sficonv.errors import MediaError

log = logging.getLogger(__name__)

Paths = str | Path | Sequence[str | Path]
OnProgress = Callable[[Path, float], None]

EVIDENCE_PER_TRACK = 3
EVIDENCE_PER_FILE = 12
EVIDENCE_SIDE = 512
"""Longer side, in pixels, of the crops kept to be shown."""
QUEUE_BYTES = 200e6
"""The batch is judged early when the waiting crops take more than this."""


def scan(
    paths: Paths,
    *,
    weights: str | Path = "default",
    crops: bool = False,
    every: float = 0.5,
    max_frames: int = 240,
    min_face: int = 40,
    batch_size: int = 32,
    device: str | None = None,
    report: str | Path | None = None,
) -> list[ScanResult]:
    """Say of each image and video whether its faces look forged.

    Per file: every face of every sampled frame gets P(fake); the faces of one person over time form a track,
    and a track's score is the mean over its frames without the highest and lowest tenth. The file's score is
    the highest track score, that of the most suspicious person, among the tracks that can be judged: with at
    least three frames (or as many as the longest has), faces of at least `min_face` pixels and a face
    detector that is sure (0.8). An image counts as one frame. Between the edges of the uncertain band of the
    model card the verdict is "uncertain"; it is also where no track can be judged.

    A file that cannot be read gets the verdict "error" and the message; the others are still judged. A
    damaged video is judged by the frames that could be decoded and has both a verdict and an error.

    Args:
        paths: Files and folders. Folders are searched for images and videos, also below.
        weights: A `.safetensors` file with its model card beside it, or "default" for the shipped detector.
        crops: The images are face crops already: judge them whole, without looking for faces.
        every: Seconds between the sampled frames of a video.
        max_frames: Most frames sampled per video; a longer video is sampled evenly over its whole length.
        min_face: Shorter side of a face, in pixels, below which it is too small to decide a verdict.
        batch_size: Faces judged at once.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU where there is one.
        report: Write an HTML report to this file: verdicts, faces, score over time, attention maps.

    Returns:
        One result per file, in the order of the input.

    Raises:
        WeightsError: If the weights cannot be used.
        ValueError: If an option makes no sense.
        OSError: If the report cannot be written; found out before the work.

    Example:
        >>> results = scan(["holiday.jpg", "clip.mp4"])  # doctest: +SKIP
        >>> results[0].verdict, results[0].p_fake  # doctest: +SKIP
        ('real', 0.04)
    """
    from sficonv.detect.progress import file_progress

    options = _Options(crops, every, max_frames, min_face)
    target = _report_path(report)
    with reserved(target) if target else nullcontext():
        detector = Detector.from_pretrained(weights, device=device, batch_size=batch_size)
        files = list(find_files(paths))
        with file_progress(len(files), "scanning") as on_progress:
            found = _scan_files(
                files, detector, options, evidence=target is not None, on_progress=on_progress
            )
            if target is None:
                return list(found)
            from sficonv.detect.report import write_report

            return write_report(
                found, target, detector, options={"every": every, "crops": crops, "min_face": min_face}
            )


def iter_scan(
    paths: Paths,
    *,
    weights: str | Path | Detector = "default",
    crops: bool = False,
    every: float = 0.5,
    max_frames: int = 240,
    min_face: int = 40,
    batch_size: int = 32,
    device: str | None = None,
    evidence: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[ScanResult]:
    """`scan`, one result at a time, each as soon as its last face is judged.

    Args:
        paths: As for `scan`.
        weights: As for `scan`, or a `Detector` that is loaded already.
        crops: As for `scan`.
        every: As for `scan`.
        max_frames: As for `scan`.
        min_face: As for `scan`.
        batch_size: As for `scan`; a loaded detector keeps its own.
        device: As for `scan`; a loaded detector keeps its own.
        evidence: Keep the crops of the strongest faces in the results (at most 12 per file).
        on_progress: Called with a file and the share of it that was read, in [0, 1], after each frame.

    Raises:
        WeightsError: If the weights cannot be used.
        ValueError: If an option makes no sense.

    Example:
        >>> for result in iter_scan("inbox/"):  # doctest: +SKIP
        ...     print(result.path, result.verdict)
    """
    options = _Options(crops, every, max_frames, min_face)
    if not isinstance(weights, Detector):
        weights = Detector.from_pretrained(weights, device=device, batch_size=batch_size)
    return _scan_files(find_files(paths), weights, options, evidence=evidence, on_progress=on_progress)


def find_files(paths: Paths) -> Iterator[tuple[Path, str | None]]:
    """The files `paths` stand for, each once, with `None` or what is already known to be wrong with it."""
    from sficonv.data.media import iter_media

    seen: set[Path] = set()
    for path in [paths] if isinstance(paths, str | Path) else paths:
        try:
            found = iter_media([Path(path)])
        except (MediaError, OSError, ValueError) as error:
            yield Path(path), str(error)
            continue
        yield from ((file, None) for file in found if file not in seen)
        seen.update(found)
        if not found:
            yield Path(path), f"{path}: no images or videos in this folder"


@dataclass(frozen=True)
class _Options:
    crops: bool
    every: float
    max_frames: int
    min_face: int

    def __post_init__(self) -> None:
        if not 0 < self.every < float("inf"):
            raise ValueError(f"every must be a positive number of seconds, got {self.every}")
        if self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {self.max_frames}")
        if self.min_face < 0:
            raise ValueError(f"min_face must not be negative, got {self.min_face}")


def _report_path(report: str | Path | None) -> Path | None:
    """Refuse before the work what would fail after it, or would overwrite somebody's photograph."""
    if report is None:
        return None
    path = Path(report)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the report is an HTML file: give it a name that ends in .html, not {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the report's file")
    return path


@dataclass
class _File:
    """One input while its faces wait for their scores."""

    path: Path
    kind: Literal["image", "video"] | None = None
    error: str | None = None
    duration: float | None = None
    frames: int = 0
    read: bool = False
    waiting: int = 0
    faces: list[FaceScore] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    def keep(self, crop: np.ndarray) -> None:
        """Keep the crop of the face just judged if it is among the strongest of its track and file."""
        self.evidence.append(Evidence(len(self.faces) - 1, shrunk(crop, EVIDENCE_SIDE)))
        self.evidence.sort(key=lambda e: -self.faces[e.face].p_fake)
        track = self.faces[-1].track
        same = [e for e in self.evidence if self.faces[e.face].track == track]
        if len(same) > EVIDENCE_PER_TRACK:
            self.evidence = [e for e in self.evidence if e is not same[-1]]
        del self.evidence[EVIDENCE_PER_FILE:]

    def result(self, detector: Detector, min_face: int) -> ScanResult:
        video = self.kind == "video"
        tracks = judge_tracks(self.faces, min_face=min_face, video=video)
        doubts = reasons_for_doubt(
            self.faces, tracks, min_face=min_face, frames_sampled=self.frames, video=video
        )
        verdict: Verdict
        if tracks:
            p_fake: float | None = tracks[0].p_fake
            verdict = detector.verdict(tracks[0].p_fake) if tracks[0].decides else "uncertain"
        else:
            p_fake, verdict = None, "no_face" if self.frames else "error"
        return ScanResult(
            path=self.path,
            kind=self.kind,
            p_fake=p_fake,
            verdict=verdict,
            error=self.error,
            faces=tuple(self.faces),
            tracks=tracks,
            frames_sampled=self.frames,
            duration=self.duration,
            notes=(*self.notes, *doubts),
            evidence=tuple(self.evidence),
        )


@dataclass(frozen=True)
class _Crop:
    """A face on its way to the model."""

    file: _File
    image: np.ndarray
    frame: int
    time: float
    box: Box
    score: float
    sharpness: float
    track: int


def _scan_files(
    files: Iterable[tuple[Path, str | None]],
    detector: Detector,
    options: _Options,
    *,
    evidence: bool,
    on_progress: OnProgress | None,
) -> Iterator[ScanResult]:
    find_faces = _whole_image if options.crops else _face_finder(detector)
    queue: deque[_File] = deque()
    batch: list[_Crop] = []

    def judge() -> None:
        for crop, p_fake in zip(batch, detector.scores([c.image for c in batch]), strict=True):
            crop.file.waiting -= 1
            crop.file.faces.append(
                FaceScore(
                    crop.frame, crop.time, crop.box, crop.score, crop.sharpness, float(p_fake), crop.track
                )
            )
            if evidence:
                crop.file.keep(crop.image)
        batch.clear()

    def finished() -> Iterator[ScanResult]:
        while queue and queue[0].read and not queue[0].waiting:
            yield queue.popleft().result(detector, options.min_face)

    for path, problem in files:
        file = _File(path, error=problem)
        queue.append(file)
        for crop in _read(file, options, find_faces, on_progress):
            file.waiting += 1
            batch.append(crop)
            if len(batch) >= detector.batch_size or sum(c.image.nbytes for c in batch) > QUEUE_BYTES:
                judge()
        file.read = True
        if on_progress:
            on_progress(path, 1.0)
        yield from finished()
    judge()
    yield from finished()


def _read(
    file: _File,
    options: _Options,
    find_faces: Callable[[np.ndarray], list[tuple[np.ndarray, Box, np.ndarray, float]]],
    on_progress: OnProgress | None,
) -> Iterator[_Crop]:
    """The faces of one file. Whatever is wrong with it ends up in `file.error`; nothing is raised."""
    if file.error:
        return
    tracker = Tracker(max_gap=max(2.0, 4 * options.every))
    try:
        for number, time, image in _frames(file, options):
            faces = find_faces(image)
            tracks = tracker.update(
                time, [f[1] for f in faces], [f[2] for f in faces], [look(f[0]) for f in faces]
            )
            file.frames += 1
            for (crop, box, _, score), track in zip(faces, tracks, strict=True):
                yield _Crop(file, crop, number, time, box, score, sharpness(crop), track)
            if on_progress:
                on_progress(file.path, min(0.99, time / file.duration) if file.duration else 0.0)
    except MediaError as error:
        file.error = str(error)
    except Exception as error:  # one file that trips a decoder must not cost the others their verdict
        log.debug("while reading %s", file.path, exc_info=True)
        file.error = f"{file.path}: could not be processed ({type(error).__name__}: {error})"
    if file.error and file.frames and file.kind == "video":
        file.notes.append(f"the file is damaged: judged by the {file.frames} frames that could be decoded")


def _frames(file: _File, options: _Options) -> Iterator[tuple[int, float, np.ndarray]]:
    from sficonv.data.media import media_kind, read_image

    file.kind = media_kind(file.path)
    if file.kind == "image":
        yield 0, 0.0, read_image(file.path)
        return
    from itertools import islice

    from sficonv.data.video import iter_frames, probe, sample_times

    info = probe(file.path)
    file.duration = info.duration or None
    wanted: dict[str, Any] = {"every": options.every}
    if info.duration / options.every > options.max_frames:
        wanted = {"times": sample_times(info, options.max_frames)}
        file.notes.append(
            f"long video: {options.max_frames} frames looked at, one every "
            f"{info.duration / options.max_frames:.1f} s; a shorter forged passage may be missed"
        )
    for frame in islice(iter_frames(file.path, **wanted), options.max_frames):
        yield frame.index, frame.time, frame.image


def _face_finder(
    detector: Detector,
) -> Callable[[np.ndarray], list[tuple[np.ndarray, Box, np.ndarray, float]]]:
    from sficonv.data.faces import FaceDetector, crop_face

    find = FaceDetector()
    return lambda image: [
        (
            crop_face(image, face, margin=detector.crop_margin, size=detector.crop_size)[0],
            face.box,
            face.landmarks,
            face.score,
        )
        for face in find(image)
    ]


def _whole_image(image: np.ndarray) -> list[tuple[np.ndarray, Box, np.ndarray, float]]:
    height, width = image.shape[:2]
    box = (0.0, 0.0, float(width), float(height))
    corners = np.array(
        [[0, 0], [width, 0], [width / 2, height / 2], [0, height], [width, height]], np.float32
    )
    return [(image, box, corners, 1.0)]


def sharpness(crop: np.ndarray) -> float:
    """Variance of the Laplacian of the crop in grey at 256 px: near 0 for a blur, hundreds where sharp."""
    import cv2

    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    if grey.shape != (256, 256):
        shrinks = min(grey.shape) > 256
        grey = cv2.resize(grey, (256, 256), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
