"""What `prepare` can be told: how the source is read, how faces are cut, how the work is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from sficonv.datasets.options import SourceOptions
from sficonv.faces.detectors import DEFAULT_MIN_SCORE, DetectorName

Kept = Literal["largest", "main", "all"]
Points = Literal["five", "68"]
Sampling = Literal["even", "paper"]
Engine = Literal["local", "ray"]


class FrameSteps(NamedTuple):
    """Which frames to take of a real and of a fake video: distance from one to the next, and how many."""

    real: tuple[int, int]
    fake: tuple[int, int]


@dataclass(frozen=True)
class CropOptions:
    """How faces are found and cut.

    Args:
        frames: Frames per video, spread evenly over it.
        sampling: `"paper"` takes frames as the SFIConv paper does for its datasets, every N_iter-th from the
            start and at most N_frames, instead of `frames` spread evenly.
        margin: Side of the square crop relative to the longer side of the face box.
        size: Side of the crops in pixels.
        faces: Which of several faces to keep: `"largest"` in each frame, `"main"`, the person whose faces
            cover the largest area over the whole video, or `"all"`. Where the dataset has masks of its
            forgeries, only the forged people count.
        align: Turn and scale each face so that its five landmarks lie in the same place in every crop.
        detector: `"yunet"`, or `"dlib"`, the HOG detector of the paper: many times slower (extra `[dlib]`).
        detect: Look for faces. Without, the images are face crops already and are only resized.
        min_score: Confidence above which a detection counts as a face. Default: 0.7 for YuNet, 0 for dlib.
        self_blend: Number of forgeries to make of each real crop by blending it with itself (Shiohara and
            Yamasaki, CVPR 2022), for data without fakes. Their masks are written to `masks/`.
        self_blend_points: Landmarks that outline the blended region: the `"five"` of the face detector, or
            dlib's `"68"` (extra `[dlib]`; that model's training data is for non-commercial use only).
        seed: Seed of the forgeries.
        every: The frames that `sampling="paper"` takes; `prepare` fills this in.

    Raises:
        ValueError: A value is out of range.
    """

    frames: int = 32
    sampling: Sampling = "even"
    margin: float = 1.3
    size: int = 256
    faces: Kept = "largest"
    align: bool = False
    detector: DetectorName = "yunet"
    detect: bool = True
    min_score: float | None = None
    self_blend: int = 0
    self_blend_points: Points = "five"
    seed: int = 0
    every: FrameSteps | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size < 16 or not self.margin > 0 or self.self_blend < 0:
            raise ValueError(
                "frames must be at least 1, size at least 16, margin above 0, self_blend at least 0; got "
                f"{self.frames}, {self.size}, {self.margin} and {self.self_blend}"
            )
        for name, known in (("faces", Kept), ("sampling", Sampling), ("self_blend_points", Points)):
            if (value := getattr(self, name)) not in get_args(known):
                raise ValueError(f"{name} must be {' or '.join(get_args(known))}, got {value!r}")


@dataclass(frozen=True)
class WorkOptions:
    """How the work is done.

    Args:
        workers: Processes that work in parallel; 0 works in this process. Default: one per processor, on a
            Ray cluster one less.
        engine: `"local"` runs processes on this machine, `"ray"` tasks on a Ray cluster whose machines see
            source and output under the same paths (extra `[ray]`).
        address: Address of the Ray cluster, such as `auto` or `ray://host:10001`. Default: a cluster of this
            machine alone.
        timeout: Seconds without a new frame after which a file is given up and reported as a problem; 0 for
            never. Needs worker processes.
        shards: Also write the crops of each split into this many tar files, which training can stream (give
            it the folder `shards` as data).
        resume: Continue an earlier run in the output folder. Without, what it wrote is deleted first.

    Raises:
        ValueError: A value is out of range.
    """

    workers: int | None = None
    engine: Engine = "local"
    address: str | None = None
    timeout: float = 300
    shards: int = 0
    resume: bool = True

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise ValueError(f"engine must be local or ray, got {self.engine!r}")
        for name in ("workers", "timeout", "shards"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")


@dataclass(frozen=True)
class PrepareOptions(SourceOptions, CropOptions, WorkOptions):
    """All options of `prepare`: see `SourceOptions`, `CropOptions` and `WorkOptions`.

    Example:
        >>> options = PrepareOptions(frames=8, split="test")
        >>> options.size, options.workers
        (256, None)
    """

    def __post_init__(self) -> None:
        CropOptions.__post_init__(self)
        WorkOptions.__post_init__(self)

    def recorded(self) -> dict[str, Any]:
        """What decides the content of the prepared folder, by name, for `prepare.json`."""
        names = {field.name for kind in (SourceOptions, CropOptions) for field in fields(kind)}
        record = {name: value for name, value in asdict(self).items() if name in names - {"sampling"}}
        for name in ("methods", "compressions"):
            record[name] = None if record[name] is None else sorted(record[name])
        if isinstance(self.base_folder, Path):
            record["base_folder"] = str(self.base_folder)
        return record

    def with_min_score(self) -> PrepareOptions:
        """With the detector's usual confidence where none is given."""
        usual = DEFAULT_MIN_SCORE.get(self.detector, 0.0)
        return replace(self, min_score=usual if self.min_score is None else self.min_score)
