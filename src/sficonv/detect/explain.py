"""Where the detector looks: attention maps of the strongest face of each file, as pictures and numbers."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sficonv.detect.detector import Detector
from sficonv.detect.options import ScanOptions
from sficonv.detect.progress import file_progress
from sficonv.detect.reading import Paths, find_files
from sficonv.detect.scanning import scan_files
from sficonv.files import atomic_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explanation:
    """The attention on the strongest face of one file.

    Args:
        path: The image or video.
        p_fake: P(fake) of that face, or `None` where there is none.
        error: What is wrong with the file, or `None`.
        pictures: PNG files by kind: `"attention"` (forgery attention map) and `"grad_cam"`, each laid over
            the face.
        numbers: Of the forgery attention map, from `attention.maps.attention_numbers`: the share of the
            face above one half, the entropy, the centre.
    """

    path: Path
    p_fake: float | None = None
    error: str | None = None
    pictures: dict[str, Path] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The explanation as plain JSON types."""
        return {
            "path": str(self.path),
            "p_fake": self.p_fake,
            "error": self.error,
            "pictures": {kind: str(picture) for kind, picture in self.pictures.items()},
            "numbers": {key: round(value, 4) for key, value in self.numbers.items()},
        }


def explain(
    images: Paths,
    *,
    weights: str | Path = "default",
    out: str | Path = "explained",
    crops: bool = False,
    device: str | None = None,
) -> list[Explanation]:
    """Draw what the score of the strongest face of each file depends on.

    Two maps per file, laid over the face: the forgery attention map (gradient of the fake-minus-real logit in
    the pixels) and Grad-CAM (of the last feature map). They show what the model is sensitive to; they do not
    outline a manipulation. To measure averages over the fakes of prepared data, use `sficonv attention`.

    Args:
        images: Images, videos or folders.
        weights: A `.safetensors` file with its model card beside it, or "default" for the shipped detector.
        out: Folder to write the PNG files to; made if missing.
        crops: The images are face crops already: take them whole, without looking for faces.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU where there is one.

    Returns:
        One explanation per file, in the order of the input.

    Raises:
        WeightsError: If the weights cannot be used.

    Example:
        >>> explain("portrait.jpg", out="maps")[0].numbers["area_above_half"]  # doctest: +SKIP
        0.07
    """
    detector = Detector(weights, device=device)
    _ = detector.torch  # an exported file is refused before the work
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    explained: list[Explanation] = []
    files = []
    for file in find_files(images):
        if file.skipped:
            log.warning("%s: skipped, %s", file.path, file.skipped)
        else:
            files.append(file)
    options = ScanOptions(crops=crops)
    with file_progress(len(files), "explaining") as on_progress:
        for result in scan_files(files, detector, options, evidence=True, on_progress=on_progress):
            if not result.evidence:
                explained.append(Explanation(result.path, error=result.error))
                continue
            strongest = result.evidence[0]
            stem = re.sub(r"[^\w.-]", "_", result.path.stem, flags=re.ASCII)[:80]
            maps, numbers = attention_maps(detector, strongest.crop)
            pictures = {
                kind: _write_png(folder / f"{len(explained):04}_{stem}_{kind}.png", picture)
                for kind, picture in maps.items()
            }
            p_fake = round(result.faces[strongest.face].p_fake, 4)
            explained.append(Explanation(result.path, p_fake, result.error, pictures, numbers))
    return explained


def attention_maps(detector: Detector, crop: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The two maps laid over a face crop, and the numbers of the first.

    Args:
        detector: Whose attention.
        crop: RGB `uint8` `(H, W, 3)`.

    Returns:
        Pictures, RGB `uint8` `(H, W, 3)`, under `"attention"` and `"grad_cam"`; and the numbers of
        `attention_numbers`.
    """
    from sficonv.attention.maps import attention_numbers, forgery_attention, grad_cam, overlay

    classifier = detector.torch
    x = classifier.to_batch([crop])
    attention = forgery_attention(classifier.model, x)
    maps = {"attention": attention, "grad_cam": grad_cam(classifier.model, x)}
    pictures = {kind: overlay(crop, m[0], colours="turbo") for kind, m in maps.items()}
    return pictures, attention_numbers(attention[0])


def _write_png(path: Path, image: np.ndarray) -> Path:
    from PIL import Image

    with atomic_file(path) as file:
        Image.fromarray(image).save(file, "PNG")
    return path
