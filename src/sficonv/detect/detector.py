"""The detector as one object: weights, preprocessing, calibration and limits, faces in, P(fake) out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sficonv.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sficonv.detect.alarms import FalseAlarms
    from sficonv.detect.results import ScanResult

Verdict = Literal["real", "fake", "uncertain", "no_face", "error"]

DEFAULT_MARGIN, DEFAULT_SIZE = 1.3, 256
LARGE = 512
"""Longer side, in pixels, above which crops are turned into input one by one: as floats they take memory."""
CPU_BATCH = 4
"""Most crops in one forward pass on a CPU: the maps of more do not stay in its caches."""


class Detector:
    """A trained model with everything that is needed to judge a face crop.

    Args:
        model: A model from `create_model` or `load_weights`; put in eval mode and moved to `device`.
        card: Its model card. Read from it: `calibration.temperature` (logits are divided by it, default 1),
            `calibration.uncertain` (the band `[lo, hi]` of P(fake) in which no verdict is given, default
            `[0.35, 0.65]`), `crop` (how faces were cut for training: `margin`, side of the square relative
            to the longer side of the face box, default 1.3; `size` in pixels, 16 to 2048, default 256),
            `limits`, `false_alarms` (see `sficonv.detect.alarms`).
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, ...; `None` takes a GPU where there is one.
        batch_size: Most crops in one forward pass; on a CPU never more than 4.

    Raises:
        ValueError: If `batch_size` is not positive or `device` cannot be had.
        WeightsError: If the calibration or the crop in the card makes no sense.

    Example:
        >>> from sficonv.models import create_model
        >>> detector = Detector(create_model("resnet26"), {"calibration": {"uncertain": [0.4, 0.6]}})
        >>> detector.scores([np.zeros((256, 256, 3), np.uint8)]).shape
        (1,)
        >>> detector.verdict(0.7)
        'fake'
    """

    def __init__(
        self, model: nn.Module, card: dict[str, Any], *, device: str | None = None, batch_size: int = 32
    ) -> None:
        from sficonv.models.checkpoint import read_calibration

        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.device = _device(device)
        self.model = model.to(self.device).eval()
        self.card = card
        self.config: Any = model.config
        self.batch_size = batch_size
        self.weights: Path | None = None
        self.temperature, self.band = read_calibration(card)
        self.crop_margin, self.crop_size = _crop(card)
        self._judge: nn.Module = self.model

    @classmethod
    def from_pretrained(
        cls, weights: str | Path = "default", *, device: str | None = None, batch_size: int = 32
    ) -> Detector:
        """Load a weights file with its card, or an exported detector.

        On a CPU the scores come from a copy of the model that is folded (`sficonv.fold`) and lies in memory
        as convolutions read it fastest: the same scores to float error in less time.

        Args:
            weights: A `.safetensors` file with its `.json` card beside it, `"default"` for the shipped
                detector, `owner/name` for a repository of the Hugging Face Hub that holds such a pair, or
                what `sficonv export` wrote: an `.onnx` file (ONNX Runtime) or an `.xml` file (OpenVINO).
            device: As for `Detector`; exported files run on the CPU.
            batch_size: As for `Detector`.

        Raises:
            WeightsError: If the file is missing, corrupt, a pickle, or not weights of the model it names.
            SficonvError: If the runtime of an exported file is not installed.
        """
        from sficonv.models.checkpoint import load_weights, resolve_weights

        if Path(weights).suffix in (".onnx", ".xml"):
            return ExportedDetector(Path(weights), device=device, batch_size=batch_size)

        path = resolve_weights(weights)
        model, card = load_weights(path)
        detector = cls(model, card, device=device, batch_size=batch_size)
        detector.weights = path
        if detector.device.type == "cpu":
            detector._judge = _folded(model)
        return detector

    @property
    def explains(self) -> bool:
        """Whether attention maps can be drawn: they need the gradients of a PyTorch model."""
        return True

    def __call__(self, source: str | Path | np.ndarray, **options: Any) -> ScanResult:
        """Judge one image or video.

        Args:
            source: A file, or an image, RGB `uint8` `(H, W, 3)`.
            **options: As for `sficonv.iter_scan` (`every`, `start`, `end`, `crops`, `evidence`, ...).

        Returns:
            The result; of an unreadable file with the verdict `"error"` and the reason.

        Raises:
            ValueError: If an option makes no sense, or the image has another type or shape.

        Example:
            >>> from skimage.data import astronaut
            >>> Detector.from_pretrained()(astronaut()).verdict in ("real", "uncertain", "fake")
            True
        """
        from sficonv.detect.scan import iter_scan, scan_image

        if isinstance(source, np.ndarray):
            return scan_image(source, self, **options)
        (result,) = iter_scan([source], weights=self, **options)
        return result

    @property
    def name(self) -> str:
        """The model's name, for example `"sfic_efficientnet_lite0"`."""
        return str(self.config.name)

    @property
    def limits(self) -> tuple[str, ...]:
        """What the model card says about where the detector should not be trusted."""
        return tuple(str(limit) for limit in self.card.get("limits", ()))

    @property
    def false_alarms(self) -> tuple[FalseAlarms, ...]:
        """How often it calls real faces of several sets forged, as far as the model card says it."""
        from sficonv.detect.alarms import read_false_alarms

        return read_false_alarms(self.card)

    def to_batch(self, crops: list[np.ndarray]) -> Tensor:
        """Preprocess face crops exactly as in training.

        Args:
            crops: RGB `uint8` `(H, W, 3)`, each of any size.

        Returns:
            `float32` `(B, 3, image_size, image_size)` on the detector's device.
        """
        import torch

        from sficonv.models.config import to_input

        images = [torch.from_numpy(np.ascontiguousarray(c)).permute(2, 0, 1)[None] for c in crops]
        if len({image.shape for image in images}) == 1 and max(images[0].shape) <= LARGE:
            return to_input(torch.cat(images).to(self.device), self.config)
        return torch.cat([to_input(image.to(self.device), self.config) for image in images])

    def scores(self, crops: list[np.ndarray]) -> np.ndarray:
        """P(fake) of each face crop, calibrated: `softmax(logits / temperature)[:, 1]`.

        Args:
            crops: RGB `uint8` `(H, W, 3)`, any number, each of any size; run in batches of `batch_size`.

        Returns:
            `float64` `(len(crops),)` in [0, 1].

        Raises:
            WeightsError: If the model answers with something that is not a number.
        """
        import torch

        parts = [np.zeros(0)]
        size = _forward_size(self.batch_size, self.device.type)
        with torch.inference_mode():
            for start in range(0, len(crops), size):
                logits = self._judge(self.to_batch(crops[start : start + size])).double()
                parts.append((logits / self.temperature).softmax(dim=1)[:, 1].cpu().numpy())
        scores = np.concatenate(parts)
        if not np.isfinite(scores).all():
            raise WeightsError(f"{self.name}: the model answers with values that are not numbers")
        return scores

    def verdict(self, p_fake: float) -> Verdict:
        """`"real"` below the uncertain band, `"fake"` above it, `"uncertain"` inside (edges included)."""
        low, high = self.band
        return "real" if p_fake < low else "fake" if p_fake > high else "uncertain"


class ExportedDetector(Detector):
    """A detector that runs in ONNX Runtime or OpenVINO instead of PyTorch, with the same scores.

    Args:
        path: What `sficonv export` wrote.
        device: `None` or `"cpu"`.
        batch_size: Most crops in one run.

    Raises:
        ValueError: If `batch_size` is not positive or another device is asked for.
        WeightsError: If the file cannot be used.
        SficonvError: If its runtime is not installed.
    """

    def __init__(self, path: Path, *, device: str | None = None, batch_size: int = 32) -> None:
        from sficonv.deploy.runtime import open_exported
        from sficonv.models.checkpoint import read_calibration
        from sficonv.models.config import ModelConfig

        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if device not in (None, "cpu"):
            raise ValueError(f"{path}: an exported detector runs on the CPU, not on device {device!r}")
        self.exported = open_exported(path)
        self.card = self.exported.card
        self.config = ModelConfig(str(self.card["model"]), image_size=self.exported.crop_size)
        self.batch_size = batch_size
        self.weights = path
        self.temperature, self.band = read_calibration(self.card)
        self.crop_margin, self.crop_size = _crop(self.card)

    @property
    def explains(self) -> bool:
        """No: an exported model has no gradients."""
        return False

    def scores(self, crops: list[np.ndarray]) -> np.ndarray:
        """P(fake) of each face crop, see `Detector.scores`; crops of another size are resized first."""
        side = self.exported.crop_size
        parts = [np.zeros(0)]
        size = _forward_size(self.batch_size, "cpu")
        for start in range(0, len(crops), size):
            batch = crops[start : start + size]
            parts.append(self.exported(np.stack([_square(crop, side) for crop in batch])))
        return np.concatenate(parts)


def _forward_size(batch_size: int, device: str) -> int:
    return min(batch_size, CPU_BATCH) if device == "cpu" else batch_size


def _folded(model: nn.Module) -> nn.Module:
    """A copy for inference on a CPU, or the model itself where `torch.fx` cannot trace it."""
    import torch

    from sficonv.conversion.fold import fold

    try:
        return fold(model).to(memory_format=torch.channels_last)
    except ValueError:
        return model


def _square(crop: np.ndarray, side: int) -> np.ndarray:
    if crop.shape[:2] == (side, side):
        return crop
    import cv2

    shrinks = max(crop.shape[:2]) > side
    return cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _device(name: str | None) -> torch.device:
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from error
    return device


def _crop(card: dict[str, Any]) -> tuple[float, int]:
    crop = card.get("crop", {})
    if not isinstance(crop, dict):
        raise WeightsError(f"the model card's crop cannot be read: {crop!r}")
    margin, size = crop.get("margin", DEFAULT_MARGIN), crop.get("size", DEFAULT_SIZE)
    numbers = type(margin) in (int, float) and type(size) is int  # not bool, which is an int too
    if not (numbers and 0 < margin < float("inf") and 16 <= size <= 2048):
        raise WeightsError(f"the model card's crop makes no sense: {crop!r}")
    return float(margin), size
