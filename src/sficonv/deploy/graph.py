"""The graph that is exported: 8-bit crops in, P(fake) out, every resize exact in every runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sficonv.card import Calibration
from sficonv.models.config import to_input
from sficonv.models.inference import calibrated, mean_logits

_aten = torch.ops.aten
_NEAREST: tuple[Any, ...] = (
    _aten.upsample_nearest1d.default, _aten.upsample_nearest1d.vec,
    _aten.upsample_nearest2d.default, _aten.upsample_nearest2d.vec,
)  # fmt: skip
_BILINEAR: tuple[Any, ...] = (_aten._upsample_bilinear2d_aa.default, _aten._upsample_bilinear2d_aa.vec)


class EndToEnd(nn.Module):
    """Preprocessing, model and calibration as one module; the same numbers as `Detector.scores`.

    Args:
        model: Maps a normalised batch to logits `(B, 2)`.
        config: The model's `config`.
        calibration: From the model card.
        mirror: Average the logits over each crop and its mirror image.

    Shape:
        RGB `uint8` `(B, H, W, 3)` to P(fake) `float32` `(B,)`; clips `(B, T, H, W, 3)` come with `present`
        `(B, T)` bool, see `sficonv.models.clips`.
    """

    def __init__(
        self, model: nn.Module, config: Any, calibration: Calibration, *, mirror: bool = False
    ) -> None:
        super().__init__()
        self.model, self.config, self.calibration, self.mirror = model, config, calibration, mirror

    def forward(self, faces: Tensor, present: Tensor | None = None) -> Tensor:
        x = to_input(faces.movedim(-1, -3), self.config)
        logits = mean_logits(self.model, x, mirror=self.mirror, present=present)
        return calibrated(logits, self.calibration)


def capture(model: EndToEnd, crop_size: int) -> ExportedProgram:
    """Capture the graph for any number of crops of one size.

    Runtimes resize in their own ways: on odd sizes ONNX Runtime and OpenVINO take other neighbours than torch
    (at beta = 0.25 from 28 to 114, for example), and OpenVINO does not average where ONNX asks for
    anti-aliasing. So resizing is written out: nearest as reading constant positions, where the ratio is not
    one that all compute alike, and the anti-aliased resize of the input as two constant matrices.

    Args:
        model: In eval mode.
        crop_size: Side of the crops in pixels.

    Returns:
        A program with the input `faces`, `uint8` `(batch, crop_size, crop_size, 3)`. That of a model of clips
        has `(batch, frames, crop_size, crop_size, 3)`, and `present`, bool `(batch, frames)`.
    """
    frames = model.config.frames
    clip = (frames,) if frames > 1 else ()
    inputs = {"faces": torch.zeros(2, *clip, crop_size, crop_size, 3, dtype=torch.uint8)}
    if clip:
        inputs["present"] = torch.ones(2, frames, dtype=torch.bool)
    free = {0: Dim("batch", min=1)}
    program = torch.export.export(model, tuple(inputs.values()), dynamic_shapes=dict.fromkeys(inputs, free))
    return program.run_decompositions(_resizing(program))


def _resizing(program: ExportedProgram) -> dict[Any, Callable[..., Any]]:
    """How to write out the resizes of a program; the constants are made here, where tensors are real."""
    positions: dict[tuple[int, int], Tensor] = {}
    matrices: dict[tuple[int, int], Tensor] = {}
    for node in program.graph.nodes:
        if node.target in (*_NEAREST, *_BILINEAR):
            before, after = node.args[0].meta["val"].shape[2:], node.meta["val"].shape[2:]
            for full, kept in zip(before, after, strict=True):
                if node.target in _BILINEAR:
                    matrices[full, kept] = _bilinear_matrix(full, kept)
                else:
                    positions[full, kept] = _nearest_positions(full, kept)

    def nearest(x: Tensor, size: list[int], *_: object, **__: object) -> Any:
        ratios = list(zip(x.shape[2:], size, strict=True))
        if all(_alike_everywhere(full, kept) for full, kept in ratios):
            return NotImplemented  # the runtime's own resize
        for axis, ratio in enumerate(ratios, start=2):
            x = x.index_select(axis, positions[ratio])
        return x

    def bilinear(x: Tensor, size: list[int], *_: object, **__: object) -> Tensor:
        rows, columns = (matrices[full, kept] for full, kept in zip(x.shape[2:], size, strict=True))
        return rows @ x @ columns.T

    return dict.fromkeys(_NEAREST, nearest) | dict.fromkeys(_BILINEAR, bilinear)


def _alike_everywhere(full: int, kept: int) -> bool:
    """Ratios whose positions are exact in floating point: whole enlargements, and halving, quartering, ..."""
    step, rest = divmod(full, kept)
    return kept % full == 0 or (rest == 0 and step & (step - 1) == 0)


def _nearest_positions(full: int, kept: int) -> Tensor:
    index = torch.arange(full, dtype=torch.float32)[None, None]
    return F.interpolate(index, size=kept, mode="nearest")[0, 0].long()


def _bilinear_matrix(full: int, kept: int) -> Tensor:
    """The matrix `(kept, full)` that resizes a column of pixels: the resize of the unit images."""
    unit = torch.eye(full)[None, None]
    return F.interpolate(unit, size=(kept, full), mode="bilinear", antialias=True, align_corners=False)[0, 0]
