"""Figures with intervals for a detector on prepared data or for anybody's scores; comparison; calibration."""

from sficonv.evaluation.bootstrap import bootstrap_intervals
from sficonv.evaluation.calibrate import calibrate
from sficonv.evaluation.compare import compare
from sficonv.evaluation.evaluate import evaluate
from sficonv.evaluation.judging import judge
from sficonv.evaluation.metrics import METRICS, compute_metrics
from sficonv.evaluation.result import EvaluationResult
from sficonv.evaluation.scores import frame_to_video
from sficonv.evaluation.scoring import predict, predict_with

__all__ = [
    "METRICS",
    "EvaluationResult",
    "bootstrap_intervals",
    "calibrate",
    "compare",
    "compute_metrics",
    "evaluate",
    "frame_to_video",
    "judge",
    "predict",
    "predict_with",
]
