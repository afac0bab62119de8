"""The detector as one object: weights, preprocessing, calibration and limits; media in, verdicts out."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from sficonv.card import check_card, crop_of, read_calibration
from sficonv.detect.alarms import FalseAlarms, read_false_alarms
from sficonv.detect.classifiers import ExportedClassifier, FaceClassifier, TorchClassifier
from sficonv.detect.inputs import Source, Sources, images_of, is_one, sources_of
from sficonv.detect.options import ScanOptions
from sficonv.detect.reading import OnProgress
from sficonv.detect.results import ScanResult, ScanResults, Verdict
from sficonv.detect.scanning import scan_files
from sficonv.errors import WeightsError
from sficonv.extras import installed, require
from sficonv.files import sha256_of
from sficonv.shipped import DEFAULT, shipped
from sficonv.version import __version__

if TYPE_CHECKING:
    from torch import nn


class Detector:
    """A trained model with everything that is needed to judge a face, an image, a video, a folder.

    Args:
        weights: What to load: a `.safetensors` file with its `.json` card beside it, `"default"` for the
            shipped detector (in ONNX Runtime where PyTorch is not installed), `owner/name` for a repository
            of the Hugging Face Hub that holds such a pair, or what `sficonv export` wrote: an `.onnx` file
            (ONNX Runtime) or an `.xml` file (OpenVINO). Or a model from `create_model` or `load_weights`;
            then `card` is needed.
        card: The model card of such a model. Read from it: `calibration` (see `sficonv.card.Calibration`),
            `inference.views` (`["original", "mirrored"]` averages over the crop and its mirror image), `crop`
            (how faces were cut for training: `margin`, side of the square relative to the longer side of the
            face box, default 1.3; `size` in pixels, 16 to 2048, default 256), `limits`, `false_alarms` (see
            `sficonv.detect.alarms`).
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, ...; `None` takes a GPU where there is one. Exported files run
            on the CPU.
        batch_size: Most crops in one forward pass; on a CPU never more than 4.
        compile: Compile the model with `torch.compile`. It pays for many faces: the first ones wait for the
            compiler, a minute or more.
        mirror: Average over the mirror image where the card asks for it; `False` never does, which takes
            half the time and is not what the card's figures were measured with.
        threads: Processor threads for one batch; by default all processors. PyTorch keeps to it in the whole
            process.

    Raises:
        ValueError: If `batch_size` is not positive, `device` is not available, or a model in memory does not
            judge faces: it needs a `config`, two classes and 32 bits.
        TypeError: If `weights` is none of these.
        WeightsError: If the file is missing, corrupt, a pickle, or not weights of the model it names, or if
            the card makes no sense.
        MissingPackage: If PyTorch, or the runtime of an exported file, is not installed.

    Example:
        >>> from sficonv.models import create_model
        >>> detector = Detector(create_model("resnet26"), {"calibration": {"uncertain": [0.4, 0.6]}})
        >>> detector.scores(np.zeros((2, 256, 256, 3), np.uint8)).shape
        (2,)
        >>> detector.verdict(0.7)
        'fake'
    """

    def __init__(
        self,
        weights: str | Path | nn.Module = "default",
        card: dict[str, Any] | None = None,
        *,
        device: str | None = None,
        batch_size: int = 32,
        mirror: bool = True,
        compile: bool = False,
        threads: int | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("threads", threads)):
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        self.batch_size = batch_size
        self.weights: Path | None = None
        self._asked = {"device": device, "mirror": mirror, "compile": compile}
        self.classifier: FaceClassifier
        if not isinstance(weights, str | Path):
            self.classifier = TorchClassifier(
                weights,
                {} if card is None else card,
                device=device,
                mirror=mirror,
                compile=compile,
                threads=threads,
            )
        elif card is not None:
            raise ValueError("a card is given with a model in memory; a weights file has its own")
        else:
            self.weights, self.classifier = _load(weights, device, mirror, compile, threads)
        self.card = self.classifier.card
        self.calibration = read_calibration(check_card(self.card))
        self.crop_margin, self.crop_size = crop_of(self.card)

    @classmethod
    def from_pretrained(
        cls, weights: str | Path = "default", *, device: str | None = None, batch_size: int = 32
    ) -> Detector:
        """`Detector(weights, ...)` under the name that other libraries give it."""
        return cls(weights, device=device, batch_size=batch_size)

    @property
    def band(self) -> tuple[float, float]:
        """The band `(low, high)` of P(fake) in which no verdict is given."""
        return self.calibration.uncertain

    @property
    def name(self) -> str:
        """The model's name, for example `"sfic_efficientnet_lite0"`."""
        return self.classifier.name

    def identity(self) -> dict[str, Any]:
        """What its scores depend on, to tell whether two scans would give the same."""
        return {
            "sficonv": __version__,
            "model": self.name,
            "weights_sha256": sha256_of(self.weights) if self.weights else None,
            "views": self.classifier.views,
        }

    def loading(self) -> dict[str, Any]:
        """The arguments that load the same detector again, in another process.

        Raises:
            ValueError: If it was made of a model in memory.
        """
        if self.weights is None:
            raise ValueError(
                "a model in memory cannot be loaded by other processes: save it with save_weights and give "
                "the file, or use workers=1"
            )
        return {"weights": str(self.weights), "batch_size": self.batch_size, **self._asked}

    @property
    def limits(self) -> tuple[str, ...]:
        """What the model card says about where the detector should not be trusted."""
        return tuple(str(limit) for limit in self.card.get("limits") or ())

    @property
    def weakness(self) -> str:
        """One sentence on what it is known to miss: the card's `weakness`, else its first limit."""
        stated = self.card.get("weakness")
        return str(stated) if stated else next(iter(self.limits), "")

    @property
    def measured_on(self) -> tuple[str, ...]:
        """What it was measured on: the names of the card's `metrics`."""
        metrics = self.card.get("metrics")
        return tuple(map(str, metrics)) if isinstance(metrics, dict) else ()

    @property
    def false_alarms(self) -> tuple[FalseAlarms, ...]:
        """How often it calls real faces of several sets forged, as far as the model card says it."""
        return read_false_alarms(self.card)

    @property
    def torch(self) -> TorchClassifier:
        """The PyTorch model with its preprocessing, for what needs gradients.

        Raises:
            WeightsError: If this detector runs an exported file, which has none.
            MissingPackage: If PyTorch is not installed.
        """
        if not isinstance(self.classifier, TorchClassifier):
            require("torch", "torch", what="attention")
            raise WeightsError(
                f"{self.weights}: attention needs gradients: use the .safetensors file, not an export"
            )
        return self.classifier

    @property
    def explains(self) -> bool:
        """Whether attention maps can be drawn: they need the gradients of a PyTorch model."""
        return isinstance(self.classifier, TorchClassifier)

    @overload
    def __call__(self, source: Source, options: ScanOptions | None = None, **changes: Any) -> ScanResult: ...

    @overload
    def __call__(
        self, source: Sequence[Source], options: ScanOptions | None = None, **changes: Any
    ) -> ScanResults: ...

    def __call__(
        self, source: Sources, options: ScanOptions | None = None, **changes: Any
    ) -> ScanResult | ScanResults:
        """Judge an image or a video, or several.

        Args:
            source: A path; an image of Pillow; an array or a tensor, RGB `uint8` or floats in [0, 1],
                `(H, W, 3)` or `(3, H, W)`; a batch, `(N, H, W, 3)` or `(N, 3, H, W)`; or a list of these.
            options: What of it is looked at.
            **changes: Single fields of `options`, such as `every=1.0`; and `evidence` and `on_progress`, see
                `scan_files`.

        Returns:
            One result; of a folder, a batch or a list one result per image and video. The verdict on what
            cannot be read is `"error"`, with the reason.

        Raises:
            ValueError: If an option makes no sense, or an array is no image.
            TypeError: If `source` is none of these.

        Example:
            >>> from skimage.data import astronaut
            >>> Detector()(astronaut()).verdict in ("real", "uncertain", "fake")
            True
        """
        results = ScanResults(self.iter_scan(source, options, **changes))
        results.caution = self.weakness
        return results[0] if is_one(source) else results

    def iter_scan(
        self,
        sources: Sources,
        options: ScanOptions | None = None,
        *,
        evidence: bool = False,
        on_progress: OnProgress | None = None,
        **changes: Any,
    ) -> Iterator[ScanResult]:
        """Like a call, but one result at a time, each as soon as its last face is judged.

        Args:
            sources: As in a call.
            options: As in a call.
            evidence: Keep the crops of the strongest faces in the results (at most 12 per file).
            on_progress: Called with a file and the share of it that was read, in [0, 1], after each frame.
            **changes: Single fields of `options`.
        """
        chosen = replace(options or ScanOptions(), **changes)
        return scan_files(sources_of(sources), self, chosen, evidence=evidence, on_progress=on_progress)

    def scores(self, crops: Source | Sequence[Any], tracks: Sequence[Hashable] | None = None) -> np.ndarray:
        """P(fake) of each face crop, calibrated.

        Args:
            crops: Images of faces, cut as the detector was trained on: a batch, or a list of images of any
                size, each as `images_of` takes it; judged in batches of `batch_size`.
            tracks: Which face over time each crop belongs to, in their order in time. A model of clips judges
                the crops of a track together, and each has the score of its clip. Without `tracks`, and by
                other models, each crop is judged by itself.

        Returns:
            `float64` `(N,)` in [0, 1].

        Raises:
            ValueError: If a crop is no RGB image.
            WeightsError: If the model answers with something that is not a number.
        """
        given = crops if isinstance(crops, list | tuple) else [crops]
        images = [image for each in given for image in images_of(each)]
        size = min(self.batch_size, self.classifier.largest_batch or self.batch_size)
        if self.classifier.frames > 1:
            scores = self._clip_scores(images, range(len(images)) if tracks is None else tracks, size)
        else:
            parts = [self.classifier(images[start : start + size]) for start in range(0, len(images), size)]
            scores = np.concatenate([np.zeros(0), *parts])
        if not np.isfinite(scores).all():
            raise WeightsError(f"{self.name}: the model answers with values that are not numbers")
        return scores

    def _clip_scores(self, images: list[np.ndarray], tracks: Sequence[Hashable], size: int) -> np.ndarray:
        from sficonv.datasets.clips import clips_by_key

        clips = clips_by_key(tracks, self.classifier.frames)
        together = max(1, size // self.classifier.frames)
        scores = np.zeros(len(images))
        for start in range(0, len(clips), together):
            part = clips[start : start + together]
            found = self.classifier.clips([[images[i] for i in clip] for clip in part])
            for clip, score in zip(part, found, strict=True):
                scores[clip] = score
        return scores

    def predict_proba(self, crops: Source | Sequence[Any]) -> np.ndarray:
        """P(real) and P(fake) of each face crop, as a classifier of scikit-learn gives them.

        Args:
            crops: As for `scores`.

        Returns:
            `float64` `(N, 2)`; rows sum to 1.

        Example:
            >>> from sficonv.models import create_model
            >>> Detector(create_model("resnet26"), {}).predict_proba(np.zeros((1, 64, 64, 3), np.uint8)).shape
            (1, 2)
        """
        fake = self.scores(crops)
        return np.stack([1 - fake, fake], axis=1)

    def verdict(self, p_fake: float) -> Verdict:
        """`"real"` below the uncertain band, `"fake"` above it, `"uncertain"` inside (edges included)."""
        return self.calibration.verdict(p_fake)


def _load(
    weights: str | Path, device: str | None, mirror: bool, compile: bool, threads: int | None
) -> tuple[Path, FaceClassifier]:
    if str(weights) == DEFAULT and not installed("torch"):
        weights = shipped(".onnx")
    if Path(weights).suffix in (".onnx", ".xml"):
        path = Path(weights)
        if compile:
            raise ValueError(f"{path}: an exported detector is compiled by its runtime, not by torch.compile")
        return path, ExportedClassifier(path, device=device, mirror=mirror, threads=threads)
    require("torch", "torch", what=f"{weights}")

    from sficonv.models.checkpoint import load_weights, resolve_weights

    path = resolve_weights(weights)
    model, card = load_weights(path)
    return path, TorchClassifier(
        model, card, device=device, mirror=mirror, compile=compile, fold=True, threads=threads
    )
