"""A copy of a video or image with the faces boxed in the colour of their score."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from sficonv.detect.reading import SourceFile
from sficonv.detect.results import FaceScore, ScanResult
from sficonv.errors import MediaError
from sficonv.faces.tracking import Box
from sficonv.files import folder_beside

REAL, UNCERTAIN, FAKE = (38, 166, 122), (240, 173, 40), (214, 48, 38)
"""RGB; with the number beside it nobody depends on telling them apart."""
VIDEO_NAMES = (".mp4", ".mkv", ".mov")
IMAGE_NAMES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class _Shown:
    """A face at the time of one frame."""

    box: Box
    p_fake: float
    person: int


class AnnotatedCopies:
    """Where the annotated copies of a scan go, checked before the work.

    Args:
        target: A file name for a single input, else a folder.
        files: What is scanned.

    Raises:
        ValueError: A file name for several inputs, or one that does not fit the kind of file; or an image
            that is in memory only.
    """

    def __init__(self, target: str | Path, files: Sequence[SourceFile]) -> None:
        self.target = Path(target)
        self.one_file = self.target.suffix.lower() in (*VIDEO_NAMES, *IMAGE_NAMES)
        files = [file for file in files if not file.skipped]
        if self.one_file and len(files) != 1:
            raise ValueError(f"{target}: {len(files)} files are annotated: name a folder, not a file")
        if self.one_file:
            self._check_kind(files[0].path)
        if any(file.image is not None for file in files):
            raise ValueError("annotate copies files: an image in memory has none")

    def _check_kind(self, file: Path) -> None:
        from sficonv.media.kinds import media_kind

        try:
            kind = media_kind(file)
        except MediaError:  # the scan will say so
            return
        wanted = VIDEO_NAMES if kind == "video" else IMAGE_NAMES
        if self.target.suffix.lower() not in wanted:
            raise ValueError(f"{self.target}: the copy of a {kind} must end in {', '.join(wanted)}")

    def write(self, result: ScanResult, band: tuple[float, float]) -> Path | None:
        """Write the copy of one result; `None` if nothing of its file could be looked at."""
        if not result.frames_sampled:
            return None
        suffix = (VIDEO_NAMES if result.kind == "video" else IMAGE_NAMES)[0]
        out = self.target if self.one_file else self.target / f"{result.path.stem}_annotated{suffix}"
        number = 1
        while not self.one_file and out.exists():  # files of one name from different folders
            number += 1
            out = self.target / f"{result.path.stem}_annotated_{number}{suffix}"
        return annotate(result, out, band=band)


def annotate(result: ScanResult, out: str | Path, *, band: tuple[float, float]) -> Path:
    """Write a copy of a scanned file with a box, the person and P(fake) at every face.

    Between two sampled frames boxes and scores are interpolated. A video is decoded and encoded (H.264) frame
    by frame, so memory does not grow with its length; its sound is left out.

    Args:
        result: Of a scan; its file must still be there.
        out: The file to write.
        band: The detector's uncertain band: below it boxes are green, above it red, between amber.

    Returns:
        The path written.

    Raises:
        MediaError: If the file cannot be read again.
        OSError: If the copy cannot be written.

    Example:
        >>> from sficonv import Detector  # doctest: +SKIP
        >>> detector = Detector()  # doctest: +SKIP
        >>> annotate(detector("clip.mp4"), "annotated.mp4", band=detector.band)  # doctest: +SKIP
        PosixPath('annotated.mp4')
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists() and out.samefile(result.path):
        raise ValueError(f"{out}: the copy would overwrite the file itself")
    people = _people(result)
    with folder_beside(out) as folder:
        made = folder / out.name  # its suffix names the format
        if result.kind == "image":
            from sficonv.media.images import read_picture

            image = _draw(read_picture(result.path).pixels, _at(people, 0.0), band)
            if not cv2.imwrite(str(made), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
                raise OSError(f"{out}: the image could not be written")
        else:
            _write(result.path, made, people, band)
        made.replace(out)
    return out


def _people(result: ScanResult) -> dict[int, list[FaceScore]]:
    """The faces of each person by rank, in order of time."""
    rank = {track.track: number for number, track in enumerate(result.tracks, start=1)}
    people: dict[int, list[FaceScore]] = defaultdict(list)
    for face in result.faces:
        people[rank[face.track]].append(face)
    return people


def _at(people: dict[int, list[FaceScore]], time: float) -> Iterator[_Shown]:
    for person, faces in people.items():
        times = [face.time for face in faces]
        after = bisect_right(times, time)
        gap = _usual_gap(times)
        if after == 0:
            continue
        before = faces[after - 1]
        if after == len(faces):
            if time - before.time <= gap:
                yield _Shown(before.box, before.p_fake, person)
            continue
        following = faces[after]
        length = following.time - before.time
        if length > 2.5 * gap:  # the person was away
            if time - before.time <= gap:
                yield _Shown(before.box, before.p_fake, person)
            continue
        share = (time - before.time) / length if length else 0.0
        box = tuple((1 - share) * a + share * b for a, b in zip(before.box, following.box, strict=True))
        p_fake = (1 - share) * before.p_fake + share * following.p_fake
        yield _Shown(box, p_fake, person)  # type: ignore[arg-type]


def _usual_gap(times: Sequence[float]) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.5


def _draw(image: np.ndarray, shown: Iterator[_Shown], band: tuple[float, float]) -> np.ndarray:
    image = np.ascontiguousarray(image)
    thickness = max(2, round(max(image.shape[:2]) / 400))
    scale = thickness / 3
    for face in shown:
        colour = REAL if face.p_fake < band[0] else FAKE if face.p_fake > band[1] else UNCERTAIN
        x0, y0, x1, y1 = (round(edge) for edge in face.box)
        cv2.rectangle(image, (x0, y0), (x1, y1), colour, thickness)
        text = f"{face.person}: {face.p_fake:.2f}"
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        top = max(0, y0 - height - 2 * thickness)
        cv2.rectangle(image, (x0, top), (x0 + width, top + height + 2 * thickness), colour, -1)
        place = (x0, top + height + thickness)
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    return image


def _write(path: Path, out: Path, people: dict[int, list[FaceScore]], band: tuple[float, float]) -> None:
    import av

    from sficonv.media.video import iter_frames, probe

    info = probe(path)
    rate = Fraction(info.fps).limit_denominator(1001)
    width, height = info.width // 2 * 2, info.height // 2 * 2  # H.264 has even sides
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        try:
            for frame in iter_frames(path):
                image = _draw(frame.image, _at(people, frame.time), band)[:height, :width]
                encoded = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                encoded.pts, encoded.time_base = round(frame.time * 90_000), Fraction(1, 90_000)
                container.mux(stream.encode(encoded))
        except MediaError:
            if not people:  # the scan has said already what is wrong with a damaged video
                raise
        container.mux(stream.encode())
