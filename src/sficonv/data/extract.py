"""One source file -> its face crops. This is what the worker processes run."""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from sficonv.data.faces import Face, FaceDetector, crop_face
from sficonv.data.manifest import atomic_file
from sficonv.data.media import media_kind, read_image
from sficonv.data.source import SourceItem, text_hash
from sficonv.data.video import Frame, iter_frames, probe, sample_times
from sficonv.errors import MediaError


@dataclass(frozen=True)
class CropOptions:
    """How faces are found and cut; the same for all files of a prepared folder."""

    frames: int
    margin: float
    size: int
    faces: Literal["largest", "all"]
    detect: bool
    min_score: float


@dataclass(frozen=True)
class Part:
    """What became of one source file; stored as JSON beside the crops so that a run can resume.

    Attributes:
        source: Path below the source folder.
        stamp: Size and time of modification of the file when it was read: a changed file is done again.
        crops: One dictionary per crop: path, frame, time, face, box, landmarks, sha256.
        sampled: Frames looked at.
        faceless: Of these, frames without a face.
        problem: Reason and detail, both empty if there is none.
    """

    source: str
    stamp: str
    crops: list[dict[str, Any]] = field(default_factory=list)
    sampled: int = 0
    faceless: int = 0
    reason: str = ""
    detail: str = ""


def prepare_item(item: SourceItem, source: str, out: Path, options: CropOptions) -> Part:
    """Find, cut and write the faces of one video or image, then its part file.

    Args:
        item: The file and where its crops go.
        source: The file's path below the source folder.
        out: The prepared folder.
        options: How to find and cut.

    Returns:
        The part, as written.

    Raises:
        OSError: The crops cannot be written (disk full, no permission).
    """
    stamp = file_stamp(item.path)
    crops: list[dict[str, Any]] = []
    sampled = faceless = 0
    reason = detail = ""
    try:
        kind = media_kind(item.path)
        for frame in _video_frames(item, options) if kind == "video" else _image_frame(item):
            sampled += 1
            cut = list(_cut(frame.image, options))
            faceless += not cut
            for number, (face, crop, landmarks) in enumerate(cut):
                within = f"/{frame.index:06d}" if kind == "video" else ""
                path = f"crops/{item.name}{within}_{number}.png"
                crops.append(
                    {
                        "path": path,
                        "frame": frame.index,
                        "time": frame.time,
                        "face": number,
                        "box": list(face.box),
                        "landmarks": [float(x) for x in landmarks.ravel()],
                        "sha256": _write_png(out / path, crop),
                    }
                )
    except MediaError as error:
        reason, detail = ("truncated" if sampled else "unreadable"), str(error)
    except OSError:  # the output cannot be written: nothing that another file could do better
        raise
    except Exception as error:  # whatever a decoder does on one file, the others go on
        reason, detail = "failed", f"{item.path}: {type(error).__name__}: {error}"
    if not reason and not crops:
        reason, detail = "no_face", f"{item.path}: no face found in {_frames_text(sampled)}"
    elif not reason and faceless:
        reason, detail = "some_frames_without_face", f"{item.path}: no face in {faceless} of {sampled} frames"
    part = Part(source, stamp, crops, sampled, faceless, reason, detail)
    write_part(out, part)
    return part


def part_file(out: Path, source: str) -> Path:
    """Where the part of a source file lies."""
    digest = text_hash(source)
    return out / ".parts" / digest[:2] / f"{digest[2:32]}.json"


def write_part(out: Path, part: Part) -> None:
    """Write a part so that it is there whole or not at all."""
    file = part_file(out, part.source)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(asdict(part)), encoding="utf-8")


def read_part(out: Path, source: str) -> Part | None:
    """Read the part of a source file; `None` if it was not finished or is damaged."""
    try:
        return Part(**json.loads(part_file(out, source).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def file_stamp(path: Path) -> str:
    """Size and modification time; a file that cannot be looked at has none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def start_worker() -> None:
    """Prepare a worker process: one thread, Ctrl-C left to the parent, and no life after the parent's."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _image_frame(item: SourceItem) -> Iterator[Frame]:
    yield Frame(item.frame, math.nan, read_image(item.path))


def _video_frames(item: SourceItem, options: CropOptions) -> Iterator[Frame]:
    times = sample_times(probe(item.path), options.frames)
    # One thread per worker: the workers share the processors among themselves.
    return iter_frames(item.path, times=times, threads=1)


def _cut(image: np.ndarray, options: CropOptions) -> Iterator[tuple[Face, np.ndarray, np.ndarray]]:
    faces = _detector(options.min_score)(image)
    if not options.detect:
        yield _whole(image, faces, options.size)
        return
    for face in faces if options.faces == "all" else faces[:1]:
        yield face, *crop_face(image, face, margin=options.margin, size=options.size)


def _whole(image: np.ndarray, faces: list[Face], size: int) -> tuple[Face, np.ndarray, np.ndarray]:
    """The image is a crop already: resized to the square, landmarks where the detector finds a face."""
    height, width = image.shape[:2]
    shrinking = size < max(height, width)
    crop = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
    points = faces[0].landmarks if faces else np.full((5, 2), np.nan, np.float32)
    score = faces[0].score if faces else math.nan
    box = (0.0, 0.0, float(width), float(height))
    return Face(box, points, score), crop, points * np.array([size / width, size / height], np.float32)


@cache
def _detector(min_score: float) -> FaceDetector:
    return FaceDetector(min_score=min_score)


def _write_png(file: Path, crop: np.ndarray) -> str:
    sound, data = cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    if not sound:
        raise ValueError("PNG encoding failed")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.tobytes())
    return hashlib.sha256(data.tobytes()).hexdigest()


def _frames_text(sampled: int) -> str:
    return "the image" if sampled == 1 else f"{sampled} frames"
