"""OpenVINO: conversion, and quantisation to 8 bits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from torch.export import ExportedProgram

from sficonv.deploy.half import is_weight, to_half
from sficonv.exported import METADATA_KEY, import_openvino
from sficonv.extras import require

PACKAGES = ("openvino", "nncf")

FLOAT_CONVOLUTIONS = 8
"""Convolutions from the input on that stay in 32 bits.

MCSConv's trace maps are small differences of neighbouring values, which 8 bits round away. The number was
chosen on FF++ validation crops: with fewer the scores moved further, with more no less.
"""


def to_openvino(program: ExportedProgram, crop_size: int, frames: int = 1) -> Any:
    """Convert a captured program.

    Args:
        program: From `graph.capture`.
        crop_size: Side of the crops in pixels.
        frames: Frames of a clip; 1 for a model of single images.

    Returns:
        An `openvino.Model` with the input `faces` and the output `p_fake`.

    Raises:
        SficonvError: If OpenVINO is not installed.
    """
    openvino = import_openvino()
    inputs = [("faces", [-1, crop_size, crop_size, 3])]
    if frames > 1:
        inputs = [("faces", [-1, frames, crop_size, crop_size, 3]), ("present", [-1, frames])]
    model = openvino.convert_model(program, input=inputs)
    model.outputs[0].get_tensor().set_names({"p_fake"})
    return model


def quantise(model: Any, crops: np.ndarray) -> Any:
    """Quantise weights and activations to 8 bits (NNCF, post-training), but for the first convolutions.

    Args:
        model: An `openvino.Model`.
        crops: RGB `uint8` `(N, S, S, 3)` that show what activations look like.

    Returns:
        The quantised `openvino.Model`.

    Raises:
        SficonvError: If NNCF is not installed.
    """
    require("openvino", *PACKAGES)
    import_openvino()
    import nncf

    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it lists every ignored layer
    try:
        return nncf.quantize(
            model,
            nncf.Dataset([crop[None] for crop in crops]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(crops),
            ignored_scope=nncf.IgnoredScope(names=_first_layers(model)),
        )
    finally:
        logger.setLevel(level)


def _first_layers(model: Any) -> list[str]:
    """Names of the first convolutions, and of the matrices before them that resize the input."""
    names: list[str] = []
    convolutions = 0
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        if kind in ("Convolution", "GroupConvolution", "MatMul"):
            convolutions += kind != "MatMul"
            names.append(operation.get_friendly_name())
        if convolutions == FLOAT_CONVOLUTIONS:
            break
    return names


def save(model: Any, path: Path, metadata: str, *, half: bool) -> None:
    """Write `path` (`.xml`) and its `.bin`, with the metadata inside; weights in 16 bits where asked."""
    if half:
        _halve(model)
    model.set_rt_info(metadata, [METADATA_KEY])
    import_openvino().save_model(model, path, compress_to_fp16=False)  # else it halves every constant


def _halve(model: Any) -> None:
    """Store the weights in 16 bits, each with a conversion back to 32 behind it."""
    from openvino import opset13 as operations

    for constant in model.get_ops():
        if constant.get_type_name() == "Constant" and is_weight(constant.data):
            half = operations.constant(to_half(constant.data, constant.get_friendly_name()))
            full = operations.convert(half, "f32")
            for reader in constant.output(0).get_target_inputs():
                reader.replace_source_output(full.output(0))
