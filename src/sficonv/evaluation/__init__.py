"""Metrics with intervals, and the judgement of a detector on prepared data or on anybody's scores."""

from sficonv.evaluation.evaluate import EvaluationResult, evaluate, judge, predict
from sficonv.evaluation.metrics import METRICS, bootstrap_intervals, compute_metrics, frame_to_video

__all__ = [
    "METRICS",
    "EvaluationResult",
    "bootstrap_intervals",
    "compute_metrics",
    "evaluate",
    "frame_to_video",
    "judge",
    "predict",
]
