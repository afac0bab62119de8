"""Files in, one verdict per file out, by whatever judges face crops.

Frames are decoded one at a time, faces are cropped at once and the frame is dropped; crops wait in one queue
over all files until a batch is full or they take too much memory. Memory therefore grows neither with the
length of a video nor with the number of large photographs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sficonv.detect.credentials import read_credentials
from sficonv.detect.options import ScanOptions
from sficonv.detect.reading import (
    FaceFinder,
    FindFaces,
    FoundFace,
    OnProgress,
    SourceFile,
    WholeImages,
    read_faces,
)
from sficonv.detect.results import Evidence, FaceScore, ScanResult, Verdict
from sficonv.detect.verdict import judge_tracks, reasons_for_doubt
from sficonv.pages import shrunk

EVIDENCE_PER_TRACK = 3
EVIDENCE_PER_FILE = 12
EVIDENCE_SIDE = 512
"""Longer side, in pixels, of the crops kept to be shown."""
QUEUE_BYTES = 200e6
"""The batch is judged early when the waiting crops take more than this."""


class Judge(Protocol):
    """What a scan asks of a detector.

    Attributes:
        batch_size: Crops that it likes to be given at once.
        crop_margin: Side of the square it was trained on, relative to the longer side of the face box.
        crop_size: Side of its crops, in pixels.
    """

    batch_size: int
    crop_margin: float
    crop_size: int

    def scores(self, crops: list[np.ndarray], tracks: Sequence[Hashable]) -> np.ndarray:
        """P(fake) of crops, RGB `uint8` `(H, W, 3)`: `(len(crops),)` in [0, 1]. `tracks` says whose."""

    def verdict(self, p_fake: float) -> Verdict:
        """What a score means."""


def scan_files(
    files: Iterable[SourceFile],
    judge: Judge,
    options: ScanOptions,
    *,
    evidence: bool = False,
    on_progress: OnProgress | None = None,
) -> Iterator[ScanResult]:
    """Judge files, one result after the other, each as soon as its last face is judged.

    Args:
        files: From `reading.find_files`.
        judge: The detector.
        options: What of the files is looked at.
        evidence: Keep the crops of the strongest faces in the results (at most 12 per file).
        on_progress: Called with a file and the share of it that was read, in [0, 1], after each frame.
    """
    find_faces = _find_faces(judge, options)
    queue: deque[_File] = deque()
    batch: list[tuple[_File, FoundFace]] = []

    def judge_batch() -> None:
        tracks = [(id(file), found.track) for file, found in batch]
        scores = judge.scores([found.image for _, found in batch], tracks)
        for (file, found), p_fake in zip(batch, scores, strict=True):
            file.waiting -= 1
            file.judged(found, float(p_fake), evidence=evidence)
        batch.clear()

    def finished() -> Iterator[ScanResult]:
        while queue and queue[0].read and not queue[0].waiting:
            yield queue.popleft().result(judge, options.min_face)

    for source in files:
        file = _File(source, _facts(source))
        queue.append(file)
        for found in read_faces(source, options, find_faces, on_progress):
            file.waiting += 1
            batch.append((file, found))
            full = sum(f.image.nbytes for _, f in batch) > QUEUE_BYTES
            if len(batch) >= judge.batch_size or full:
                judge_batch()
        file.read = True
        if on_progress:
            on_progress(source.path, 1.0)
        yield from finished()
    judge_batch()
    yield from finished()


def skipped_result(source: SourceFile) -> ScanResult:
    """The result of a file that is neither an image nor a video."""
    return ScanResult(source.path, None, None, "skipped", notes=(source.skipped,))


def _facts(source: SourceFile) -> tuple[str, ...]:
    if source.image is not None or source.error or source.skipped:
        return ()
    return tuple(filter(None, [read_credentials(source.path)]))


def _find_faces(judge: Judge, options: ScanOptions) -> FindFaces:
    if options.crops:
        return WholeImages()
    return FaceFinder(margin=judge.crop_margin, size=judge.crop_size, smallest=options.min_face)


@dataclass
class _File:
    """One input while its faces wait for their scores."""

    source: SourceFile
    facts: tuple[str, ...] = ()
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

    def result(self, judge: Judge, min_face: int) -> ScanResult:
        source = self.source
        if source.skipped:
            return skipped_result(source)
        video = source.kind == "video"
        tracks = judge_tracks(self.faces, min_face=min_face, video=video)
        doubts = reasons_for_doubt(
            self.faces, tracks, min_face=min_face, frames_sampled=source.frames, video=video
        )
        verdict: Verdict
        if tracks:
            p_fake: float | None = tracks[0].p_fake
            verdict = judge.verdict(tracks[0].p_fake) if tracks[0].decides else "uncertain"
        else:
            # In what could not be read to its end, a face may be where nobody has looked.
            p_fake, verdict = None, "no_face" if source.frames and not source.error else "error"
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
            facts=self.facts,
            evidence=tuple(self.evidence),
        )
