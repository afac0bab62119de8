"""Faces and attention maps as images that lie inside a page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sficonv.detect.deletion import Deletion, deletion_test
from sficonv.detect.detector import Detector
from sficonv.detect.results import Evidence, FaceScore, ScanResult
from sficonv.pages import jpeg_uri


@dataclass(frozen=True)
class AttentionPicture:
    """Where the detector looked in one face.

    Args:
        uri: The map laid over the face, as a data URI.
        shares: Share of the attention per region of the face, see `attention.regions`; empty where the
            landmarks are not known.
        deletion: Whether the score depends on what the map marks.
    """

    uri: str
    shares: dict[str, float]
    deletion: Deletion


@dataclass(frozen=True)
class FacePicture:
    """A judged face as an image.

    Args:
        uri: The crop, as a data URI.
        face: Its score.
        index: Where that stands in the result's faces.
        person: Rank of its person, from 1.
    """

    uri: str
    face: FaceScore
    index: int
    person: int


@dataclass(frozen=True)
class Pictures:
    """The strongest faces of one file, and where the detector looked in the first of them.

    Args:
        faces: Person by person, the most suspicious face of each first.
        attention: None where there is no face, or the detector cannot tell.
    """

    faces: list[FacePicture]
    attention: AttentionPicture | None


def draw(result: ScanResult, detector: Detector) -> Pictures:
    """Draw the evidence of a result.

    Args:
        result: Of `Detector.iter_scan(..., evidence=True)`.
        detector: The detector that gave the scores.
    """
    person = {track.track: rank for rank, track in enumerate(result.tracks, start=1)}

    strongest = [(evidence, result.faces[evidence.face]) for evidence in result.evidence]
    strongest.sort(key=lambda each: (person[each[1].track], -each[1].p_fake))
    faces = [FacePicture(jpeg_uri(e.crop), face, e.face, person[face.track]) for e, face in strongest]
    can_tell = bool(strongest) and detector.explains
    return Pictures(faces, attention_picture(detector, strongest[0][0]) if can_tell else None)


def attention_picture(detector: Detector, evidence: Evidence) -> AttentionPicture:
    """Draw and measure the forgery attention on one face.

    Args:
        detector: Whose attention.
        evidence: The face.
    """
    from sficonv.attention.maps import forgery_attention, overlay
    from sficonv.attention.regions import region_shares

    attention = forgery_attention(detector.torch.model, detector.torch.to_batch([evidence.crop]))[0]
    uri = jpeg_uri(overlay(evidence.crop, attention, colours="turbo"))
    marked = attention.squeeze().cpu().numpy()
    points = evidence.points
    shares = {} if points is None or not np.isfinite(points).all() else region_shares(marked, points)
    return AttentionPicture(uri, shares, deletion_test(detector, evidence.crop, marked))
