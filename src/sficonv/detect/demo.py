"""The whole system on one photograph that everybody has: forge it, film it, scan it, report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sficonv.detect.detector import Detector
from sficonv.detect.report import write_report
from sficonv.detect.results import ScanResult
from sficonv.errors import SficonvError

SECONDS, FPS, SIZE = 4, 25, (640, 480)
FORGERIES = 3
"""Some forgeries show more than others: with one alone, chance decides what the demonstration shows."""


@dataclass(frozen=True)
class DemoCase:
    """One file whose truth is known, and what the detector said of it."""

    truth: Literal["real", "fake"]
    result: ScanResult

    @property
    def outcome(self) -> Literal["right", "wrong", "undecided"]:
        """How the verdict compares with the truth; anything but "real" and "fake" is undecided."""
        if self.result.verdict not in ("real", "fake"):
            return "undecided"
        return "right" if self.result.verdict == self.truth else "wrong"


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration saw."""

    cases: tuple[DemoCase, ...]
    report: Path

    @property
    def right(self) -> int:
        """How many verdicts were right."""
        return sum(case.outcome == "right" for case in self.cases)

    def sentence(self) -> str:
        """Which forgeries were caught and which were missed, and what happened to the originals."""

        def names(truth: str, *outcomes: str) -> str:
            chosen = [c.result.path.name for c in self.cases if c.truth == truth and c.outcome in outcomes]
            return ", ".join(chosen) or "none"

        return (
            f"Forgeries caught: {names('fake', 'right')}; missed: {names('fake', 'wrong')}; left undecided: "
            f"{names('fake', 'undecided')}. Originals called forged: {names('real', 'wrong')}."
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        cases = [{"truth": c.truth, "outcome": c.outcome, **c.result.to_dict()} for c in self.cases]
        return {"right": self.right, "sentence": self.sentence(), "report": str(self.report), "cases": cases}


def demo(
    out: str | Path = "sficonv-demo",
    *,
    weights: str | Path = "default",
    device: str | None = None,
    seed: int = 0,
) -> DemoResult:
    """Forge a photograph three times and a video, scan originals and forgeries, and write a report.

    Needs no data and no network. The photograph is NASA's portrait of Eileen Collins, in the public domain. A
    forgery is a real blend: a copy of the face, softer, moved a little and with other colours, is laid over
    the face through a soft mask that follows its landmarks, as face-swapping programs do. Each video is a
    slow pan and zoom over a photograph with sensor noise, encoded as H.264; the forged one shows the first
    forgery.

    The outcome is what the detector says, right or wrong. Forgeries of one photograph show how the system
    works; they do not measure it.

    Args:
        out: Folder to write the files and the report to; made if missing.
        weights: A `.safetensors` file with its model card beside it, an exported `.onnx` or `.xml` file, or
            "default" for the shipped detector.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU where there is one.
        seed: Seed of the first forgery and of the noise; the others have the next seeds.

    Returns:
        The verdicts beside the truth, and the report's path.

    Raises:
        WeightsError: If the weights cannot be used.

    Example:
        >>> print(demo().sentence())  # doctest: +SKIP
    """
    from PIL import Image

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    photo = photograph()
    stills = {"real": photo}
    stills |= {f"fake-{number + 1}": forge(photo, seed=seed + number) for number in range(FORGERIES)}
    for name, image in stills.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    for name in ("real", "fake-1"):
        write_video(folder / f"{name}.mp4", pan(stills[name], seed=seed))
    real, *forgeries = (folder / f"{name}.png" for name in stills)
    truths: dict[Path, Literal["real", "fake"]] = {real: "real", folder / "real.mp4": "real"}
    truths |= dict.fromkeys([*forgeries, folder / "fake-1.mp4"], "fake")
    report = folder / "report.html"
    detector = Detector(weights, device=device)
    found = detector.iter_scan(list(truths), evidence=True)
    results = write_report((replace(r, truth=truths[r.path]) for r in found), report, detector)
    return DemoResult(tuple(DemoCase(truths[r.path], r) for r in results), report)


def photograph() -> np.ndarray:
    """The portrait that the demonstration forges, RGB `uint8` `(512, 512, 3)`.

    Example:
        >>> photograph().shape
        (512, 512, 3)
    """
    from PIL import Image

    with (files("sficonv.detect") / "astronaut.webp").open("rb") as file:
        return np.array(Image.open(file).convert("RGB"))


def forge(image: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Blend an altered copy of the largest face back into the photograph.

    Args:
        image: RGB `uint8` `(H, W, 3)` with a face.
        seed: Of every random choice.

    Returns:
        The forgery, of the same shape; outside the face it is the original.

    Raises:
        SficonvError: If there is no face.
    """
    import cv2

    from sficonv.faces.detectors import YuNet
    from sficonv.faces.outlines import random_regions

    faces = YuNet()(image)
    if not faces:
        raise SficonvError("the photograph holds no face to forge")
    x, y, width, height = faces[0].box
    side = min(int(1.5 * max(width, height)), *image.shape[:2])
    left = int(np.clip(x + width / 2 - side / 2, 0, image.shape[1] - side))
    top = int(np.clip(y + height / 2 - side / 2, 0, image.shape[0] - side))
    window = np.s_[top : top + side, left : left + side]
    rng = np.random.default_rng(seed)
    points = faces[0].landmarks - np.array([left, top], np.float32)
    (outline,) = random_regions(points, side, 1, rng)
    mask = cv2.fillConvexPoly(np.zeros((side, side), np.float32), np.rint(outline * side).astype(int), 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), side * rng.uniform(0.01, 0.03))[..., None]
    face = image[window].astype(np.float32)
    forgery = image.copy()
    forgery[window] = np.rint(face + mask * (_altered(face, rng) - face)).clip(0, 255)
    return forgery


def _altered(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of a face: softer, moved a little, with other colours."""
    import cv2

    side = len(face)
    share = rng.uniform(0.4, 1.0)
    small = cv2.resize(face, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    scale, shift = rng.uniform(0.96, 1.04), rng.uniform(-0.03, 0.03, 2) * side
    centre = (1 - scale) * side / 2
    matrix = np.array([[scale, 0, centre + shift[0]], [0, scale, centre + shift[1]]])
    moved = cv2.warpAffine(soft, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
    return moved * rng.uniform(0.96, 1.04, 3) + rng.uniform(-5, 5, 3)


def pan(image: np.ndarray, *, frames: int = SECONDS * FPS, seed: int = 0) -> Iterator[np.ndarray]:
    """Frames of a slow pan and zoom over a photograph, with the noise of a sensor.

    Args:
        image: RGB `uint8` `(H, W, 3)`.
        frames: How many; the way is the same.
        seed: Of the noise.

    Yields:
        RGB `uint8` `(480, 640, 3)`.
    """
    import cv2

    rng = np.random.default_rng(seed)
    grain = np.rint(rng.normal(0, 2, (SIZE[1] + 64, SIZE[0] + 64, 3))).astype(np.int16)
    height, width = image.shape[:2]
    for progress in np.linspace(0, 1, frames):
        zoom = 1 - 0.25 * progress
        w, h = width * zoom, width * zoom * SIZE[1] / SIZE[0]
        left, top = (width - w) * (0.3 + 0.2 * progress), (height - h) * 0.05 * progress
        window = np.array([[left, top], [left + w, top], [left, top + h]], np.float32)
        frame = np.array([[0, 0], [SIZE[0], 0], [0, SIZE[1]]], np.float32)
        view = cv2.warpAffine(image, cv2.getAffineTransform(window, frame), SIZE, flags=cv2.INTER_CUBIC)
        x, y = rng.integers(64, size=2)
        noise = grain[y : y + SIZE[1], x : x + SIZE[0]]
        yield np.clip(view + noise, 0, 255).astype(np.uint8)


def write_video(path: str | Path, frames: Iterator[np.ndarray], *, fps: int = FPS) -> Path:
    """Encode frames as H.264.

    Args:
        path: The file to write.
        frames: RGB `uint8` `(H, W, 3)`, even sides.
        fps: Frames per second.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "20"})
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return Path(path)
