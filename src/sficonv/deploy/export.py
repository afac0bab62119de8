"""`export`: a detector as one file that needs no PyTorch: image in, P(fake) out."""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from rich.console import Console

from sficonv.deploy import onnx, openvino
from sficonv.errors import DataError, SficonvError
from sficonv.exported import FORMAT, open_exported
from sficonv.extras import require
from sficonv.files import folder_beside, naming, sha256_of

if TYPE_CHECKING:
    from torch import nn

    from sficonv.detect.detector import Detector

Format = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "int8"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1.0}
"""Largest |dP| against PyTorch at which a file is still written; 8 bits are measured and left to judge."""
MIN_CALIBRATION = 16
VERSIONS_OF = ("sficonv", "torch", *onnx.PACKAGES, *openvino.PACKAGES)


@dataclass(frozen=True)
class ExportResult:
    """What was written, and how far its scores lie from PyTorch's.

    Args:
        path: The file.
        format: `"onnx"` or `"openvino"`.
        precision: `"fp32"`, `"fp16"` or `"int8"`.
        megabytes: Size of the file (of OpenVINO's two files together).
        crop_size: Side of the face crops that it takes, in pixels.
        images: Images that it was compared on: generated ones, for `"int8"` crops not used for calibration.
        max_difference: Largest |dP|.
        mean_difference: Mean |dP|.
    """

    path: Path
    format: Format
    precision: Precision
    megabytes: float
    crop_size: int
    images: int
    max_difference: float
    mean_difference: float


def export(
    weights: str | Path = "default",
    *,
    out: str | Path,
    format: Format | None = None,
    precision: Precision = "fp32",
    mirror: bool = True,
    calibration_data: str | Path | None = None,
    calibration_crops: int = 300,
) -> ExportResult:
    """Write a detector as one ONNX or OpenVINO file: face crops in, P(fake) out.

    Resizing, normalisation, softmax and calibration are inside, so there is nothing left to get wrong around
    it: the input `faces` is RGB `uint8` `(batch, S, S, 3)`, S being the size of the detector's crops, and
    the output `p_fake` is `float32` `(batch,)`. Faces are found and cut out before (`sficonv scan` does it
    all). A model of clips takes `(batch, T, S, S, 3)`, and `present`, bool `(batch, T)`, False where a clip
    is shorter.

    The model is folded (see `sficonv.fold`), the file is opened in its runtime and compared with PyTorch, and
    it is written only if P(fake) agrees: to 1e-4 in 32 bits, to 1e-2 with weights in 16 bits. The model card,
    the hash of the weights and the versions are in the file and, as JSON, beside it (`detector.onnx.json`).

    Args:
        weights: A `.safetensors` file with its model card beside it, or "default" for the shipped detector.
        out: The file to write: `.onnx`, or `.xml` for OpenVINO (its weights go beside it as `.bin`).
        format: "onnx" or "openvino"; by default what the suffix of `out` says.
        precision: "fp32"; "fp16" stores weights in 16 bits, which halves the file (the arithmetic stays in
            32 bits); "int8" (OpenVINO only) computes in 8 bits, but for the first layers: faster, and the
            scores move, see `docs/deploy.md`.
        mirror: Average over the mirror image inside the file where the model card asks for it; without, a
            crop takes half the time.
        calibration_data: Prepared folder; its training and validation crops calibrate int8.
        calibration_crops: Number of crops to use; every fourth is kept to measure the difference.

    Returns:
        The file, its size and the difference that was measured.

    Raises:
        ValueError: If arguments do not fit together.
        WeightsError: If the weights cannot be used.
        DataError: If the calibration data cannot be used.
        SficonvError: If a package is missing, or if the file would give other scores.

    Example:
        >>> export(out="detector.onnx").max_difference < 1e-4  # doctest: +SKIP
        True
    """
    from sficonv.detect.detector import Detector

    out = Path(out)
    format = _check_arguments(out, format, precision, calibration_data, calibration_crops)
    detector = Detector(weights, device="cpu", mirror=mirror)
    if detector.torch.config.num_classes != 2:
        raise ValueError(f"{detector.name} has {detector.torch.config.num_classes} classes; a detector has 2")
    if detector.classifier.frames > 1 and precision == "int8":
        raise ValueError(
            f"{detector.name} judges clips; int8 is calibrated on single crops: use fp32 or fp16"
        )
    images, crops = sample_images(detector.crop_size), None
    if calibration_data is not None:
        chosen = read_calibration_crops(calibration_data, detector.crop_size, calibration_crops)
        held_out = np.arange(len(chosen)) % 4 == 3
        images, crops = chosen[held_out], chosen[~held_out]
    out.parent.mkdir(parents=True, exist_ok=True)
    with naming(out), folder_beside(out) as folder:
        made = folder / out.name
        metadata = describe(detector, precision)
        with _patience(f"exporting {detector.name}", precision):
            _write(detector, made, metadata, format, precision, crops)
        differences = compare(made, detector, images)
        if not differences.max() < TOLERANCE[precision]:
            raise SficonvError(
                f"{out}: not written, because P(fake) would differ from PyTorch's by up to "
                f"{differences.max():.2g} (allowed: {TOLERANCE[precision]:g})"
            )
        size = sum(file.stat().st_size for file in folder.iterdir())
        result = ExportResult(
            path=out,
            format=format,
            precision=precision,
            megabytes=round(size / 1e6, 2),
            crop_size=detector.crop_size,
            images=len(images),
            max_difference=float(differences.max()),
            mean_difference=float(differences.mean()),
        )
        beside = metadata | {"file": {**asdict(result), "path": out.name, "sha256": sha256_of(made)}}
        _put_in_place(folder, out, beside)
    return result


def _put_in_place(folder: Path, out: Path, beside: dict[str, Any]) -> None:
    """Move what was made in `folder` to `out`, and the description that stands beside it."""
    text = json.dumps(beside, indent=2, default=str) + "\n"
    (folder / f"{out.name}.json").write_text(text, encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)
        shutil.move(file, out.parent / file.name)


def _check_arguments(
    out: Path, format: Format | None, precision: str, data: str | Path | None, crops: int
) -> Format:
    """Refuse what does not fit together, before anything slow happens; returns the format."""
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    if format is not None and format not in SUFFIXES:
        raise ValueError(f"format must be one of {', '.join(SUFFIXES)}, got {format!r}")
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    if by_suffix.get(out.suffix) is None or format not in (None, by_suffix[out.suffix]):
        wanted = SUFFIXES[format] if format else " or ".join(SUFFIXES.values())
        raise ValueError(f"out must end in {wanted}, got {str(out)!r}")
    format = by_suffix[out.suffix]
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; name a file in it")
    if precision == "int8" and format != "openvino":
        raise ValueError("int8 is made for OpenVINO: name an .xml file")
    if (precision == "int8") != (data is not None):
        raise ValueError("int8 needs calibration_data, a prepared folder; other precisions do not use it")
    if crops < MIN_CALIBRATION:
        raise ValueError(f"calibration_crops must be at least {MIN_CALIBRATION}, got {crops}")
    needed = onnx.PACKAGES if format == "onnx" else openvino.PACKAGES
    require(format, *needed, what="export")
    return format


def _patience(what: str, precision: Precision) -> AbstractContextManager[Any]:
    """A spinner for whoever waits at a terminal; quantisation brings its own progress bars."""
    return nullcontext() if precision == "int8" else Console(stderr=True).status(what)


def _write(
    detector: Detector,
    path: Path,
    metadata: dict[str, Any],
    format: Format,
    precision: Precision,
    crops: np.ndarray | None,
) -> None:
    from sficonv.deploy.graph import EndToEnd, capture

    try:
        judge = detector.torch
        whole = EndToEnd(_folded(judge.model), judge.config, judge.calibration, mirror=judge.mirror).eval()
        program = capture(whole, detector.crop_size)
    except Exception as error:  # torch raises many kinds here, all of them meaning the same to the user
        raise SficonvError(f"{detector.name} cannot be exported: {error}") from error
    text, half = json.dumps(metadata, default=str), precision == "fp16"
    if format == "onnx":
        onnx.save(program, path, text, half=half)
        return
    converted = openvino.to_openvino(program, detector.crop_size, detector.classifier.frames)
    if crops is not None:
        converted = openvino.quantise(converted, crops)
    openvino.save(converted, path, text, half=half)


def _folded(model: nn.Module) -> nn.Module:
    """The folded model; one that only `torch.export` can follow goes as it is, and its runtime folds it."""
    from sficonv.conversion.fold import fold

    try:
        return fold(model)
    except ValueError:
        return model


def compare(path: str | Path, detector: Detector, images: np.ndarray) -> np.ndarray:
    """|dP| between an exported file and PyTorch on each image, at batch 1 and in a larger batch.

    For a model of clips the images are taken as clips of one, two, ... frames.

    Args:
        path: The exported file.
        detector: What it was made from.
        images: RGB `uint8` `(N, S, S, 3)`, at least two.
    """
    model = open_exported(path)
    if model.frames > 1:
        from sficonv.detect.detector import Detector

        tracks = np.repeat(np.arange(len(images)), np.arange(1, len(images) + 1))[: len(images)].tolist()
        exported = Detector(path).scores(list(images), tracks)
        return np.abs(exported - detector.scores(list(images), tracks))
    batches = [images[:1], *(images[i : i + 16] for i in range(1, len(images), 16))]
    return np.abs(np.concatenate([model(batch) for batch in batches]) - detector.scores(list(images)))


def sample_images(side: int) -> np.ndarray:
    """Eight generated images: black, white, smooth, noise; RGB `uint8` `(8, side, side, 3)`.

    Example:
        >>> sample_images(64).shape
        (8, 64, 64, 3)
    """
    from sficonv.media.resize import resize

    rng = np.random.default_rng(0)
    coarse = [resize(rng.integers(0, 256, (n, n, 3), np.uint8), (side, side)) for n in (2, 4, 8, 16)]
    noise = rng.integers(0, 256, (2, side, side, 3), np.uint8)
    return np.stack([np.zeros_like(noise[0]), np.full_like(noise[0], 255), *coarse, *noise])


def read_calibration_crops(folder: str | Path, side: int, count: int) -> np.ndarray:
    """Crops of the training and validation splits, as many real as fake, all videos of a label alike.

    Args:
        folder: A prepared folder.
        side: Of the crops in pixels; others are resized.
        count: How many at most; the same ones every time.

    Returns:
        RGB `uint8` `(N, side, side, 3)`.

    Raises:
        DataError: If the folder has too few such crops, or one cannot be read.
    """
    from sficonv.datasets.crops import balanced_weights, read_crop
    from sficonv.datasets.manifest import read_manifest
    from sficonv.media.resize import resize

    rows = read_manifest(folder)
    rows = rows[rows["split"].isin(["train", "val"])]
    if len(rows) < MIN_CALIBRATION:
        raise DataError(
            f"{folder}: {len(rows)} crops of the training and validation splits, {MIN_CALIBRATION} are needed"
            " for calibration; test crops are never used"
        )
    # not rows.sample: pandas refuses weights that are so unequal that all of a label is taken
    chances = balanced_weights(rows)
    taken = np.random.RandomState(0).choice(
        len(rows), min(count, len(rows)), replace=False, p=chances / chances.sum()
    )
    paths = rows["path"].iloc[taken]
    return np.stack([resize(read_crop(Path(folder) / path), (side, side)) for path in paths])


def describe(detector: Detector, precision: Precision) -> dict[str, Any]:
    """What an exported file says of itself: its input and output, the model card, hashes and versions."""
    side, frames = detector.crop_size, detector.classifier.frames
    shape = [None, *([frames] if frames > 1 else []), side, side, 3]
    assert detector.weights is not None
    return {
        "format": FORMAT,
        "input": {"name": "faces", "type": "uint8", "shape": shape, "colour": "RGB"},
        "output": {"name": "p_fake", "type": "float32", "shape": [None], "meaning": "P(fake), calibrated"},
        "views": list(detector.classifier.views),
        "precision": precision,
        "weights_sha256": sha256_of(detector.weights),
        "versions": {name: _version(name) for name in VERSIONS_OF},
        "card": detector.card,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
