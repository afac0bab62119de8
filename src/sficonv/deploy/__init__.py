"""A detector outside of PyTorch: export to ONNX and OpenVINO, and the small classes that run such files."""

from sficonv.exported import ExportedModel, OnnxModel, OpenVinoModel, open_exported

__all__ = ["ExportedModel", "OnnxModel", "OpenVinoModel", "open_exported"]
