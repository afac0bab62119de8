"""What a scan answers: one `ScanResult` per input, with its people and faces."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sficonv.extras import require
from sficonv.faces.tracking import Box

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["real", "fake", "uncertain", "no_face", "error", "skipped"]


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
            surely a face, not blurred beyond use).
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
        verdict: `"real"`, `"fake"`, `"uncertain"`, `"no_face"` or `"error"`; or `"skipped"`, for what in a
            folder is hidden or no image or video (`notes` says which).
        error: What is wrong with the file, or `None`. A damaged video of which some frames could be decoded
            has an error and a verdict on those frames.
        faces: Every face of every sampled frame, in order of time.
        tracks: The people, most suspicious first.
        frames_sampled: Number of frames looked at (1 for an image).
        duration: Of the video, in seconds; `None` for an image.
        notes: Reasons to distrust the verdict, in plain words.
        facts: What the file says of itself, such as content credentials; no part of the verdict.
        evidence: Crops of the strongest faces; empty unless asked for.
        shown_as: A name to show instead of the path, for a file that is kept under another one.
        truth: What the file really is, where that is known, as in a demonstration.
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
    facts: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=(), repr=False, compare=False)
    shown_as: str | None = None
    truth: Literal["real", "fake"] | None = None

    @property
    def name(self) -> str:
        """What to call the file: its path, or the name to be shown instead."""
        return self.shown_as or str(self.path)

    @property
    def judged_share(self) -> float | None:
        """Share of the sampled frames that hold a face which counts towards the verdict, in [0, 1]."""
        if not self.frames_sampled:
            return None
        counted = {track.track for track in self.tracks if track.decides}
        return len({face.frame for face in self.faces if face.track in counted}) / self.frames_sampled

    @property
    def problem(self) -> str | None:
        """The error without the path it starts with, for places that show the path anyway."""
        return self.error.removeprefix(f"{self.path}: ") if self.error else None

    @property
    def shown_error(self) -> str | None:
        """The error with the name to be shown instead of the path; decoders name the file too."""
        if self.error is None or self.shown_as is None:
            return self.error
        return self.error.replace(str(self.path), self.shown_as)

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
            "error": self.shown_error,
            "notes": list(self.notes),
            "facts": list(self.facts),
            "frames_sampled": self.frames_sampled,
            "judged_share": _rounded(self.judged_share, 3),
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


class ScanResults(list[ScanResult]):
    """The results of several inputs: a list that can become a table.

    Attributes:
        caution: What the detector is known to miss, to be said with the verdicts.

    Example:
        >>> results = ScanResults([ScanResult(Path("a.jpg"), "image", None, "no_face")])
        >>> results.to_pandas()["verdict"].tolist()
        ['no_face']
    """

    caution: str = ""

    def to_pandas(self) -> pd.DataFrame:
        """One row per input: the columns of `sficonv scan --csv`.

        Raises:
            MissingPackage: If pandas is not installed.
        """
        require("tables", "pandas", what="to_pandas")
        import pandas as pd

        return pd.DataFrame([table_row(result) for result in self], columns=list(COLUMNS))


COLUMNS = (
    "path", "kind", "verdict", "p_fake", "people", "faces", "frames_sampled", "duration", "error", "notes",
)  # fmt: skip
"""Of the table of a scan, one row per input."""


def table_row(result: ScanResult) -> dict[str, Any]:
    """One result as a row of `COLUMNS`: people and faces are counts, notes one text."""
    plain = result.to_dict()
    counts = {"people": len(result.tracks), "faces": len(result.faces)}
    row = plain | counts | {"notes": " | ".join(result.notes)}
    return {column: row[column] for column in COLUMNS}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
