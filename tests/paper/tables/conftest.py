"""Prepared folders as the tables want them: FaceForensics++ in two compressions, Celeb-DF and DFDC."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from sficonv.datasets.manifest import write_manifest

SIDE = 32
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
PAIRS = 10


def crop(
    folder: Path, rng: np.random.Generator, label: int, dataset: str, video: str, **values: object
) -> dict:
    """Write one noise face, a fake one brighter, and give its row of the manifest."""
    path = f"crops/{video.replace('/', '_')}_{values.get('frame', 0)}.png"
    image = rng.integers(0, 150, (SIDE, SIDE, 3)) + 40 * label
    cv2.imwrite(str(folder / path), image.astype(np.uint8))
    return {
        "path": path, "label": label, "dataset": dataset, "method": "real", "compression": "",
        "video_id": f"{dataset}/{video}", "source_ids": video, "split": "test", "frame": 0, "time": 0.0,
        "face": 0, "box": [0.0] * 4, "landmarks": [0.0] * 10, "sha256": path, "official_split": "", **values,
    }  # fmt: skip


def forensics(root: Path) -> None:
    """Ten pairs of identities, four manipulations, two compressions, the official splits, two frames each."""
    folder = root / "ffpp"
    (folder / "crops").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    for pair in range(PAIRS):
        a, b = f"{2 * pair:03d}", f"{2 * pair + 1:03d}"
        split = "train" if pair < 6 else "val" if pair < 8 else "test"
        videos = [("real", a, a), ("real", b, b)]
        videos += [(m, f"{x}_{y}", f"{x},{y}") for m in METHODS for x, y in ((a, b), (b, a))]
        for compression in ("c23", "c40"):
            for method, name, ids in videos:
                for frame in (0, 1):
                    given = {"method": method, "compression": compression, "source_ids": ids, "frame": frame}
                    video = f"{compression}/{method}/{name}"
                    splits = {"split": split, "official_split": split}
                    rows.append(crop(folder, rng, int(method != "real"), "ffpp", video, **given, **splits))
    write_manifest(folder, pd.DataFrame(rows))


def celebdf(root: Path) -> None:
    """Videos for tests only."""
    folder = root / "celebdf"
    (folder / "crops").mkdir(parents=True)
    rng = np.random.default_rng(1)
    rows = [
        crop(folder, rng, label, "celebdf", f"{label}_{n}", method=("real", "fake")[label])
        for label in (0, 1)
        for n in range(4)
    ]
    write_manifest(folder, pd.DataFrame(rows))


def dfdc(root: Path) -> None:
    """Ten originals and a fake of each, of no published split; it has a column that the others lack."""
    folder = root / "dfdc"
    (folder / "crops").mkdir(parents=True)
    rng = np.random.default_rng(2)
    rows = [
        crop(folder, rng, label, "dfdc", f"{label}_{n}", method=("real", "fake")[label], source_ids=f"p{n}")
        for label in (0, 1)
        for n in range(10)
    ]
    write_manifest(folder, pd.DataFrame(rows).assign(dfdc_part="0"))


@pytest.fixture
def with_dfdc(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the folder of prepared folders, with DFDC among them."""
    root = shutil.copytree(prepared, tmp_path / "with_dfdc")
    dfdc(root)
    return root


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of prepared folders; tests that change it take a copy."""
    root = tmp_path_factory.mktemp("prepared")
    forensics(root)
    celebdf(root)
    return root
