"""ONNX: conversion, and weights in 16 bits."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from sficonv.deploy.runtime import METADATA_KEY, missing
from sficonv.errors import WeightsError

FEW = 1024  # values; smaller tensors stay in 32 bits, they cost nothing


def save(program: ExportedProgram, path: Path, metadata: str, *, half: bool) -> None:
    """Write a captured program as one ONNX file.

    Args:
        program: From `graph.capture`.
        path: Where to write.
        metadata: JSON that goes into the file's `metadata_props`.
        half: Store weights in 16 bits; they are cast back on loading, so the arithmetic stays in 32.

    Raises:
        SficonvError: If onnx or onnxscript is not installed.
        WeightsError: If a weight is too large for 16 bits.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise missing("onnx", error) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's own use of its interfaces
        converted = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=["faces"],
            output_names=["p_fake"],
        )
    assert converted is not None
    model = converted.model_proto
    model.metadata_props.add(key=METADATA_KEY, value=metadata)
    if half:
        _halve(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _halve(model: object) -> None:
    import onnx
    from onnx import numpy_helper

    assert isinstance(model, onnx.ModelProto)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < FEW:
            continue
        name = tensor.name
        with np.errstate(over="ignore"):
            half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise WeightsError(f"{name}: holds values that are too large for 16 bits; export with fp32")
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
