"""Run an exported detector without PyTorch: 8-bit face crops in, P(fake) out."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from sficonv.card import check_card
from sficonv.errors import WeightsError
from sficonv.extras import require

FORMAT = "sficonv-export/1"
METADATA_KEY = "sficonv"
SIDES, FRAMES = range(16, 2049), range(1, 1001)
"""Crops and clips that a file may ask for: what it says comes from anywhere, and memory is taken for it."""


class ExportedModel(ABC):
    """What the two runtimes share: the metadata, and the check of the input.

    Attributes:
        runtime: What computes, for people.
        path: The file.
        metadata: What `export` wrote into it: `card` (the model card), `input`, `output`, `precision`,
            `weights_sha256`, `versions`, and `views` (`["original"]`, or with `"mirrored"`).
        crop_size: Side of the face crops that it takes, in pixels.
        frames: Frames of the clips that it takes; 1 for a model of single images.
        mirrored: Whether the file averages over each crop and its mirror image.
    """

    runtime: str

    def __init__(self, path: str | Path, metadata: str | None) -> None:
        self.path = Path(path)
        try:
            self.metadata: dict[str, Any] = json.loads(metadata or "")
            check_card(self.metadata["card"], path)
            known = self.metadata["format"] == FORMAT
            _, *clip, side, _, _ = self.metadata["input"]["shape"]
            self.crop_size, self.frames = _within(side, SIDES), _within(clip[0], FRAMES) if clip else 1
            if not {"model", "image_size"} <= self.card.keys():
                raise ValueError("the card does not say what the model is")
            self.mirrored = "mirrored" in self.metadata.get("views", ())
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise WeightsError(f"{path}: carries no metadata of `sficonv export`; export it again") from error
        if not known:
            raise WeightsError(f"{path}: its metadata is not of format {FORMAT!r}; export it again")

    @property
    def card(self) -> dict[str, Any]:
        """The model card of the weights."""
        return self.metadata["card"]

    def __call__(self, faces: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
        """P(fake) of each face crop, or of each clip, calibrated as the model card says.

        Args:
            faces: RGB `uint8`, `(B, S, S, 3)` or `(B, 3, S, S)`, where S is `crop_size`; clips are
                `(B, frames, S, S, 3)`, and a crop is a clip of one frame.
            present: `(B, frames)` bool, False where a clip is shorter, which it is at its end. Default: all
                frames are there.

        Returns:
            `float64` `(B,)` in [0, 1].

        Raises:
            ValueError: If the crops have another type or shape.
            WeightsError: If the model cannot compute, or answers with something else than P(fake).
        """
        s = self.crop_size
        if self.frames > 1 and faces.ndim == 5:
            shape = (len(faces), self.frames)
            present = np.ones(shape, bool) if present is None else present
            if faces.dtype != np.uint8 or faces.shape[1:] != (self.frames, s, s, 3) or present.shape != shape:
                raise ValueError(
                    f"{self.path.name} takes clips as RGB uint8 (B, {self.frames}, {s}, {s}, 3) and "
                    f"present as (B, {self.frames}), got {faces.dtype} {faces.shape} and {present.shape}"
                )
            return self._scores(faces, present)
        if faces.dtype != np.uint8 or faces.shape[1:] not in ((s, s, 3), (3, s, s)):
            raise ValueError(
                f"{self.path.name} takes face crops as RGB uint8 (B, {s}, {s}, 3) or (B, 3, {s}, {s}), "
                f"got {faces.dtype} {faces.shape}; resize them first"
            )
        if faces.shape[1] == 3:
            faces = faces.transpose(0, 2, 3, 1)
        if self.frames == 1:
            return self._scores(faces)
        clips = np.zeros((len(faces), self.frames, s, s, 3), np.uint8)
        clips[:, 0] = faces
        return self._scores(clips, np.tile(np.arange(self.frames) == 0, (len(faces), 1)))

    def _scores(self, *inputs: np.ndarray) -> np.ndarray:
        if not len(inputs[0]):
            return np.zeros(0)
        named = dict(zip(("faces", "present"), map(np.ascontiguousarray, inputs), strict=False))
        try:
            scores = np.asarray(self._run(named), np.float64)
        except Exception as error:  # of the runtime, which has a class per error code
            raise WeightsError(f"{self.path}: the model cannot compute ({error})") from error
        if scores.shape != (len(inputs[0]),) or not ((scores >= 0) & (scores <= 1)).all():
            raise WeightsError(
                f"{self.path}: the model answers with something else than P(fake) of each crop"
            )
        return scores

    @abstractmethod
    def _run(self, inputs: dict[str, np.ndarray]) -> np.ndarray: ...


class OnnxModel(ExportedModel):
    """An exported `.onnx` file in ONNX Runtime.

    Args:
        path: The file.
        threads: Threads for one batch; `None` takes all cores.
        providers: ONNX Runtime's execution providers, in order of preference.

    Raises:
        SficonvError: If ONNX Runtime is not installed.
        WeightsError: If the file is missing, unreadable, or not written by `export`.

    Example:
        >>> model = OnnxModel("detector.onnx")  # doctest: +SKIP
        >>> model(np.zeros((1, 256, 256, 3), np.uint8)).shape  # doctest: +SKIP
        (1,)
    """

    runtime = "ONNX Runtime"

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        require("onnx", "onnxruntime", what=f"{path}")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(_existing(path), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime has a class per error code
            raise WeightsError(f"{path}: not a model that ONNX Runtime can load ({error})") from error
        super().__init__(path, self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY))

    def _run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self._session.run(["p_fake"], inputs)[0]


class OpenVinoModel(ExportedModel):
    """An exported `.xml` file (with its `.bin` beside it) in OpenVINO.

    Computes in 32 bits where the file is not quantised: on processors with 16-bit arithmetic OpenVINO would
    round to bfloat16 by itself, which moves the scores.

    Args:
        path: The `.xml` file.
        threads: Threads for one batch; `None` takes all cores.
        device: OpenVINO's device, such as `"CPU"` or `"GPU"`.

    Raises:
        SficonvError: If OpenVINO is not installed.
        WeightsError: If the file is missing, unreadable, or not written by `export`.

    Example:
        >>> model = OpenVinoModel("detector.xml")  # doctest: +SKIP
        >>> model(np.zeros((1, 256, 256, 3), np.uint8)).shape  # doctest: +SKIP
        (1,)
    """

    runtime = "OpenVINO"

    def __init__(self, path: str | Path, *, threads: int | None = None, device: str = "CPU") -> None:
        openvino = import_openvino()
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if device == "CPU":  # pinned to the first cores, processes would wait for each other there
            config["ENABLE_CPU_PINNING"] = False
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            model = core.read_model(_existing(path))
            self._compiled = core.compile_model(model, device, config)
        except RuntimeError as error:
            raise WeightsError(f"{path}: not a model that OpenVINO can load ({error})") from error
        found = model.get_rt_info([METADATA_KEY]).astype(str) if model.has_rt_info([METADATA_KEY]) else None
        super().__init__(path, found)

    def _run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self._compiled(inputs)["p_fake"]


def open_exported(path: str | Path, *, threads: int | None = None) -> ExportedModel:
    """Open an exported file with the runtime that its suffix asks for.

    Args:
        path: `.onnx` or `.xml`.
        threads: Threads for one batch; `None` takes all cores.

    Raises:
        SficonvError: If the runtime is not installed.
        WeightsError: If it is no such file.

    Example:
        >>> open_exported("detector.onnx")(crops)  # doctest: +SKIP
        array([0.93])
    """
    kinds: dict[str, Any] = {".onnx": OnnxModel, ".xml": OpenVinoModel}
    suffix = Path(path).suffix
    if suffix not in kinds:
        raise WeightsError(f"{path}: an exported detector is an .onnx file or OpenVINO's .xml file")
    return kinds[suffix](path, threads=threads)


def import_openvino() -> ModuleType:
    """Import OpenVINO, which then reports its use to nobody.

    Left alone, it and NNCF fork a process that sends the versions and the operations of a model over the
    network, with an identifier that they keep in the home folder. Both work without the package that does it.

    Raises:
        MissingPackage: If OpenVINO is not installed.
    """
    require("openvino", "openvino", what="OpenVINO's format")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return cast(ModuleType, openvino)


def _within(value: Any, allowed: range) -> int:
    if type(value) is not int or value not in allowed:
        raise ValueError(f"{value} is not from {allowed.start} to {allowed.stop - 1}")
    return value


def _existing(path: str | Path) -> str:
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file")
    return str(path)
