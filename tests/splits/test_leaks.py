"""Leaks between splits, near-duplicates, and `check` on prepared folders, whole and damaged."""

import hashlib
import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from skimage import data as pictures

from sficonv.cli.app import main
from sficonv.datasets.manifest import write_manifest
from sficonv.splits.check import check
from sficonv.splits.leaks import check_manifest, find_leaks
from sficonv.splits.near_duplicates import MAX_DISTANCE, _candidates, find_near_duplicates, perceptual_hash


def test_no_findings(df: pd.DataFrame) -> None:
    assert check_manifest(df) == []
    assert check_manifest(df.head(0)) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"video_id": "a"}, {"video_id": "a", "split": "val"}], "1 videos are in more than one split: a"),
        (
            [{"source_ids": "033,097"}, {"source_ids": "097,033", "split": "test"}],
            "2 source identities are in more than one split: set/033, set/097",
        ),
        ([{"source_ids": "033"}, {"source_ids": "033,097", "split": "val"}], "1 source identities"),
        ([{"sha256": "x"}, {"sha256": "x", "split": "val"}], "1 identical crops are in more than one split"),
        ([{"sha256": "x", "label": 0}, {"sha256": "x", "label": 1}], "1 identical crops are both"),
        (
            [{"source_ids": "033", "label": 0}, {"source_ids": "033,097", "label": 1, "split": "test"}],
            "1 fakes have their original in another split: set/11",
        ),
        ([{"split": "val", "label": 0}], "split 'val' has no fake crops"),
        ([{"split": "test", "label": 1}], "split 'test' has no real crops"),
    ],
)
def test_findings(df: pd.DataFrame, rows: list[dict[str, object]], message: str, crop_row) -> None:
    more = [crop_row(10 + i, **changes) for i, changes in enumerate(rows)]
    findings = check_manifest(pd.concat([df, pd.DataFrame(more)], ignore_index=True))
    assert any(message in finding for finding in findings), findings


def test_rows_without_a_split_leak_nothing(df: pd.DataFrame, crop_row) -> None:
    outside = pd.DataFrame([crop_row(20, split="", source_ids="id1", video_id="set/1")])
    assert check_manifest(pd.concat([df, outside], ignore_index=True)) == []


def test_the_same_number_in_two_datasets_is_two_people(df: pd.DataFrame, crop_row) -> None:
    rows = [
        crop_row(20, source_ids="134", split="train"),
        crop_row(21, source_ids="134", split="val", dataset="other"),
    ]
    df = pd.concat([df, pd.DataFrame(rows)], ignore_index=True)
    assert not any("134" in finding for finding in check_manifest(df))
    assert any("134" in finding for finding in check_manifest(df.assign(dataset="set")))


def test_the_official_test_list_is_not_for_training(df: pd.DataFrame) -> None:
    lists = ["test", "train", "", "test"]
    [finding] = find_leaks(df.assign(official_split=lists))
    assert finding.kind == "official_test_in_training" and finding.serious
    assert finding.count == 2 and finding.examples == ["set/0", "set/3"]


def test_a_single_class_is_no_leak(df: pd.DataFrame) -> None:
    [finding] = find_leaks(df[df["label"] == 0])
    assert finding.kind == "single_class" and not finding.serious


def kinds(df: pd.DataFrame, rows: list[dict[str, object]], crop_row) -> set[str]:
    """What is found when these rows are added."""
    more = pd.DataFrame([crop_row(30 + i, **changes) for i, changes in enumerate(rows)])
    return {finding.kind for finding in find_leaks(pd.concat([df, more], ignore_index=True))}


@pytest.mark.parametrize(
    "rows",
    [
        [{"sha256": "x", "label": 0}, {"sha256": "x", "label": 0}],  # a still video: one split, one label
        [{"sha256": "x", "label": 0, "split": ""}, {"sha256": "x", "label": 0, "split": ""}],
        [{"sha256": ""}, {"sha256": "", "split": "val"}],  # of which nothing is known
        [{"sha256": "", "label": 0}, {"sha256": "", "label": 1}],
        [{"source_ids": "77", "label": 0}, {"source_ids": "77,78", "label": 1}],  # both in one split
    ],
)
def test_what_is_no_leak(df: pd.DataFrame, rows: list[dict[str, object]], crop_row) -> None:
    assert kinds(df, rows, crop_row) <= {"single_class"}


@pytest.mark.parametrize("splits", [("train", "test"), ("test", "train"), ("val", "test"), ("test", "val")])
def test_a_fake_apart_from_its_original_whichever_comes_first(df: pd.DataFrame, splits, crop_row) -> None:
    of_real, of_fake = splits
    rows = [
        {"source_ids": "77", "label": 0, "split": of_real},
        {"source_ids": "77,78", "label": 1, "split": of_fake},
    ]
    assert "fake_apart_from_original" in kinds(df, rows, crop_row)


def test_real_videos_of_a_person_in_two_splits_are_no_fakes(df: pd.DataFrame, crop_row) -> None:
    rows = [{"source_ids": "77", "label": 0, "split": split} for split in ("train", "val")]
    found = kinds(df, rows, crop_row)
    assert "identity_in_several_splits" in found and "fake_apart_from_original" not in found


def test_the_first_ten_of_many_are_named(df: pd.DataFrame, crop_row) -> None:
    rows = [crop_row(20 + i, video_id=f"set/{i % 12:02}", split=("val", "test")[i // 12]) for i in range(24)]
    (finding,) = [f for f in find_leaks(pd.DataFrame(rows)) if f.kind == "video_in_several_splits"]
    assert finding.count == 12 and finding.examples == [f"set/{i:02}" for i in range(10)]


def test_a_finding_stays_as_it_was_found(df: pd.DataFrame) -> None:
    [finding] = find_leaks(df[df["label"] == 0])
    with pytest.raises(FrozenInstanceError):
        finding.serious = True  # type: ignore[misc]


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """Six different grey pictures of 96 x 96."""
    photographs = (pictures.astronaut(), pictures.cat(), pictures.coffee(), pictures.rocket())
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in photographs]
    grey += [pictures.camera(), pictures.moon()]
    return [cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA) for image in grey]


def as_jpeg(image: np.ndarray) -> np.ndarray:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def test_the_hash_survives_what_a_copy_goes_through(faces: list[np.ndarray]) -> None:
    def bits(image: np.ndarray) -> np.ndarray:
        return np.unpackbits(np.frombuffer(bytes.fromhex(perceptual_hash(image)), np.uint8))

    for image in faces:
        half = cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA)
        darker = (image * 0.8).astype(np.uint8)
        for copy in (as_jpeg(image), half, darker):
            assert (bits(copy) != bits(image)).sum() <= MAX_DISTANCE
    distances = [(bits(a) != bits(b)).sum() for i, a in enumerate(faces) for b in faces[:i]]
    assert min(distances) > 2 * MAX_DISTANCE


def test_bands_miss_no_near_hash() -> None:
    """Against comparing all pairs."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 2, (40, 64))
    bits = centres[rng.integers(40, size=400)] ^ (rng.random((400, 64)) < 0.04)
    names = [str(i) for i in range(400)]
    split = rng.choice(["train", "val", "test"], 400)
    rows = pd.DataFrame({"split": split, "video_id": names, "dataset": "set", "source_ids": names})
    rows = rows.assign(sha256=names, phash=[np.packbits(row).tobytes().hex() for row in bits])
    distance = (bits[:, None] != bits[None]).sum(axis=2)
    apart = split[:, None] != split[None]
    expected = {(i, j) for i, j in np.argwhere((distance <= MAX_DISTANCE) & apart).tolist() if i < j}
    found = {tuple(sorted(pair)) for pair in _candidates(rows)}
    assert len(expected) > 100 and found == expected


@pytest.fixture
def prepared(tmp_path: Path, faces: list[np.ndarray], crop_row) -> Path:
    """Six crops of six people, three in each of two splits; the last one is a darker JPEG of the first."""
    rows = []
    copy = as_jpeg((faces[0] * 0.9).astype(np.uint8))
    for number, image in enumerate([*faces[:5], copy]):
        changes = {"split": "train" if number < 3 else "test", "source_ids": str(number), "label": number % 2}
        path = tmp_path / "data" / f"crops/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        rows.append(crop_row(number, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), **changes))
    write_manifest(tmp_path / "data", pd.DataFrame(rows))
    return tmp_path / "data"


def without_copy(prepared: Path) -> None:
    write_manifest(prepared, pd.read_parquet(prepared / "manifest.parquet").iloc[:5])


def test_near_duplicates_in_two_splits(prepared: Path) -> None:
    [finding] = check(prepared).findings
    assert finding.kind == "near_duplicate_in_several_splits" and finding.serious and finding.count == 1
    assert finding.examples == ["crops/0.png = crops/5.png"]
    assert check(prepared).failed
    df = pd.read_parquet(prepared / "manifest.parquet")
    hashed = df.assign(phash=[perceptual_hash(cv2.imread(str(prepared / p), 0)) for p in df["path"]])
    write_manifest(prepared, hashed)
    assert check(prepared, files=False).findings == [finding]  # the hash of the manifest is enough
    same_video = hashed.assign(video_id="set/1")
    assert find_near_duplicates(same_video, prepared) is None  # told of as a video in two splits
    assert find_near_duplicates(hashed.assign(split="train"), prepared) is None
    alike = hashed.assign(phash="0" * 16)  # hashes that agree by chance: the pictures decide
    assert find_near_duplicates(alike, prepared).examples == finding.examples


def test_nothing_wrong(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_copy(prepared)
    report = check(prepared)
    assert report.findings == [] and not report.failed and report.crops == 5
    assert main(["check", str(prepared)]) == 0
    assert "no leaks" in capsys.readouterr().out


def test_the_command_line_says_what_and_fails(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(prepared)]) == 1
    shown = capsys.readouterr().out
    assert "PROBLEM: 1 crops are nearly the same" in shown and "crops/0.png = crops/5.png" in shown
    assert main(["check", str(prepared), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["failed"] and answer["findings"][0]["kind"] == "near_duplicate_in_several_splits"
    assert main(["check", str(prepared), "--no-files"]) == 0  # nothing was looked at


def test_crops_that_are_gone_or_changed(prepared: Path) -> None:
    without_copy(prepared)
    (prepared / "crops/1.png").unlink()
    (prepared / "crops/2.png").write_bytes(b"not a picture")
    crop = cv2.imread(str(prepared / "crops/3.png"))
    cv2.imwrite(str(prepared / "crops/3.png"), 255 - crop)
    found = {finding.kind: finding.examples for finding in check(prepared).findings}
    assert found == {
        "crop_missing": ["crops/1.png"],
        "crop_changed": ["crops/2.png", "crops/3.png"],
    }
    assert check(prepared).failed
    assert check(prepared, files=False).findings == []


def test_no_manifest_is_a_failure(tmp_path: Path) -> None:
    assert main(["check", str(tmp_path)]) == 1
