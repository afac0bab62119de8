"""Faces and attention maps as images that lie inside a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sficonv.detect.results import Evidence
from sficonv.pages import jpeg_uri

if TYPE_CHECKING:
    from sficonv.detect.detector import Detector


@dataclass(frozen=True)
class AttentionPicture:
    """Where the detector looked in one face.

    Args:
        uri: The map laid over the face, as a data URI.
        shares: Share of the attention per region of the face, see `attention.regions`; empty where the
            landmarks are not known.
    """

    uri: str
    shares: dict[str, float]


def attention_picture(detector: Detector, evidence: Evidence) -> AttentionPicture:
    """Draw and measure the forgery attention on one face.

    Args:
        detector: Whose attention.
        evidence: The face.
    """
    from sficonv.attention.maps import forgery_attention, overlay
    from sficonv.attention.regions import region_shares

    attention = forgery_attention(detector.model, detector.to_batch([evidence.crop]))[0]
    uri = jpeg_uri(overlay(evidence.crop, attention, colours="turbo"))
    if evidence.points is None or not np.isfinite(evidence.points).all():
        return AttentionPicture(uri, {})
    return AttentionPicture(uri, region_shares(attention.squeeze().cpu().numpy(), evidence.points))
