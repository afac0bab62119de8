"""Images, videos and folders in, one verdict per file out.

Frames are decoded one at a time, faces are cropped at once and the frame is dropped; crops wait in one queue
over all files until a batch is full or they take too much memory. Memory therefore grows neither with the
length of a video nor with the number of large photographs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sficonv.detect.annotate import AnnotatedCopies
from sficonv.detect.detector import Detector, Verdict
from sficonv.detect.reading import (
    FindFaces,
    FoundFace,
    OnProgress,
    Paths,
    ReadOptions,
    SourceFile,
    face_finder,
    find_files,
    read_faces,
    sharpness,
    whole_image,
)
from sficonv.detect.results import Evidence, FaceScore, ScanResult, reserved
from sficonv.detect.verdict import judge_tracks, reasons_for_doubt
from sficonv.pages import shrunk

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
    start: float = 0.0,
    end: float | None = None,
    min_face: int = 40,
    batch_size: int = 32,
    device: str | None = None,
    report: str | Path | None = None,
    annotate: str | Path | None = None,
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
        start: Begin here in each video (seconds).
        end: Stop before this time in each video (seconds); by default at its end.
        min_face: Shorter side of a face, in pixels, below which it is too small to decide a verdict.
        batch_size: Faces judged at once.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU where there is one.
        report: Write an HTML report to this file: verdicts, faces, score over time, attention maps.
        annotate: Write copies with the faces boxed in the colour of their score: a file name for one input,
            a folder for several.

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

    options = ReadOptions(crops, every, max_frames, min_face, start, end)
    target = _report_path(report)
    with reserved(target) if target else nullcontext():
        detector = Detector.from_pretrained(weights, device=device, batch_size=batch_size)
        files = list(find_files(paths))
        copies = AnnotatedCopies(annotate, [path for path, _ in files]) if annotate is not None else None
        with file_progress(len(files), "scanning") as on_progress:
            found = _scan_files(
                files, detector, options, evidence=target is not None, on_progress=on_progress
            )
            if target is None:
                results = list(found)
            else:
                from sficonv.detect.report import write_report

                shown = {"every": every, "crops": crops, "min_face": min_face}
                results = write_report(found, target, detector, options=shown)
        if copies is not None:
            with file_progress(len(files), "annotating") as on_progress:
                for result in results:
                    copies.write(result, detector.band)
                    on_progress(result.path, 1.0)
        return results


def iter_scan(
    paths: Paths,
    *,
    weights: str | Path | Detector = "default",
    batch_size: int = 32,
    device: str | None = None,
    evidence: bool = False,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Iterator[ScanResult]:
    """`scan`, one result at a time, each as soon as its last face is judged.

    Args:
        paths: As for `scan`.
        weights: As for `scan`, or a `Detector` that is loaded already.
        batch_size: As for `scan`; a loaded detector keeps its own.
        device: As for `scan`; a loaded detector keeps its own.
        evidence: Keep the crops of the strongest faces in the results (at most 12 per file).
        on_progress: Called with a file and the share of it that was read, in [0, 1], after each frame.
        **options: `crops`, `every`, `max_frames`, `start`, `end` and `min_face` of `scan`, and the limits
            `max_pixels` and `max_duration` (seconds), see `ReadOptions`.

    Raises:
        WeightsError: If the weights cannot be used.
        ValueError: If an option makes no sense.

    Example:
        >>> for result in iter_scan("inbox/", every=1.0):  # doctest: +SKIP
        ...     print(result.path, result.verdict)
    """
    chosen = ReadOptions(**options)
    if not isinstance(weights, Detector):
        weights = Detector.from_pretrained(weights, device=device, batch_size=batch_size)
    return _scan_files(find_files(paths), weights, chosen, evidence=evidence, on_progress=on_progress)


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


def scan_image(
    image: np.ndarray, detector: Detector, *, evidence: bool = False, **options: Any
) -> ScanResult:
    """Judge one image that is in memory.

    Args:
        image: RGB `uint8` `(H, W, 3)`.
        detector: Loaded.
        evidence: As for `iter_scan`.
        **options: As for `iter_scan`.

    Returns:
        The result, with the path `"image"`.

    Raises:
        ValueError: If an option makes no sense, or the image has another type or shape.

    Example:
        >>> from skimage.data import astronaut
        >>> len(scan_image(astronaut(), Detector.from_pretrained()).faces)
        1
    """
    chosen = ReadOptions(**options)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image must be RGB uint8 (H, W, 3), got {image.dtype} {image.shape}")
    file = _File(SourceFile(Path("image"), kind="image", frames=1))
    found = [
        FoundFace(cut.image, cut.points, 0, 0.0, cut.box, cut.score, sharpness(cut.image), track)
        for track, cut in enumerate(_find_faces(detector, chosen)(image))
    ]
    for face, p_fake in zip(found, detector.scores([f.image for f in found]), strict=True):
        file.judged(face, float(p_fake), evidence=evidence)
    return file.result(detector, chosen.min_face)


def _find_faces(detector: Detector, options: ReadOptions) -> FindFaces:
    if options.crops:
        return whole_image
    return face_finder(margin=detector.crop_margin, size=detector.crop_size)


@dataclass
class _File:
    """One input while its faces wait for their scores."""

    source: SourceFile
    read: bool = False
    waiting: int = 0
    faces: list[FaceScore] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    def judged(self, found: FoundFace, p_fake: float, *, evidence: bool) -> None:
        """Note the score of a face."""
        self.faces.append(
            FaceScore(found.frame, found.time, found.box, found.score, found.sharpness, p_fake, found.track)
        )
        if evidence:
            self.keep(found)

    def keep(self, found: FoundFace) -> None:
        """Keep the crop of the face just judged if it is among the strongest of its track and file."""
        self.evidence.append(Evidence(len(self.faces) - 1, shrunk(found.image, EVIDENCE_SIDE), found.points))
        self.evidence.sort(key=lambda e: -self.faces[e.face].p_fake)
        track = self.faces[-1].track
        same = [e for e in self.evidence if self.faces[e.face].track == track]
        if len(same) > EVIDENCE_PER_TRACK:
            self.evidence = [e for e in self.evidence if e is not same[-1]]
        del self.evidence[EVIDENCE_PER_FILE:]

    def result(self, detector: Detector, min_face: int) -> ScanResult:
        source = self.source
        video = source.kind == "video"
        tracks = judge_tracks(self.faces, min_face=min_face, video=video)
        doubts = reasons_for_doubt(
            self.faces, tracks, min_face=min_face, frames_sampled=source.frames, video=video
        )
        verdict: Verdict
        if tracks:
            p_fake: float | None = tracks[0].p_fake
            verdict = detector.verdict(tracks[0].p_fake) if tracks[0].decides else "uncertain"
        else:
            p_fake, verdict = None, "no_face" if source.frames else "error"
        return ScanResult(
            path=source.path,
            kind=source.kind,
            p_fake=p_fake,
            verdict=verdict,
            error=source.error,
            faces=tuple(self.faces),
            tracks=tracks,
            frames_sampled=source.frames,
            duration=source.duration,
            notes=(*source.notes, *doubts),
            evidence=tuple(self.evidence),
        )


def _scan_files(
    files: Iterable[tuple[Path, str | None]],
    detector: Detector,
    options: ReadOptions,
    *,
    evidence: bool,
    on_progress: OnProgress | None,
) -> Iterator[ScanResult]:
    find_faces = _find_faces(detector, options)
    queue: deque[_File] = deque()
    batch: list[tuple[_File, FoundFace]] = []

    def judge() -> None:
        for (file, found), p_fake in zip(batch, detector.scores([f.image for _, f in batch]), strict=True):
            file.waiting -= 1
            file.judged(found, float(p_fake), evidence=evidence)
        batch.clear()

    def finished() -> Iterator[ScanResult]:
        while queue and queue[0].read and not queue[0].waiting:
            yield queue.popleft().result(detector, options.min_face)

    for path, problem in files:
        file = _File(SourceFile(path, error=problem))
        queue.append(file)
        for found in read_faces(file.source, options, find_faces, on_progress):
            file.waiting += 1
            batch.append((file, found))
            full = sum(f.image.nbytes for _, f in batch) > QUEUE_BYTES
            if len(batch) >= detector.batch_size or full:
                judge()
        file.read = True
        if on_progress:
            on_progress(path, 1.0)
        yield from finished()
    judge()
    yield from finished()
