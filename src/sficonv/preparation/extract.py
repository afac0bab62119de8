"""One source file -> its face crops. This is what the worker processes run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sficonv.datasets.source import SourceItem, text_hash
from sficonv.errors import MediaError
from sficonv.faces.alignment import align_face
from sficonv.faces.detectors import DetectorName, create_detector
from sficonv.faces.face import Face, FaceDetector, crop_face
from sficonv.faces.tracking import Tracker, look
from sficonv.files import atomic_file
from sficonv.media.archives import frame_number, read_archive
from sficonv.media.images import read_picture, write_png
from sficonv.media.kinds import media_kind
from sficonv.media.resize import resize
from sficonv.media.video import Frame, VideoInfo, iter_frames, probe, sample_times
from sficonv.preparation.forging import add_forgeries
from sficonv.preparation.options import CropOptions
from sficonv.preparation.persons import Masks, forged, keep
from sficonv.preparation.watchdog import end_with_parent
from sficonv.splits.near_duplicates import perceptual_hash


@dataclass(frozen=True)
class Part:
    """What became of one source file; stored as JSON beside the crops so that a run can resume.

    Attributes:
        source: Path below the source folder.
        stamp: Size and time of modification of the file when it was read: a changed file is done again.
        crops: One dictionary per crop: path, frame, time, face, track, box, landmarks, sha256, phash;
            forgeries made here have label, method, video_id and mask besides.
        sampled: Frames looked at.
        faceless: Of these, frames without a crop.
        reason, detail: Of a problem, one word and in plain words; both empty if there is none.
        notes: What was left out of a file that could be read, or may mislead, in plain words.
    """

    source: str
    stamp: str
    crops: list[dict[str, Any]] = field(default_factory=list)
    sampled: int = 0
    faceless: int = 0
    reason: str = ""
    detail: str = ""
    notes: list[str] = field(default_factory=list)


def no_watch() -> None:
    """Nobody needs to know that there is progress."""


def prepare_item(
    item: SourceItem, source: str, out: Path, options: CropOptions, progress: Callable[[], None] = no_watch
) -> Part:
    """Find, cut and write the faces of one video or image, then its part file.

    Args:
        item: The file and where its crops go.
        source: The file's path below the source folder.
        out: The prepared folder.
        options: How to find and cut.
        progress: Called after every frame.

    Returns:
        The part, as written.

    Raises:
        OSError: The crops cannot be written (disk full, no permission).
    """
    stamp = file_stamp(item.path)
    seen = _Seen(progress, only_largest=options.faces == "largest" and item.mask is None)
    reason = detail = ""
    try:
        if item.members:
            _read_sequence(item, out, options, seen)
        elif media_kind(item.path) == "video":
            _read_video(item, out, options, seen)
        else:
            picture = read_picture(item.path)
            _take(Frame(item.frame, math.nan, picture.pixels), f"crops/{item.name}", out, options, seen)
            if picture.damage:  # its notes say the same
                raise MediaError(picture.damage)
            seen.notes += picture.notes
    except MediaError as error:
        reason, detail = ("truncated" if seen.sampled else "unreadable"), str(error)
    except OSError:  # the output cannot be written: nothing that another file could do better
        raise
    except Exception as error:  # whatever a decoder does on one file, the others go on
        reason, detail = "failed", f"{item.path}: {type(error).__name__}: {error}"
    crops, doubt = _choose(item, seen, options)
    for path in {crop["path"] for crop in seen.crops} - {crop["path"] for crop in crops}:
        (out / path).unlink()
    faceless = seen.sampled - len({crop["frame"] for crop in crops})
    if not reason:
        reason, detail = doubt or _missing(item, seen, crops)
    if options.self_blend and item.label == 0:
        crops += add_forgeries(
            crops, item.video_id, out, options.self_blend, options.self_blend_points, options.seed
        )
    part = Part(source, stamp, crops, seen.sampled, faceless, reason, detail, seen.notes)
    write_part(out, part)
    return part


@dataclass
class _Seen:
    """What was found in a file so far."""

    progress: Callable[[], None]
    crops: list[dict[str, Any]] = field(default_factory=list)
    sampled: int = 0
    size: tuple[int, int] = (0, 0)  # width and height of the frames
    tracker: Tracker | None = None  # still images have none
    only_largest: bool = False  # the other faces of a frame are sure not to stay
    notes: list[str] = field(default_factory=list)


def _read_video(item: SourceItem, out: Path, options: CropOptions, seen: _Seen) -> None:
    info = probe(item.path)
    seen.notes += info.notes
    times = _times(info, item.label, options)
    seen.tracker = Tracker(max_gap=max(2.0, 4 * info.duration / len(times)))
    # One thread per worker: the workers share the processors among themselves.
    for frame in iter_frames(item.path, times=times, threads=1):
        _take(frame, f"crops/{item.name}/{frame.index:06d}", out, options, seen)


def _times(info: VideoInfo, label: int, options: CropOptions) -> list[float]:
    if options.every is None:
        return sample_times(info, options.frames)
    step, count = options.every[label]
    numbers = range(0, min(step * count, info.frames), step)
    return [number / info.fps for number in numbers]


def _read_sequence(item: SourceItem, out: Path, options: CropOptions, seen: _Seen) -> None:
    """Images of one face sequence in an archive: they have numbers and no times, so nothing is tracked."""
    count = min(options.frames, len(item.members))
    chosen = [item.members[int((i + 0.5) / count * len(item.members))] for i in range(count)]
    numbers = {frame_number(name) for name in item.members}
    for name, frame in read_archive(item.path, chosen):
        index = frame.index if len(numbers) == len(item.members) else item.members.index(name)
        _take(replace(frame, index=index), f"crops/{item.name}/{index:06d}", out, options, seen)


def _take(frame: Frame, name: str, out: Path, options: CropOptions, seen: _Seen) -> None:
    """Write the crops of one frame; which of them stay is decided when the last frame has been seen."""
    seen.progress()
    seen.sampled += 1
    seen.size = frame.image.shape[1], frame.image.shape[0]
    found = list(_cut(frame.image, options, seen.only_largest))
    tracks = [-1] * len(found)
    if seen.tracker is not None:
        faces = [face for face, _, _ in found]
        looks = [look(crop) for _, crop, _ in found]
        boxes, points = [f.box for f in faces], [f.landmarks for f in faces]
        tracks = seen.tracker.update(frame.time, boxes, points, looks, frame_size=seen.size)
    for number, ((face, crop, landmarks), track) in enumerate(zip(found, tracks, strict=True)):
        path = f"{name}_{number}.png"
        seen.crops.append(
            {
                "path": path,
                "frame": frame.index,
                "time": frame.time,
                "face": number,
                "track": track,
                "box": list(face.box),
                "landmarks": [float(x) for x in landmarks.ravel()],
                "sha256": write_png(out / path, crop),
                "phash": perceptual_hash(crop),
            }
        )


def _choose(
    item: SourceItem, seen: _Seen, options: CropOptions
) -> tuple[list[dict[str, Any]], tuple[str, str] | None]:
    """The crops that stay, and what is doubtful about the choice: reason and detail."""
    if item.mask is None or not seen.crops:
        return keep(seen.crops, options.faces), None
    try:
        masks = Masks.read(item.mask, sorted({crop["time"] for crop in seen.crops}), seen.size)
    except Exception as error:  # whatever a decoder does on one file, the others go on
        why = f"which face was forged is not known, so no mask decided: {error or type(error).__name__}"
        return keep(seen.crops, options.faces), ("mask_unusable", why)
    crops = keep(forged(seen.crops, masks), options.faces)
    if crops:
        return crops, None
    return [], ("no_forged_face", f"{item.path}: none of the faces found lies where {item.mask} says")


def _missing(item: SourceItem, seen: _Seen, crops: list[dict[str, Any]]) -> tuple[str, str]:
    if not crops:
        return "no_face", f"{item.path}: no face found in {_frames_text(seen.sampled)}"
    without = seen.sampled - len({crop["frame"] for crop in crops})
    if without:
        nobody = len({crop["frame"] for crop in seen.crops}) + without == seen.sampled
        who = "no face" if nobody else "this person is not seen"
        return "some_frames_without_face", f"{item.path}: {who} in {without} of {seen.sampled} frames"
    return "", ""


def part_file(out: Path, source: str) -> Path:
    """Where the part of a source file lies."""
    digest = text_hash(source)
    return out / ".parts" / digest[:2] / f"{digest[2:32]}.json"


def watch_file(out: Path, source: str) -> Path:
    """Where the watchdog over the work on a source file leaves its note."""
    return part_file(out, source).with_suffix(".watch")


def write_part(out: Path, part: Part) -> None:
    """Write a part so that it is there whole or not at all."""
    file = part_file(out, part.source)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(asdict(part)), encoding="utf-8")


def read_part(out: Path, source: str) -> Part | None:
    """Read the part of a source file; `None` if it was not finished or is damaged."""
    try:
        part = Part(**json.loads(part_file(out, source).read_text(encoding="utf-8")))
        sound = part.source == source and all({"path", "frame", "face"} <= crop.keys() for crop in part.crops)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return part if sound else None


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
    limit_threads()
    end_with_parent()


def limit_threads() -> None:
    """One thread: the processes share the processors among themselves."""
    cv2.setNumThreads(1)


def _cut(
    image: np.ndarray, options: CropOptions, only_largest: bool
) -> Iterator[tuple[Face, np.ndarray, np.ndarray]]:
    """The faces of an image, largest first, with their crops and the landmarks in these."""
    detector = _detector(options.detector, options.min_score)
    passes = 2 if options.align else 1  # a second look straightens what the first leaves of a tilt
    if only_largest or not options.detect:
        largest = detector.largest(image, passes=passes)
        faces = [] if largest is None else [largest]
    else:
        faces = [detector.refine(image, face, passes=passes) for face in detector(image)]
    if not options.detect:
        yield _whole(image, faces, options.size)
        return
    cut = align_face if options.align else crop_face
    for face in faces:
        yield face, *cut(image, face, margin=options.margin, size=options.size)


def _whole(image: np.ndarray, faces: list[Face], size: int) -> tuple[Face, np.ndarray, np.ndarray]:
    """The image is a crop already: resized to the square, landmarks where the detector finds a face."""
    height, width = image.shape[:2]
    points = faces[0].landmarks if faces else np.full((5, 2), np.nan, np.float32)
    score = faces[0].score if faces else math.nan
    whole = Face((0.0, 0.0, float(width), float(height)), points, score)
    return whole, resize(image, (size, size)), points * np.array([size / width, size / height], np.float32)


@cache
def _detector(name: DetectorName, min_score: float | None) -> FaceDetector:
    return create_detector(name, min_score=min_score)


def _frames_text(sampled: int) -> str:
    return "the image" if sampled == 1 else f"{sampled} frames"
