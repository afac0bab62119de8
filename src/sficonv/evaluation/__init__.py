"""Figures with intervals for a detector on prepared data or for anybody's scores; comparison; calibration."""

from sficonv.evaluation.bootstrap import bootstrap_intervals
from sficonv.evaluation.calibrate import calibrate
from sficonv.evaluation.compare import compare
from sficonv.evaluation.evaluate import evaluate
from sficonv.evaluation.judge import judge
from sficonv.evaluation.metrics import METRICS, compute_metrics
from sficonv.evaluation.predict import predict, predict_with
from sficonv.evaluation.result import EvaluationResult
from sficonv.evaluation.scores import frame_to_video

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
