"""What happens to a picture on its way to whoever looks at it: seven corruptions in five strengths.

A corrupted image depends on the image, the kind, the level and the seed alone. Levels go from 1, barely
visible, to 5, hardly usable. Only the noise is random; H.264 runs in one thread, which makes it repeatable.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sficonv.media.container import open_container

LEVELS = (1, 2, 3, 4, 5)

_CLIP_RATE = 25  # frames per second


@dataclass(frozen=True)
class Corruption:
    """One kind of damage.

    Attributes:
        name: As in `CORRUPTIONS`.
        unit: What the numbers in `strengths` mean.
        strengths: One for each level, 1 to 5.
        apply: Takes the frames of a clip (one for a still image), a strength and a generator; gives as many
            frames.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Sequence[np.ndarray], float, np.random.Generator], list[np.ndarray]]


def corrupt(image: np.ndarray, kind: str, level: int, seed: int = 0) -> np.ndarray:
    """Damage one image.

    For "h264" the image is a clip of a single frame, hence a keyframe: the traces of motion compensation are
    missing. `corrupt_clip` has them.

    Args:
        image: uint8 `(H, W, 3)`, RGB.
        kind: A key of `CORRUPTIONS`.
        level: 1 (slight) to 5 (severe).
        seed: Of the noise; the image itself goes into it too, so that two images get two patterns.

    Returns:
        A new uint8 array of the same shape.

    Raises:
        ValueError: No such kind or level, or the array is not a uint8 RGB image.

    Example:
        >>> from skimage.data import astronaut
        >>> corrupt(astronaut(), "jpeg", level=3).shape
        (512, 512, 3)
    """
    return corrupt_clip([image], kind, level, seed)[0]


def corrupt_clip(frames: Iterable[np.ndarray], kind: str, level: int, seed: int = 0) -> list[np.ndarray]:
    """Damage the frames of one clip: "h264" encodes them as one video, the others treat each for itself.

    Args:
        frames: uint8 `(H, W, 3)`, RGB, in order, all of one size.
        kind: A key of `CORRUPTIONS`.
        level: 1 (slight) to 5 (severe).
        seed: Of the noise, which differs from frame to frame.

    Returns:
        As many new frames of the same shape.

    Raises:
        ValueError: No such kind or level, or frames that are not uint8 RGB images of one size.

    Example:
        >>> from skimage.data import astronaut
        >>> clip = [np.roll(astronaut()[:128, 128:256], i, axis=1) for i in range(3)]
        >>> len(corrupt_clip(clip, "h264", level=4))
        3
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind must be one of {', '.join(CORRUPTIONS)}, got {kind!r}")
    if level not in LEVELS:
        raise ValueError(f"level must be 1 to 5, got {level!r}")
    clip = list(frames)
    for frame in clip:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(f"frames must be uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        if frame.shape != clip[0].shape:
            raise ValueError(f"frames of one clip must have one size, got {clip[0].shape} and {frame.shape}")
    if not clip:
        return []
    corruption = CORRUPTIONS[kind]
    rng = np.random.default_rng([seed, level, zlib.crc32(np.ascontiguousarray(clip[0]).tobytes())])
    return corruption.apply(clip, corruption.strengths[level - 1], rng)


def _each(
    change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray],
) -> Callable[[Sequence[np.ndarray], float, np.random.Generator], list[np.ndarray]]:
    """Treat every frame for itself."""
    return lambda frames, strength, rng: [change(frame, strength, rng) for frame in frames]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Encode an RGB image as JPEG and decode it again."""
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    return jpeg(image, int(quality))


def _blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def _noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    noisy = image + rng.normal(scale=strength, size=image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _down_up(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    size = image.shape[1::-1]
    small = [max(1, round(side * factor)) for side in size]
    return cv2.resize(
        cv2.resize(image, small, interpolation=cv2.INTER_AREA), size, interpolation=cv2.INTER_LINEAR
    )


def _saturation(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def _contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    grey = float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
    return np.clip(np.rint(grey + factor * (image.astype(np.float32) - grey)), 0, 255).astype(np.uint8)


def _h264(frames: Sequence[np.ndarray], crf: float, rng: np.random.Generator) -> list[np.ndarray]:
    import av

    height, width = frames[0].shape[:2]
    # 4:2:0 wants even sides, and the encoder at least one block.
    rows, columns = (np.minimum(np.arange(max(16, side + side % 2)), side - 1) for side in (height, width))
    stored = io.BytesIO()
    with av.open(stored, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_CLIP_RATE)
        stream.width, stream.height, stream.pix_fmt = len(columns), len(rows), "yuv420p"
        stream.options = {"crf": str(int(crf)), "threads": "1"}
        for frame in frames:
            padded = np.ascontiguousarray(frame[rows[:, None], columns])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode())
    stored.seek(0)
    with open_container(stored) as coded:
        decoded = [frame.to_ndarray(format="rgb24") for frame in coded.decode(video=0)]
    return [np.ascontiguousarray(frame[:height, :width]) for frame in decoded]


CORRUPTIONS: dict[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        Corruption("jpeg", "quality", (80, 60, 40, 20, 10), _each(_jpeg)),
        Corruption("h264", "CRF (FaceForensics++: 23 and 40)", (23, 28, 34, 40, 46), _h264),
        Corruption("blur", "sigma in pixels", (0.7, 1.2, 2.0, 3.0, 4.5), _each(_blur)),
        Corruption("noise", "sigma in grey levels", (3, 6, 12, 20, 32), _each(_noise)),
        Corruption("resize", "share of the side", (0.75, 0.5, 0.35, 0.25, 0.125), _each(_down_up)),
        Corruption("saturation", "share kept", (0.8, 0.6, 0.4, 0.2, 0.0), _each(_saturation)),
        Corruption("contrast", "share kept", (0.85, 0.7, 0.55, 0.4, 0.25), _each(_contrast)),
    )
}
