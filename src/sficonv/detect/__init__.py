"""From a file to a verdict: the detector object, the scanner, its report, and the demonstration."""

from sficonv.detect.detector import Detector
from sficonv.detect.options import ScanOptions
from sficonv.detect.results import FaceScore, ScanResult, ScanResults, TrackScore
from sficonv.detect.scan import iter_scan, scan
from sficonv.faces.tracking import Tracker

__all__ = [
    "Detector",
    "FaceScore",
    "ScanOptions",
    "ScanResult",
    "ScanResults",
    "TrackScore",
    "Tracker",
    "iter_scan",
    "scan",
]
