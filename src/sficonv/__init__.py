"""Deepfake detection with Space-Frequency Interactive Convolution (SFIConv).

The public verbs and types. Each is imported when it is first used, so that `import sficonv` costs nothing.

Example:
    >>> import sficonv
    >>> results = sficonv.scan(["clip.mp4"])  # doctest: +SKIP
    >>> results[0].verdict  # doctest: +SKIP
    'uncertain'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sficonv.version import __version__ as __version__

if TYPE_CHECKING:
    from sficonv.conversion.convert import convert
    from sficonv.conversion.fold import fold
    from sficonv.datasets.inspection import inspect_source
    from sficonv.deploy.export import export
    from sficonv.detect.demo import demo
    from sficonv.detect.detector import Detector
    from sficonv.detect.explain import explain
    from sficonv.detect.options import ScanOptions
    from sficonv.detect.results import ScanResult
    from sficonv.detect.scan import iter_scan, scan
    from sficonv.errors import DataError, MediaError, SficonvError, WeightsError
    from sficonv.evaluation.calibrate import calibrate
    from sficonv.evaluation.compare import compare
    from sficonv.evaluation.evaluate import evaluate
    from sficonv.evaluation.robustness import robustness
    from sficonv.models import create_model, list_models
    from sficonv.models.checkpoint import load_weights, save_weights
    from sficonv.nn import SFIConv2d, complexity
    from sficonv.paper.attention.compare import compare_attention
    from sficonv.paper.bench import bench
    from sficonv.paper.tables.options import ReproduceOptions
    from sficonv.paper.tables.reproduce import reproduce
    from sficonv.preparation.options import PrepareOptions
    from sficonv.preparation.prepare import prepare
    from sficonv.service.command import serve
    from sficonv.splits.check import check
    from sficonv.splits.split import split
    from sficonv.training.options import Hardware, TrainOptions
    from sficonv.training.recipes import Recipe
    from sficonv.training.train import train

_HOME = {
    "SFIConv2d": "sficonv.nn",
    "convert": "sficonv.conversion.convert",
    "complexity": "sficonv.nn",
    "fold": "sficonv.conversion.fold",
    "create_model": "sficonv.models",
    "list_models": "sficonv.models",
    "load_weights": "sficonv.models.checkpoint",
    "save_weights": "sficonv.models.checkpoint",
    "inspect_source": "sficonv.datasets.inspection",
    "PrepareOptions": "sficonv.preparation.options",
    "prepare": "sficonv.preparation.prepare",
    "split": "sficonv.splits.split",
    "check": "sficonv.splits.check",
    "Hardware": "sficonv.training.options",
    "Recipe": "sficonv.training.recipes",
    "TrainOptions": "sficonv.training.options",
    "train": "sficonv.training.train",
    "evaluate": "sficonv.evaluation.evaluate",
    "robustness": "sficonv.evaluation.robustness",
    "compare": "sficonv.evaluation.compare",
    "calibrate": "sficonv.evaluation.calibrate",
    "Detector": "sficonv.detect.detector",
    "ScanOptions": "sficonv.detect.options",
    "ScanResult": "sficonv.detect.results",
    "scan": "sficonv.detect.scan",
    "iter_scan": "sficonv.detect.scan",
    "explain": "sficonv.detect.explain",
    "compare_attention": "sficonv.paper.attention.compare",
    "demo": "sficonv.detect.demo",
    "serve": "sficonv.service.command",
    "export": "sficonv.deploy.export",
    "bench": "sficonv.paper.bench",
    "ReproduceOptions": "sficonv.paper.tables.options",
    "reproduce": "sficonv.paper.tables.reproduce",
    "SficonvError": "sficonv.errors",
    "MediaError": "sficonv.errors",
    "DataError": "sficonv.errors",
    "WeightsError": "sficonv.errors",
}

__all__ = [
    "DataError",
    "Detector",
    "Hardware",
    "MediaError",
    "PrepareOptions",
    "Recipe",
    "ReproduceOptions",
    "SFIConv2d",
    "ScanOptions",
    "ScanResult",
    "SficonvError",
    "TrainOptions",
    "WeightsError",
    "bench",
    "calibrate",
    "check",
    "compare_attention",
    "compare",
    "complexity",
    "convert",
    "create_model",
    "demo",
    "evaluate",
    "explain",
    "export",
    "fold",
    "inspect_source",
    "iter_scan",
    "list_models",
    "load_weights",
    "prepare",
    "reproduce",
    "robustness",
    "save_weights",
    "scan",
    "serve",
    "split",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sficonv' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from sficonv.extras import EXTRAS, require

        if error.name in EXTRAS["torch"]:  # what a scan does without
            require("torch", error.name, what=f"sficonv.{name}")
        raise


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
