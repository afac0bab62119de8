"""From the scores of faces to the score of a person and the verdict on a file, and the reasons for doubt.

The rule. A person's score is the mean of P(fake) over the sampled frames, without the highest and the lowest
tenth. A file's score is that of its most suspicious person, because one forged person makes a forged video.
Only people who can be judged decide: seen in at least three sampled frames (or in as many as the best seen
person, where that is fewer), with faces of at least `min_face` pixels that are not blurred beyond use and a
face detector that is sure that they are faces, each in the median. Otherwise a hand or a toy taken for a face
could decide, or a face with nothing left to tell a forgery by. Where nobody can be judged, the score is
still given, but the verdict is never more than "uncertain".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sficonv.detect.results import FaceScore, TrackScore

MIN_FRAMES = 3
SURE_FACE = 0.8
"""Score from which the face detector counts as sure: set by hand, to leave out hands and toys it finds."""
TRIM = 0.1
BLURRED = 4.0
"""Sharpness below which a face counts as heavily blurred: Laplacian variance of the 256 px grey crop.

Set by hand: low enough that compression alone does not bring a sharp face below it, a strong blur does.
"""
ERASED = 1.0
"""Sharpness below which a face is too blurred to judge at all.

Set by hand: of 80 crops each of ten public sets of faces the lowest was 1.9 (DFDC).
"""


def trimmed_mean(values: Sequence[float], share: float = TRIM) -> float:
    """Mean without the lowest and the highest `share` of the values (rounded down to whole values).

    Example:
        >>> trimmed_mean([0.0, *[0.5] * 8, 1.0])
        0.5
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    cut = int(len(ordered) * share)
    return float(ordered[cut : len(ordered) - cut].mean())


def judge_tracks(faces: Sequence[FaceScore], *, min_face: int, video: bool) -> tuple[TrackScore, ...]:
    """The people among `faces`, most suspicious first, those who decide before those who do not.

    Args:
        faces: All faces of one file.
        min_face: Shorter side of a face box, in pixels, below which a face is too small to judge.
        video: Whether to ask for `MIN_FRAMES` frames.
    """
    people: dict[int, list[FaceScore]] = defaultdict(list)
    for face in faces:
        people[face.track].append(face)
    needed = min(MIN_FRAMES, max((len(p) for p in people.values()), default=0)) if video else 1
    tracks = [
        TrackScore(
            track=number,
            p_fake=trimmed_mean([f.p_fake for f in seen]),
            frames=len(seen),
            first=seen[0].time,
            last=seen[-1].time,
            decides=len(seen) >= needed
            and float(np.median([f.size for f in seen])) >= min_face
            and float(np.median([f.score for f in seen])) >= SURE_FACE
            and float(np.median([f.sharpness for f in seen])) >= ERASED,
        )
        for number, seen in people.items()
    ]
    return tuple(sorted(tracks, key=lambda t: (not t.decides, -t.p_fake, t.track)))


def reasons_for_doubt(
    faces: Sequence[FaceScore],
    tracks: Sequence[TrackScore],
    *,
    min_face: int,
    frames_sampled: int,
    video: bool,
) -> list[str]:
    """What a reader should know before relying on the verdict, in plain words."""
    notes: list[str] = []
    if not faces:
        return notes
    strongest = [f for f in faces if f.track == tracks[0].track]
    if small := sum(f.size < min_face for f in faces):
        notes.append(
            f"{small} of {len(faces)} faces are smaller than {min_face} px: too few pixels to judge by"
        )
    if float(np.median([f.score for f in strongest])) < SURE_FACE:
        notes.append("what was judged may not be a face: the face detector is not sure")
    if not tracks[0].decides:
        why = _degraded(strongest, min_face)
        too = f"too degraded to judge ({why})" if why else "nobody can be judged reliably"
        notes.append(f"{too}, so the verdict is left open")
    blurred = sum(f.sharpness < BLURRED for f in strongest)
    if blurred > len(strongest) / 2:
        notes.append(
            "the most suspicious face is heavily blurred"
            if len(strongest) == 1
            else f"{blurred} of {len(strongest)} faces of the most suspicious person are heavily blurred"
        )
    deciding = sum(t.decides for t in tracks)
    if deciding > 1:
        notes.append(
            f"{deciding} people were judged and the most suspicious one decides: with more people, "
            "a false alarm is more likely"
        )
    if video:
        seen_in = len({f.frame for f in faces})
        if frames_sampled < MIN_FRAMES:
            frames = "one frame was" if frames_sampled == 1 else f"{frames_sampled} frames were"
            notes.append(f"only {frames} looked at: too few to average over")
        elif seen_in < MIN_FRAMES:
            notes.append(f"a face was found in only {seen_in} of {frames_sampled} sampled frames")
        elif seen_in < frames_sampled / 2:
            notes.append(
                f"a face was found in {seen_in} of {frames_sampled} sampled frames; the rest was not judged"
            )
    return notes


def _degraded(faces: Sequence[FaceScore], min_face: int) -> str:
    """Why the faces of a person are too poor to judge, or ""."""
    size = float(np.median([f.size for f in faces]))
    if size < min_face:
        return f"the face has {size:.0f} px, {min_face} are needed"
    return "the face is blurred beyond use" if np.median([f.sharpness for f in faces]) < ERASED else ""
