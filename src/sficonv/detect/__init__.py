"""From a file to a verdict: the detector object, the scanner, its report, and the demonstration."""

from sficonv.detect.detector import Detector
from sficonv.detect.results import FaceScore, ScanResult, TrackScore
from sficonv.detect.scan import iter_scan, scan
from sficonv.faces.tracking import Tracker

__all__ = ["Detector", "FaceScore", "ScanResult", "TrackScore", "Tracker", "iter_scan", "scan"]
