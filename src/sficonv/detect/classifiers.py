"""The two things that can turn face crops into P(fake): a PyTorch model and an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from sficonv.card import check_card, read_calibration
from sficonv.exported import ExportedModel, open_exported
from sficonv.media.resize import resize

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sficonv.models.config import ModelConfig

LARGE = 512
"""Longer side, in pixels, above which crops are turned into input one by one: as floats they take memory."""
CPU_BATCH = 4
"""Most crops in one forward pass on a CPU: the maps of more do not stay in its caches."""


class FaceClassifier(Protocol):
    """Face crops in, P(fake) out.

    Attributes:
        name: Of the model.
        runtime: What computes: `"PyTorch"`, `"ONNX Runtime"` or `"OpenVINO"`.
        card: Its model card.
        image_size: Side of what the network reads, in pixels.
        largest_batch: Most crops that one call should be given; `None` for any number.
        views: What the scores are averaged over: `("original",)`, or with `"mirrored"`.
        frames: Most frames of a clip; 1 for a model of single images.
    """

    name: str
    runtime: str
    card: dict[str, Any]
    image_size: int
    largest_batch: int | None
    views: tuple[str, ...]
    frames: int

    def __call__(self, crops: list[np.ndarray]) -> np.ndarray:
        """Calibrated P(fake) of crops, RGB `uint8` `(H, W, 3)` of any size: `float64` `(len(crops),)`."""

    def clips(self, clips: list[list[np.ndarray]]) -> np.ndarray:
        """Calibrated P(fake) of clips of at most `frames` crops each; only where `frames` is above 1."""


class TorchClassifier:
    """A PyTorch model.

    Args:
        model: Put in eval mode and moved to `device`.
        card: Its model card.
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, ...; `None` takes a GPU where there is one.
        mirror: Average over the crop and its mirror image where the card asks for it.
        compile: Judge by a model compiled with `torch.compile`: one graph for every batch size. The first
            crops wait for the compiler, which takes a minute or more.
        fold: On a CPU, judge by a copy that is folded (`sficonv.fold`) and lies in memory as convolutions
            read it fastest: the same scores to float error in less time.
        threads: Processor threads for one batch, from now on in the whole process; `None` leaves them.

    Raises:
        ValueError: If `device` is not available.
        WeightsError: If the card makes no sense.
    """

    runtime = "PyTorch"

    def __init__(
        self,
        model: nn.Module,
        card: dict[str, Any],
        *,
        device: str | None = None,
        mirror: bool = True,
        compile: bool = False,
        fold: bool = False,
        threads: int | None = None,
    ) -> None:
        import torch

        from sficonv.models.inference import asks_for_mirror

        _check_model(model)
        if threads:
            torch.set_num_threads(threads)
        self.device = _device(device)
        self.model = model.to(self.device).eval()
        self.card = check_card(card)
        self.config = cast("ModelConfig", model.config)
        self.name, self.image_size = self.config.name, self.config.image_size
        self.frames = self.config.frames
        self.calibration = read_calibration(card)
        self.mirror = mirror and asks_for_mirror(card)
        self.views: tuple[str, ...] = ("original", "mirrored") if self.mirror else ("original",)
        on_cpu = self.device.type == "cpu"
        self.largest_batch: int | None = CPU_BATCH if on_cpu else None
        self.fast_model: nn.Module = _folded(self.model) if fold and on_cpu else self.model
        self.compiled = compile
        if compile:
            self.fast_model.compile()

    def to_batch(self, crops: list[np.ndarray]) -> Tensor:
        """Preprocess face crops exactly as in training.

        Args:
            crops: RGB `uint8` `(H, W, 3)`, each of any size.

        Returns:
            `float32` `(B, 3, image_size, image_size)` on the model's device.
        """
        import torch

        from sficonv.models.config import to_input

        # A copy where the array may not be written to: torch knows no such memory and warns.
        writable = [np.require(crop, requirements=["C", "W"]) for crop in crops]
        images = [torch.from_numpy(crop).permute(2, 0, 1)[None] for crop in writable]
        if len({image.shape for image in images}) == 1 and max(images[0].shape) <= LARGE:
            return to_input(torch.cat(images).to(self.device), self.config)
        return torch.cat([to_input(image.to(self.device), self.config) for image in images])

    def __call__(self, crops: list[np.ndarray]) -> np.ndarray:
        """See `FaceClassifier`."""
        import torch

        from sficonv.models.inference import p_fake

        alone = self.compiled and len(crops) == 1  # torch.compile makes a graph of its own for a batch of one
        # to the compiler, tensors of inference mode and others are two kinds: it would compile twice
        with torch.no_grad() if self.compiled else torch.inference_mode():
            batch = self.to_batch(crops * 2 if alone else crops)
            if self.compiled:
                torch._dynamo.mark_dynamic(batch, 0)
            scores = p_fake(self.fast_model, batch, calibration=self.calibration, mirror=self.mirror)
            return scores[: len(crops)].cpu().numpy()

    def clips(self, clips: list[list[np.ndarray]]) -> np.ndarray:
        """See `FaceClassifier`."""
        import torch

        from sficonv.models.clips import pad_clips
        from sficonv.models.inference import p_fake

        with torch.inference_mode():
            x, present = pad_clips([self.to_batch(clip) for clip in clips])
            scores = p_fake(self.model, x, calibration=self.calibration, mirror=self.mirror, present=present)
            return scores.cpu().numpy()


class ExportedClassifier:
    """What `sficonv export` wrote, in ONNX Runtime or OpenVINO; calibration and views are inside the file.

    Args:
        path: An `.onnx` file, or OpenVINO's `.xml` file.
        device: `None` or `"cpu"`.
        mirror: `False` refuses a file that averages over the mirror image: it cannot leave that out.
        threads: Processor threads for one batch; `None` takes all processors.

    Raises:
        ValueError: If another device is asked for, or `mirror=False` and the file mirrors inside.
        WeightsError: If the file cannot be used.
        SficonvError: If its runtime is not installed.
    """

    largest_batch: int | None = CPU_BATCH

    def __init__(
        self, path: Path, *, device: str | None = None, mirror: bool = True, threads: int | None = None
    ) -> None:
        if device not in (None, "cpu"):
            raise ValueError(f"{path}: an exported detector runs on the CPU, not on device {device!r}")
        self.exported: ExportedModel = open_exported(path, threads=threads)
        if self.exported.mirrored and not mirror:
            raise ValueError(
                f"{path}: averages over the mirror image inside the file; export it again with --no-mirror"
            )
        self.views: tuple[str, ...] = ("original", "mirrored") if self.exported.mirrored else ("original",)
        self.runtime = self.exported.runtime
        self.card = self.exported.card
        self.name = str(self.card["model"])
        self.image_size = int(self.card["image_size"])
        self.frames = self.exported.frames

    def __call__(self, crops: list[np.ndarray]) -> np.ndarray:
        """See `FaceClassifier`; crops of another size than the file takes are resized first."""
        side = self.exported.crop_size
        return self.exported(np.stack([resize(crop, (side, side)) for crop in crops]))

    def clips(self, clips: list[list[np.ndarray]]) -> np.ndarray:
        """See `FaceClassifier`."""
        side = self.exported.crop_size
        faces = np.zeros((len(clips), self.frames, side, side, 3), np.uint8)
        present = np.arange(self.frames) < np.array([len(clip) for clip in clips])[:, None]
        faces[present] = [resize(crop, (side, side)) for clip in clips for crop in clip]
        return self.exported(faces, present)


def _check_model(model: nn.Module) -> None:
    """Refuse a model in memory that gives no P(fake)."""
    import torch

    from sficonv.models.config import ModelConfig

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"a detector is made of a weights file or a model, not of {type(model).__name__}")
    config = getattr(model, "config", None)
    if not isinstance(config, ModelConfig):
        raise ValueError(
            f"{type(model).__name__} does not say how its input is made: a detector takes a model from "
            "create_model or load_weights, or one with a ModelConfig as its `config`"
        )
    if config.num_classes != 2:
        raise ValueError(f"{config.name} has {config.num_classes} classes, a detector needs 2 (real, fake)")
    types = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if types - {torch.float32}:
        raise ValueError(f"{config.name} is not in 32 bits, which a detector needs: call .float() on it")


def _folded(model: nn.Module) -> nn.Module:
    """A copy for inference on a CPU, or the model itself where `torch.fx` cannot trace it."""
    import torch

    from sficonv.conversion.fold import fold

    try:
        return fold(model).to(memory_format=torch.channels_last)
    except ValueError:
        return model


def _device(name: str | None) -> torch.device:
    import torch

    from sficonv.models.inference import usual_device

    if name is None:
        return torch.device(usual_device())
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here: {reason}") from error
    return device
