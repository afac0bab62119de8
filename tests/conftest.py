"""Fixtures shared by the whole suite: media made on the spot, a real photograph of a face, videos of it."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, here and in what the tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import csv
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.data import astronaut as astronaut_photo

from sficonv.datasets.source import Source, SourceItem

APART = ("tests/deploy/", "test_exported_back_ends")
"""Tests that `test_apart.py` runs in a process of its own: hundreds of tests and then conversions to OpenVINO
made a process end with SIGSEGV when it next started another program."""

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what runs apart to `test_apart.py`, where processes are used for many files; begin with it."""
    items.sort(key=lambda item: "test_apart.py" not in item.nodeid)
    if "PYTEST_XDIST_WORKER" in os.environ:
        for item in items:
            if any(part in item.nodeid for part in APART):
                item.add_marker(pytest.mark.skip("tests/test_apart.py runs it, in a process of its own"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference tensors and real data beside the project; skips where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"needs the reference data in {SHARED}, which is not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def interruptible() -> Callable[[], object]:
    """`preexec_fn` of a process that is to be interrupted: a shell starts background jobs deaf to SIGINT."""
    return lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)


class Structure(HTMLParser):
    """Every element with its attributes; fails on what is not closed."""

    VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="session")
def structure_of() -> Callable[[str], Structure]:
    """Reads a page: every element of it, where all are closed."""
    return Structure


@pytest.fixture
def lock_folder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a folder unreadable, also for an administrator, whom no permission bit stops."""
    locked: set[Path] = set()
    real_iterdir, real_scandir = Path.iterdir, os.scandir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder in locked:
            raise PermissionError(13, "Permission denied", str(folder))
        return real_iterdir(folder)

    def scandir(folder: Any = ".") -> Any:
        if isinstance(folder, Path) and folder in locked:
            raise PermissionError(13, "Permission denied", str(folder))
        return real_scandir(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(os, "scandir", scandir)
    return locked.add


@pytest.fixture(scope="session")
def touch() -> Callable[..., Path]:
    """Make empty files below a folder; gives the folder."""

    def make(root: Path, *names: str) -> Path:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return root

    return make


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """RGB photograph, 512 x 512, one face."""
    return astronaut_photo()


@pytest.fixture(scope="session")
def face_frames(astronaut: np.ndarray) -> Callable[[int], list[np.ndarray]]:
    """`n` frames of 192 x 192 in which the face moves; `seed` tells videos apart."""

    def make(n: int, *, seed: int = 0) -> list[np.ndarray]:
        small = cv2.resize(astronaut, (288, 288), interpolation=cv2.INTER_AREA)
        small = np.clip(small.astype(int) + 7 * (seed % 5), 0, 255).astype(np.uint8)
        return [small[:192, 30 + i % 10 : 222 + i % 10].copy() for i in range(n)]

    return make


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Write frames as a video; see the keywords."""

    def write(
        path: Path,
        frames: Sequence[np.ndarray],
        *,
        fps: int = 10,
        times: Sequence[float] | None = None,
        keyframe_every: int = 250,
        rotation: int | None = None,
        fragmented: bool = False,
        index_first: bool = False,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = "frag_keyframe+empty_moov" if fragmented else "faststart" if index_first else ""
        with av.open(str(path), "w", options={"movflags": flags} if flags else {}) as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            avi = path.suffix == ".avi"  # knows neither times nor frames shown out of order
            stream.options = {
                "crf": "12",
                "preset": "ultrafast",
                "g": str(keyframe_every),
                "bf": "02"[not avi],
            }
            stream.codec_context.time_base = Fraction(1, fps if avi else 1000)
            if rotation is not None:
                stream.set_display_rotation(rotation)
            for i, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.time_base = stream.codec_context.time_base
                frame.pts = round((times[i] if times else i / fps) / frame.time_base)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def clips_of_people(
    tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray
) -> dict[tuple[str, int], Path]:
    """A real video of each of six people and a forgery of it, by ("real" or "fake", number); 5 frames each.

    There is one photograph: mirrored and lit from six sides, its copies are no near duplicates.
    """
    from sficonv.detect.demo import forge, pan  # loads torch, which most tests of media do without
    from sficonv.detect.demo import write_video as encode

    root = tmp_path_factory.mktemp("clips")
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    made = {}
    for i in range(6):
        angle = i * np.pi / 3
        light = np.clip(0.65 + 0.45 * (x * np.cos(angle) + y * np.sin(angle)), 0.15, 1.15)
        lit = np.clip(astronaut[:, :: 1 - i % 2 * 2] * light[..., None], 0, 255).astype(np.uint8)
        for label, image in (("real", lit), ("fake", forge(lit, seed=i))):
            made[label, i] = encode(root / f"{label}{i}.mp4", pan(image, frames=5, seed=i))
    return made


@pytest.fixture(scope="session")
def counting_frames() -> Callable[[int], list[np.ndarray]]:
    """Flat 64 x 48 frames whose brightness is 20 + 4 times their number (up to 58 frames)."""
    return lambda n: [np.full((48, 64, 3), 20 + 4 * i, np.uint8) for i in range(n)]


@pytest.fixture(scope="session")
def sound_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MP4 with a sound track and no picture."""
    path = tmp_path_factory.mktemp("sound") / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, 1024 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def ffpp(tmp_path_factory: pytest.TempPathFactory, face_frames, write_video) -> Path:
    """A small FaceForensics++ tree: two pairs, train and val, real and fake, c23."""
    root = tmp_path_factory.mktemp("source") / "ffpp"
    names = ["original_sequences/youtube/c23/videos/000", "original_sequences/youtube/c23/videos/033"]
    names += [
        f"manipulated_sequences/Deepfakes/c23/videos/{pair}" for pair in ("000_003", "003_000", "033_097")
    ]
    for seed, name in enumerate(names):
        write_video(root / f"{name}.mp4", face_frames(12, seed=seed))
    (root / "splits").mkdir()
    (root / "splits/train.json").write_text('[["000", "003"]]')
    (root / "splits/val.json").write_text('[["033", "097"]]')
    return root


@pytest.fixture
def photos(tmp_path: Path, astronaut: np.ndarray) -> Path:
    """real/ and fake/ with three photographs of a face each."""
    root = tmp_path / "photos"
    for i in range(3):
        for label, image in (("real", astronaut), ("fake", astronaut[:, ::-1])):
            (root / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(image, 5 * i, axis=0)).save(root / label / f"{label}{i}.png")
    return root


@pytest.fixture(scope="session")
def problems_of() -> Callable[[Path], dict[str, tuple[str, str]]]:
    """Rows of `problems.csv`: path -> reason, detail; of several rows the first."""

    def read(out: Path) -> dict[str, tuple[str, str]]:
        with (out / "problems.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {row["path"]: (row["reason"], row["detail"]) for row in reversed(rows)}

    return read


@pytest.fixture(scope="session")
def crop_row() -> Callable[..., dict[str, object]]:
    """A valid row of a manifest by number, with columns changed."""

    def row(number: int, **changes: object) -> dict[str, object]:
        return {
            "path": f"crops/{number}.png",
            "label": number % 2,
            "dataset": "set",
            "method": "fake" if number % 2 else "real",
            "compression": "",
            "video_id": f"set/{number}",
            "source_ids": f"id{number}",
            "split": "train",
            "frame": number,
            "time": 0.1 * number,
            "face": 0,
            "box": [0.0, 1.0, 2.5, 3.0],
            "landmarks": [float(i) / 3 for i in range(10)],
            "sha256": f"{number:064d}",
        } | changes

    return row


@pytest.fixture
def df(crop_row: Callable[..., dict[str, object]]) -> pd.DataFrame:
    """Four rows of a manifest; of one neither landmarks nor time are known."""
    nothing_known = {"landmarks": [np.nan] * 10, "time": np.nan}
    return pd.DataFrame([crop_row(0), crop_row(1), crop_row(2, **nothing_known), crop_row(3)])


@pytest.fixture(scope="session")
def by_name() -> Callable[[Source], dict[str, SourceItem]]:
    """The items of a source by what follows the data set's name in `video_id`."""
    return lambda source: {item.video_id.partition("/")[2]: item for item in source.items}


@pytest.fixture(scope="session")
def notes() -> Callable[[Source], str]:
    """The notes of a source as one text."""
    return lambda source: "\n".join(source.notes)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB; skips where nobody may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the temporary folder."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)
