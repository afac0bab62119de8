"""What a scan answers: one `ScanResult` per input file, and its forms for programs and spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sficonv.detect.detector import Verdict
from sficonv.faces.tracking import Box


@dataclass(frozen=True)
class FaceScore:
    """One face in one frame.

    Args:
        frame: Number of the frame in the video, 0 for an image.
        time: Of the frame, in seconds, 0 for an image.
        box: `(x0, y0, x1, y1)` in pixels of the frame.
        score: How sure the face detector is that this is a face, in [0, 1].
        sharpness: Variance of the Laplacian of the 256 px crop; below `verdict.BLURRED` it is a blur.
        p_fake: P(fake) of this face.
        track: Number of the person; the same over the frames of a video.
    """

    frame: int
    time: float
    box: Box
    score: float
    sharpness: float
    p_fake: float
    track: int

    @property
    def size(self) -> float:
        """Shorter side of the box, in pixels."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True)
class TrackScore:
    """One person: the faces of one track taken together.

    Args:
        track: Its number, as in `FaceScore.track`.
        p_fake: Trimmed mean of P(fake) over its faces.
        frames: Number of its faces.
        first: Time of its first face, in seconds.
        last: Time of its last face, in seconds.
        decides: Whether it may decide the verdict of the file (seen often enough, large enough,
            surely a face).
    """

    track: int
    p_fake: float
    frames: int
    first: float
    last: float
    decides: bool


@dataclass(frozen=True)
class Evidence:
    """The crop a score was given for, kept to be shown.

    Args:
        face: Its number in `ScanResult.faces`.
        crop: RGB `uint8` `(H, W, 3)`.
        points: Its five landmarks `(5, 2)` as fractions of the crop's width and height; `None` if unknown.
    """

    face: int
    crop: np.ndarray
    points: np.ndarray | None = None


@dataclass(frozen=True)
class ScanResult:
    """The answer for one input file.

    Args:
        path: As it was asked for.
        kind: `"image"`, `"video"`, or `None` where the file could not be recognised.
        p_fake: P(fake) of the file in [0, 1]; `None` without a face or with nothing readable.
        verdict: `"real"`, `"fake"`, `"uncertain"`, `"no_face"` or `"error"`.
        error: What is wrong with the file, or `None`. A damaged video of which some frames could be decoded
            has an error and a verdict on those frames.
        faces: Every face of every sampled frame, in order of time.
        tracks: The people, most suspicious first.
        frames_sampled: Number of frames looked at (1 for an image).
        duration: Of the video, in seconds; `None` for an image.
        notes: Reasons to distrust the verdict, in plain words.
        evidence: Crops of the strongest faces; empty unless asked for.
        shown_as: A name to show instead of the path, for a file that is kept under another one.
    """

    path: Path
    kind: Literal["image", "video"] | None
    p_fake: float | None
    verdict: Verdict
    error: str | None = None
    faces: tuple[FaceScore, ...] = ()
    tracks: tuple[TrackScore, ...] = ()
    frames_sampled: int = 0
    duration: float | None = None
    notes: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=(), repr=False, compare=False)
    shown_as: str | None = None

    @property
    def name(self) -> str:
        """What to call the file: its path, or the name to be shown instead."""
        return self.shown_as or str(self.path)

    @property
    def problem(self) -> str | None:
        """The error without the path it starts with, for places that show the path anyway."""
        return self.error.removeprefix(f"{self.path}: ") if self.error else None

    def _error(self) -> str | None:
        if self.error is None or self.shown_as is None:
            return self.error
        return self.error.replace(str(self.path), self.shown_as)  # decoders name the file too

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON types (numbers rounded, no crops).

        Example:
            >>> ScanResult(Path("a.jpg"), "image", None, "no_face").to_dict()["verdict"]
            'no_face'
        """
        return {
            "path": self.name,
            "kind": self.kind,
            "p_fake": _rounded(self.p_fake, 4),
            "verdict": self.verdict,
            "error": self._error(),
            "notes": list(self.notes),
            "frames_sampled": self.frames_sampled,
            "duration": _rounded(self.duration, 3),
            "tracks": [
                {
                    "track": t.track,
                    "p_fake": _rounded(t.p_fake, 4),
                    "frames": t.frames,
                    "first": _rounded(t.first, 3),
                    "last": _rounded(t.last, 3),
                    "decides": t.decides,
                }
                for t in self.tracks
            ],
            "faces": [
                {
                    "frame": f.frame,
                    "time": _rounded(f.time, 3),
                    "track": f.track,
                    "p_fake": _rounded(f.p_fake, 4),
                    "box": [_rounded(edge, 1) for edge in f.box],
                    "score": _rounded(f.score, 3),
                    "sharpness": _rounded(f.sharpness, 1),
                }
                for f in self.faces
            ],
        }


def write_csv(results: Iterable[ScanResult], path: str | Path) -> Path:
    """Write one row per file: path, kind, verdict, p_fake, people, faces, frames, duration, error, notes.

    Args:
        results: Of `scan`.
        path: The file to write.

    Example:
        >>> import tempfile
        >>> rows = [ScanResult(Path("a.jpg"), "image", None, "no_face")]
        >>> write_csv(rows, Path(tempfile.mkdtemp()) / "scan.csv").read_text().splitlines()[1]
        'a.jpg,image,no_face,,0,0,0,,,'
    """
    path = Path(path)
    columns = "path kind verdict p_fake people faces frames_sampled duration error notes".split()  # noqa: SIM905
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for r in results:
            name = r.name
            texts = {
                "path": f"./{name}" if name.startswith(_FORMULA) else name,
                "error": _cell(r._error() or ""),
                "notes": _cell(" | ".join(r.notes)),
            }
            writer.writerow(r.to_dict() | {"people": len(r.tracks), "faces": len(r.faces)} | texts)
    return path


@contextmanager
def reserved(path: str | Path) -> Iterator[Path]:
    """Find out before the work whether its outcome can be written, not after it.

    Parent folders are made and the file is opened for appending, so that what it holds stays until it is
    written. If the work fails, no empty file is left behind.

    Args:
        path: The file that will be written.

    Raises:
        OSError: If it cannot be.

    Example:
        >>> import tempfile
        >>> with reserved(Path(tempfile.mkdtemp()) / "new" / "scan.csv") as path:
        ...     path.exists()
        True
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    path.open("ab").close()
    try:
        yield path
    except BaseException:
        if new and path.is_file() and path.stat().st_size == 0:
            path.unlink()
        raise


# A spreadsheet runs a cell that starts like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
