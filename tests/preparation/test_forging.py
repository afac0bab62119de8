"""Fakes from real photographs alone, through a whole run of `prepare`."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sficonv.datasets.manifest import identities, read_manifest
from sficonv.datasets.source import SourceItem
from sficonv.errors import DataError
from sficonv.preparation.forging import check_points, original_stem, points_68, with_identity
from sficonv.preparation.prepare import prepare

PATTERN = r"(?P<video>(?P<ids>\d+)_\d+)"


@pytest.fixture
def photos(tmp_path: Path, astronaut: np.ndarray) -> Path:
    """Four photographs of two people (as far as file names go)."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(("001_1", "001_2", "002_1", "002_2")):
        Image.fromarray(np.roll(astronaut, 3 * i, axis=1)).save(folder / f"{name}.png")
    return folder


def test_real_photographs_become_a_data_set(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = prepare(
        photos,
        out,
        label=0,
        video_pattern=PATTERN,
        size=128,
        self_blend=3,
        split_fractions=(0.5, 0.5, 0.0),
        workers=0,
    )
    df = read_manifest(out)
    real, fake = df[df["label"] == 0], df[df["label"] == 1]
    assert (len(real), len(fake), report.crops) == (4, 12, 16) and report.problems == []
    assert set(fake["method"]) == {"selfblend"} and set(real["mask"]) == {""}
    assert not set(real["video_id"]) & set(fake["video_id"])
    # Whoever splits again keeps a forgery beside its original: they share the identity.
    splits: dict[frozenset[str], set[str]] = {}
    for who, split in zip(identities(df), df["split"], strict=True):
        splits.setdefault(who, set()).add(split)
    assert len(splits) == 2 and all(len(names) == 1 for names in splits.values())
    assert not [warning for warning in report.warnings if "identit" in warning]
    for _, row in fake.iterrows():
        original = cv2.imread(str(out / f"{original_stem(row['path'])}.png")).astype(int)
        forgery = cv2.imread(str(out / row["path"])).astype(int)
        mask = cv2.imread(str(out / row["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (128, 128) and mask.dtype == np.uint8 and mask.max() > 40 and not mask[0].any()
        assert (forgery != original).any()
        # The target copy is the original or a little changed all over: then nothing outside is like it.
        outside = np.abs(forgery - original)[mask == 0]
        assert outside.mean() < 30


def test_a_run_that_goes_on_writes_the_same_forgeries(photos: Path, tmp_path: Path) -> None:
    options = {"label": 0, "video_pattern": PATTERN, "size": 64, "self_blend": 2}
    first = prepare(photos, tmp_path / "a", workers=0, **options)  # type: ignore[arg-type]
    again = prepare(photos, tmp_path / "b", workers=2, **options)  # type: ignore[arg-type]
    assert first.manifest_hash == again.manifest_hash and first.resumed == 0
    masks = sorted((tmp_path / "a/masks").rglob("*.png"))
    assert len(masks) == 8
    masks[0].unlink()
    repaired = prepare(photos, tmp_path / "a", workers=0, **options)  # type: ignore[arg-type]
    assert repaired.resumed == 3 and repaired.manifest_hash == first.manifest_hash and masks[0].is_file()
    other = prepare(photos, tmp_path / "c", workers=0, seed=1, **options)  # type: ignore[arg-type]
    assert other.manifest_hash != first.manifest_hash
    (photos / "001_1.png").unlink()
    left = prepare(photos, tmp_path / "a", workers=0, **options)  # type: ignore[arg-type]
    assert left.crops == 9


def test_files_without_identity_share_their_video_with_their_forgeries() -> None:
    item = SourceItem(Path("a,b.png"), 0, "d", "real", "", "d/a,b", (), "", "image")
    assert with_identity(item).source_ids == ("d/a_b",)
    assert with_identity(replace(item, source_ids=("7",))).source_ids == ("7",)


def test_path_of_the_original() -> None:
    assert original_stem("crops/d/a_0.png") == "crops/d/a_0"
    assert original_stem("crops/d/a_selfblend1_0_selfblend12.png") == "crops/d/a_selfblend1_0"


def test_points_of_dlib_lie_on_the_face(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("dlib", reason="needs the extra [dlib]")
    prepare(photos, tmp_path / "out", label=0, self_blend=1, self_blend_points="68", workers=0)
    df = read_manifest(tmp_path / "out")
    assert len(df) == 8
    row = df[df["label"] == 0].iloc[0]
    crop = cv2.cvtColor(cv2.imread(str(tmp_path / "out" / row["path"])), cv2.COLOR_BGR2RGB)
    five = np.asarray(row["landmarks"]).reshape(5, 2)
    points = points_68(crop, five)
    eyes = [points[36:42].mean(axis=0), points[42:48].mean(axis=0)]
    assert np.abs(np.array(eyes) - five[:2]).max() < 10
    assert np.abs(points[[48, 54]] - five[3:]).max() < 20
    assert points_68(crop, np.full((5, 2), np.nan)).shape == (68, 2)


def test_points_that_do_not_exist(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="five or 68"):
        prepare(photos, tmp_path / "out", self_blend=1, self_blend_points="81")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="self_blend"):
        prepare(photos, tmp_path / "out", self_blend=-1)
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    from sficonv.faces import detectors

    detectors.shape_predictor.cache_clear()
    with pytest.raises(DataError, match="dlib"):
        check_points("68")


@pytest.mark.shared
def test_photographs_of_the_london_set(shared: Path, tmp_path: Path) -> None:
    source = tmp_path / "london"
    source.mkdir()
    names = ("001_03_neutral", "001_08_smiling", "002_03_neutral", "003_03_neutral")
    for name in names:
        (source / f"{name}.jpg").symlink_to(shared / f"data/london_faces/{name}.jpg")
    report = prepare(
        source,
        tmp_path / "out",
        label=0,
        video_pattern=r"(?P<video>(?P<ids>\d{3})_.*)",
        self_blend=2,
        workers=0,
    )
    df = read_manifest(tmp_path / "out")
    assert report.problems == [] and df["label"].tolist().count(1) == 8 and len(df) == 12
    for _, row in df[df["label"] == 1].iterrows():
        mask = cv2.imread(str(tmp_path / "out" / row["mask"]), cv2.IMREAD_GRAYSCALE)
        assert 0.01 < (mask > 0).mean() < 0.6
