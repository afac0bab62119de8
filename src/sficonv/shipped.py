"""The detector that comes with the package: PyTorch's weights with their card, and the same as ONNX."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from sficonv.errors import WeightsError

DEFAULT = "default"
"""What people call it where weights are asked for."""


def shipped(suffix: str = ".safetensors") -> Path:
    """A file of the shipped detector.

    Args:
        suffix: `".safetensors"` for PyTorch, its model card beside it; `".onnx"` for ONNX Runtime.

    Raises:
        WeightsError: If this installation has none.

    Example:
        >>> shipped(".onnx").name
        'sfic_efficientnet_lite0.onnx'
    """
    found = sorted(Path(str(files("sficonv") / "weights")).glob(f"*{suffix}"))
    if not found:
        raise WeightsError(f"this installation of sficonv carries no {suffix} detector; pass a weights file")
    return found[0]
