"""`sficonv doctor`: does this installation decode, find faces and score as it should?"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count

from sficonv.detect.classifiers import ExportedClassifier
from sficonv.detect.detector import Detector
from sficonv.errors import SficonvError
from sficonv.extras import installed
from sficonv.files import sha256_of

PACKAGES = ("sficonv", "torch", "numpy", "pillow", "opencv-python-headless", "av", "onnxruntime", "openvino")
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
VIDEO_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video")
TOLERANCE = 1e-3
"""Largest difference of P(fake) between two ways to compute it that counts as the same."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What.
        sound: Whether it is as it should be.
        found: What was found, in plain words.
    """

    name: str
    sound: bool
    found: str


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> bool:
        """Whether anything is not as it should be."""
        return not all(check.sound for check in self.checks)

    def summary(self) -> str:
        """One line per check, for people."""
        lines = [f"{'ok  ' if check.sound else 'FAIL'}  {check.name}: {check.found}" for check in self.checks]
        return "\n".join([*lines, "something is wrong, see above" if self.failed else "all is well"])

    def to_dict(self) -> dict[str, Any]:
        """The same for programs."""
        return {"sound": not self.failed, "checks": [asdict(check) for check in self.checks]}


def doctor(*, weights: str | Path = "default", device: str | None = None) -> Diagnosis:
    """Test this installation: decoders, face search, weights, scores, processors.

    Needs no data and no network. Every image and video it decodes is made on the spot. The weights are
    compared with the hash in their model card, and the scores of stored inputs with those that the card
    states, if it does. In any case the detector as scans run it is compared with the plain model in 64 bits.

    Args:
        weights: What to test; as for `sficonv scan`.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU where there is one.

    Returns:
        What was looked at and what was found; the command fails if anything is not as it should be.

    Example:
        >>> print(doctor().summary())  # doctest: +SKIP
        ok    versions: Python 3.11.2, sficonv 0.1.0, torch 2.11.0, ...
        ...
        all is well
    """
    checks = [
        _checked("versions", _versions),
        _checked("processors", _processors),
        *(_checked(f"image format {name}", partial(_image, name)) for name in IMAGE_FORMATS),
        _checked("video decoders", _decoders),
        _checked("video", _video),
        _checked("face search", _face),
    ]
    try:
        detector = Detector(weights, device=device)
    except (SficonvError, OSError, ValueError) as error:
        return Diagnosis((*checks, Check("weights", False, str(error))))
    checks += [
        _checked("weights", lambda: _weights(detector)),
        _checked("scores", lambda: _scores(detector)),
        _checked("reference scores", lambda: _reference(detector)),
    ]
    return Diagnosis(tuple(checks))


def reference_inputs() -> list[np.ndarray]:
    """The stored inputs: a ramp, stripes and noise, RGB `uint8` `(256, 256, 3)`, the same everywhere.

    Example:
        >>> [image.shape for image in reference_inputs()]
        [(256, 256, 3), (256, 256, 3), (256, 256, 3)]
    """
    ramp = np.add.outer(np.arange(256), np.arange(256)) // 2
    stripes = np.where(np.arange(256)[:, None] // 8 % 2, 200, 60) + np.zeros((1, 256), int)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3))
    images = (np.stack([ramp, ramp[::-1], ramp.T[:, ::-1]], axis=2), np.stack([stripes] * 3, axis=2), noise)
    return [image.astype(np.uint8) for image in images]


def _checked(name: str, look: Callable[[], tuple[bool, str]]) -> Check:
    """A check that cannot end the others, whatever is broken."""
    try:
        return Check(name, *look())
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _versions() -> tuple[bool, str]:
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return True, ", ".join(found)


def _processors() -> tuple[bool, str]:
    usable = cpu_count()
    if not installed("torch"):
        return True, f"{usable} cores; PyTorch is not installed: scans run in ONNX Runtime"
    import torch

    cuda = torch.cuda.is_available()
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] if cuda else []
    return True, f"{usable} cores, {torch.get_num_threads()} threads, {', '.join(gpus) or 'no GPU'}"


def _image(name: str) -> tuple[bool, str]:
    from PIL import Image

    from sficonv.media.images import read_image

    image = np.kron(np.array([[40, 200], [120, 250]], np.uint8), np.ones((32, 32), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        Image.fromarray(np.stack([image] * 3, axis=2)).save(path, format=name, quality=95)
        difference = np.abs(read_image(path)[..., 0].astype(int) - image).mean()
    return bool(difference < 4), f"decoded, pixels differ by {difference:.1f} on average"


def _decoders() -> tuple[bool, str]:
    import av

    missing = [name for name in VIDEO_CODECS if name not in av.codecs_available]
    return not missing, f"missing: {', '.join(missing)}" if missing else ", ".join(VIDEO_CODECS)


def _video() -> tuple[bool, str]:
    from sficonv.detect.demo import write_video
    from sficonv.media.video import iter_frames

    levels = range(20, 220, 20)
    with tempfile.TemporaryDirectory() as folder:
        flat = (np.full((64, 64, 3), level, np.uint8) for level in levels)
        path = write_video(Path(folder) / "a.mp4", flat, fps=10)
        seen = [frame.image.mean() for frame in iter_frames(path)]
    sound = len(seen) == len(levels) and np.abs(np.array(seen) - levels).max() < 5
    return bool(sound), f"{len(seen)} of {len(levels)} frames of an H.264 video decoded"


def _face() -> tuple[bool, str]:
    from sficonv.detect.demo import photograph
    from sficonv.faces.detectors import YuNet

    faces = YuNet()(photograph())
    sound = len(faces) == 1 and 150 < sum(faces[0].box[::2]) / 2 < 280
    return sound, f"{len(faces)} face found where there is one"


def _weights(detector: Detector) -> tuple[bool, str]:
    assert detector.weights is not None
    stated = detector.card.get("weights_sha256")
    if isinstance(detector.classifier, ExportedClassifier):
        made_of = detector.classifier.exported.metadata.get("weights_sha256")
        told = f"{detector.weights.name} in {detector.classifier.runtime}, made of weights with SHA-256"
        return made_of == stated, f"{told} {made_of}" + (
            "" if made_of == stated else f", but its card states {stated}"
        )
    found = sha256_of(detector.weights)
    if stated is None:
        return True, f"{detector.weights.name}, SHA-256 {found} (the card states none)"
    return found == stated, f"{detector.weights.name}, SHA-256 {found}" + (
        "" if found == stated else f", but the card states {stated}"
    )


def _scores(detector: Detector) -> tuple[bool, str]:
    if not detector.explains:
        scores = detector.scores(reference_inputs())
        return bool(np.ptp(scores) > 0), "an exported file: compared with PyTorch when it was made"
    import copy

    from sficonv.models.inference import p_fake

    plain = detector.torch
    exact = copy.deepcopy(plain.model).double().cpu()
    batch = plain.to_batch(reference_inputs()).double().cpu()
    expected = p_fake(exact, batch, calibration=plain.calibration, mirror=plain.mirror).detach().numpy()
    difference = float(np.abs(detector.scores(reference_inputs()) - expected).max())
    return difference < TOLERANCE, f"differ from the plain model in 64 bits by {difference:.1e} at most"


def _reference(detector: Detector) -> tuple[bool, str]:
    stated = detector.card.get("reference_scores")
    if stated is None:
        return True, "the model card states none"
    difference = float(np.abs(detector.scores(reference_inputs()) - np.array(stated, float)).max())
    return difference < TOLERANCE, f"differ from those of the model card by {difference:.1e} at most"
