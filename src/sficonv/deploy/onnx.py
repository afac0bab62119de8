"""ONNX: conversion, and weights in 16 bits."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from sficonv.deploy.half import is_weight, to_half
from sficonv.exported import METADATA_KEY
from sficonv.extras import require

BATCH = "batch"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # torch's exporter needs onnxscript


def save(program: ExportedProgram, path: Path, metadata: str, *, half: bool) -> None:
    """Write a captured program as one ONNX file.

    Args:
        program: From `graph.capture`.
        path: Where to write.
        metadata: JSON that goes into the file's `metadata_props`.
        half: Store weights in 16 bits (see `half`).

    Raises:
        SficonvError: If one of `PACKAGES` is not installed.
        WeightsError: If a weight is too large for 16 bits.
    """
    require("onnx", *PACKAGES)
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's own use of its interfaces
        converted = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=["faces", "present"][: len(program.graph_signature.user_inputs)],
            output_names=["p_fake"],
        )
    assert converted is not None
    model = converted.model_proto
    _forget_origin(model)
    _name_batch(model)
    model.metadata_props.add(key=METADATA_KEY, value=metadata)
    if half:
        _halve(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _forget_origin(model: Any) -> None:
    """The exporter notes the lines of code that made each operation, with the folders of this machine."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.initializer,
        *graph.value_info,
        *graph.input,
        *graph.output,
    ):
        del part.metadata_props[:]


def _name_batch(model: Any) -> None:
    """Call the free axis "batch": the exporter numbers its symbols (`s27`)."""
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            # other axes are written in terms of it, such as "2*s27"
            if axis.HasField("dim_param"):
                axis.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", BATCH, axis.dim_param)


def _halve(model: Any) -> None:
    """Store the weights in 16 bits, each with a cast back to 32 behind it."""
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if is_weight(values):
            name, stored = tensor.name, f"{tensor.name}_half"
            tensor.CopyFrom(onnx.numpy_helper.from_array(to_half(values, name), stored))
            casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
