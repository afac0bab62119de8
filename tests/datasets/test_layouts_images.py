"""Data sets of images and face crops: WildDeepfake's archives, DF40, HFF and DeepfakeBench's lists."""

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sficonv.datasets.inspection import inspect_source
from sficonv.datasets.layouts import detect_layout, read_source
from sficonv.datasets.manifest import read_manifest
from sficonv.errors import DataError
from sficonv.preparation.prepare import prepare

Touch = Callable[..., Path]


def write_tar(path: Path, names: list[str], data: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


# --- WildDeepfake ------------------------------------------------------------------------------------------


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    root = tmp_path / "WildDeepfake" / "deepfake_in_the_wild"
    for folder in ("real_train", "real_test", "fake_train", "fake_test"):
        kind = folder.partition("_")[0]
        for i in range(10):
            frames = [f"./{i}/{kind}/{s}/{k}.png" for s in (3, 11) for k in (10, 9, 100)]
            write_tar(root / folder / f"{i}.tar.gz", frames)
    return root


def test_wilddeepfake(wild: Path) -> None:
    assert detect_layout(wild) == detect_layout(wild.parent) == "wilddeepfake"
    source = read_source(wild.parent)
    assert len(source.items) == 4 * 10 * 2
    found = {item.video_id.partition("/")[2]: item for item in source.items}
    item = found["fake_test/7/fake/11"]
    assert (item.label, item.split, item.source_ids) == (1, "test", ("fake_test/7",))
    assert item.path == wild / "fake_test/7.tar.gz"
    assert [name.rpartition("/")[2] for name in item.members] == ["9.png", "10.png", "100.png"]
    splits = defaultdict(set)
    for item in source.items:
        splits[item.source_ids].add(item.split)
    assert all(len(values) == 1 for values in splits.values())  # one archive, one video, one split
    assert {i.split for i in source.items if "_test" in i.video_id} == {"test"}
    assert sum(i.split == "val" for i in source.items) == 2 * 2 * 2
    text = "\n".join(source.notes)
    assert "80 of the 7,314" in text and "--no-detect" in text


def test_wilddeepfake_unpacked_in_place_and_spelled_with_spaces(wild: Path, touch: Touch) -> None:
    (wild / "fake_test").rename(wild / "fake test")
    touch(wild, "fake test/0/fake/3/1.png", "fake test/0/fake/3/2.png", "fake test/77/fake/1/1.png")
    items = [item for item in read_source(wild).items if item.video_id.startswith("wilddeepfake/fake_test/")]
    assert len(items) == 9 * 2 + 3
    unpacked = [item for item in items if not item.members]
    assert {item.video_id for item in unpacked} == {
        "wilddeepfake/fake_test/0/fake/3",
        "wilddeepfake/fake_test/77/fake/1",
    }
    assert {item.kind for item in unpacked} == {"image"} and {item.split for item in items} == {"test"}


def test_wilddeepfake_contradiction_and_damage(wild: Path) -> None:
    (wild / "fake_test/3.tar.gz").write_bytes(b"\x1f\x8b")
    source = read_source(wild)
    (broken,) = (item for item in source.items if item.path == wild / "fake_test/3.tar.gz")
    assert broken.members == () and any("3.tar.gz: damaged" in note for note in source.notes)
    write_tar(wild / "real_train/99.tar.gz", ["99/fake/0/1.png"])
    with pytest.raises(DataError, match="is fake by its name, but lies in real_train"):
        read_source(wild)


def test_prepare_wilddeepfake(tmp_path: Path, astronaut: np.ndarray) -> None:
    root = tmp_path / "wild"
    small = cv2.cvtColor(cv2.resize(astronaut[:256, 96:352], (96, 96)), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".png", small)[1].tobytes()
    for kind in ("real", "fake"):
        write_tar(
            root / f"{kind}_test/0.tar.gz", [f"0/{kind}/{s}/{k}.png" for s in (1, 2) for k in range(6)], data
        )
    (root / "fake_test/1.tar.gz").write_bytes(b"broken")
    report = prepare(root, tmp_path / "out", frames=2, size=32, detect=False, workers=0)
    df = read_manifest(tmp_path / "out")
    assert report.crops == len(df) == 2 * 2 * 2 and report.broken == 1
    assert df.groupby("video_id").size().to_dict() == {
        f"wilddeepfake/{kind}_test/0/{kind}/{s}": 2 for kind in ("real", "fake") for s in (1, 2)
    }
    assert set(df["split"]) == {"test"} and sorted(set(df["frame"])) == [1, 4]
    again = prepare(root, tmp_path / "out", frames=2, size=32, detect=False, workers=0)
    assert again.manifest_hash == report.manifest_hash and again.resumed == 5


# --- DF40 and HFF ------------------------------------------------------------------------------------------


def test_df40(tmp_path: Path, touch: Touch) -> None:
    root = touch(
        tmp_path / "DF40",
        "simswap/ff/frames/000_003/000.png",
        "simswap/ff/frames/000_003/031.png",
        "simswap/cdf/frames/id0_id1_0000/000.png",
        "DiT/ff/999.png",
        "heygen/fake/a/0.png",
        "heygen/real/b/0.png",
        "simswap/ff/landmarks/000_003/000.npy",
        "simswap/other/x.png",
    )
    assert detect_layout(root) == "df40"
    source = read_source(root)
    found = {item.name.partition("/")[2]: item for item in source.items}
    assert {name: (item.label, item.method, item.split) for name, item in found.items()} == {
        "simswap/ff/000_003/000": (1, "simswap", ""),
        "simswap/ff/000_003/031": (1, "simswap", ""),
        "simswap/cdf/id0_id1_0000/000": (1, "simswap", "test"),
        "DiT/ff/999": (1, "DiT", ""),
        "heygen/fake/a/0": (1, "heygen", "test"),
        "heygen/real/b/0": (0, "real", "test"),
    }
    assert found["simswap/ff/000_003/031"].source_ids == ("000", "003")
    assert found["simswap/cdf/id0_id1_0000/000"].source_ids == ("id0", "id1")
    assert found["simswap/ff/000_003/031"].frame == 31
    text = "\n".join(source.notes)
    assert "until then 3 images have no split" in text and "simswap/x" in text
    (root / "splits").mkdir()
    (root / "splits/train.json").write_text('[["000", "003"]]')
    (root / "splits/test.json").write_text('[["999", "960"]]')
    splits = {item.path.name: item.split for item in read_source(root).items if "/ff/" in item.video_id}
    assert splits == {"000.png": "train", "031.png": "train", "999.png": "test"}


def test_hff(tmp_path: Path, touch: Touch) -> None:
    names = [
        f"train/{kind}/{i}.jpg" for kind in ("fake/StarGAN", "fake/Glow", "real/CelebA") for i in range(20)
    ]
    root = touch(
        tmp_path / "hff", *names, "val/fake/PGGAN/0.jpg", "val/real/CelebA-HQ/0.jpg", "val/real/0.jpg"
    )
    (root / "train.txt").write_text("train/fake/StarGAN/0.jpg 0\n")
    assert detect_layout(root) == "hff"
    source = read_source(root)
    assert len(source.items) == 63 and len({item.video_id for item in source.items}) == 63
    assert {(i.label, i.method) for i in source.items} == {
        (1, "StarGAN"),
        (1, "Glow"),
        (1, "PGGAN"),
        (0, "real"),
    }
    splits = defaultdict(set)
    for item in source.items:
        splits[item.path.parts[-4] if item.path.parts[-4] != "hff" else "val"].add(item.split)
    assert splits["train"] == {"train", "val"} and splits["val"] == {"test"}
    text = "\n".join(source.notes)
    assert "0 = fake, 1 = real" in text and "face2face, stylegan" in text and "63 of about 155,000" in text
    rows = {row.method: row for row in inspect_source(root).rows}
    assert sum(rows["StarGAN"].splits.values()) == 20 and rows["StarGAN"].expected is None


# --- DeepfakeBench -----------------------------------------------------------------------------------------


def write_json(file: Path, data: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data))
    return file


def frames(folder: str, *names: str, slash: str = "/") -> list[str]:
    return [f"{folder}/{name}".replace("/", slash) for name in names]


FFPP = {
    "FF-DF": {
        "FF-real": {
            "train": {
                "c23": {"000": {"label": "FF-real", "frames": frames("FF++/original/c23/000", "0.png")}}
            },
            "val": {},
            "test": {
                "c23": {"033": {"label": "FF-real", "frames": frames("FF++/original/c23/033", "0.png")}}
            },
        },
        "FF-DF": {
            "train": {
                "c23": {
                    "000_003": {
                        "label": "FF-DF",
                        "frames": frames("FF++/Deepfakes/c23/000_003", "0.png", "7.png"),
                        "masks": frames("FF++/masks/000_003", "0.png"),
                    }
                }
            }
        },
    }
}


@pytest.mark.parametrize("prefix", ["", "./datasets/rgb/", "F:\\data\\", "/home/me/data/", "..\\"])
def test_deepfakebench_frames_are_found_again(tmp_path: Path, touch: Touch, prefix: str) -> None:
    slash = "\\" if "\\" in prefix else "/"
    names = ["original/c23/000/0.png", "original/c23/033/0.png"]
    names += ["Deepfakes/c23/000_003/0.png", "Deepfakes/c23/000_003/7.png", "masks/000_003/0.png"]
    touch(tmp_path / "bench/datasets/rgb", *(f"FF++/{name}" for name in names))
    text = json.dumps(FFPP)
    text = text.replace("/", json.dumps(slash)[1:-1]).replace('"FF++', f'"{json.dumps(prefix)[1:-1]}FF++')
    file = tmp_path / "bench/preprocessing/dataset_json/FF-DF.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert detect_layout(file) == "deepfakebench"
    source = read_source(file)
    found = {item.name: item for item in source.items}
    assert {name: (i.label, i.method, i.split, i.compression, i.source_ids) for name, i in found.items()} == {
        "FF-DF/c23/FF-real/000/0": (0, "real", "train", "c23", ("000",)),
        "FF-DF/c23/FF-real/033/0": (0, "real", "test", "c23", ("033",)),
        "FF-DF/c23/FF-DF/000_003/0": (1, "Deepfakes", "train", "c23", ("000", "003")),
        "FF-DF/c23/FF-DF/000_003/7": (1, "Deepfakes", "train", "c23", ("000", "003")),
    }
    assert found["FF-DF/c23/FF-DF/000_003/0"].mask == tmp_path / "bench/datasets/rgb/FF++/masks/000_003/0.png"
    assert found["FF-DF/c23/FF-DF/000_003/7"].mask is None and found["FF-DF/c23/FF-DF/000_003/7"].frame == 7


def test_deepfakebench_a_tested_video_never_trains(tmp_path: Path, touch: Touch) -> None:
    """Its Celeb-DF list trains on the whole set, the test videos included, and validates on the test set."""
    both = {"id0_id1_0000": {"label": "CelebDFv2_fake", "frames": ["c/id0_id1_0000/0.png"]}}
    only = {"id1_id0_0000": {"label": "CelebDFv2_fake", "frames": ["c/id1_id0_0000/0.png", "c/gone.png"]}}
    data = {"Celeb-DF-v2": {"CelebDFv2_fake": {"train": {**both, **only}, "val": both, "test": both}}}
    touch(tmp_path, "c/id0_id1_0000/0.png", "c/id1_id0_0000/0.png")
    source = read_source(write_json(tmp_path / "Celeb-DF-v2.json", data))
    assert {i.source_ids: i.split for i in source.items} == {("id0", "id1"): "test", ("id1", "id0"): "train"}
    text = "\n".join(source.notes)
    assert "1 videos are in several splits and were dropped from train (kept in test)" in text
    assert "id1_id0_0000 (1 of 2)" in text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the file should hold an object"),
        ({"D": {"D_Real": {"train": {"v": {"label": "D_Real", "frames": "x"}}}}}, "frames should be a list"),
        (
            {"D": {"D_Real": {"train": {"v": {"label": "D_Fake", "frames": []}}}}},
            "labelled 'D_Fake', but in the group",
        ),
        ({"D": {"D_X": {"train": {"v": {"label": "D_X", "frames": []}}}}}, "neither real nor fake"),
        ({"D": {"D_Real": {"holdout": {}}}}, "split 'holdout'"),
        ({"D": {"D_Real": {"train": {}}}}, "no frames in it"),
        (
            {"D": {"D_Real": {"train": {"v": {"label": "D_Real", "frames": ["a/b.png"]}}}}},
            "none of its 1 frames",
        ),
    ],
)
def test_deepfakebench_damaged(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_source(write_json(tmp_path / "x.json", data))


def test_deepfakebench_the_published_dfdc_list_with_a_lone_label(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path, "a/0.png")
    data = {"DFDC": {"DFDC_Fake": {"test": {"aaa": {"label": "DFDC_Fake", "frames": ["a/0.png"]}}}}}
    data["DFDC"]["DFDC_Fake"]["val"] = {"label": "DFDC_Fake", "frames": ["a/0.png"]}  # type: ignore[dict-item]
    (item,) = read_source(write_json(tmp_path / "DFDC.json", data)).items
    assert (item.label, item.split, item.source_ids) == (1, "test", ("aaa",))


def test_prepare_crops_of_a_deepfakebench_list(tmp_path: Path, astronaut: np.ndarray) -> None:
    for name in ("real/0000/0.png", "fake/0000_fake/0.png"):
        (tmp_path / "UADFV" / name).parent.mkdir(parents=True)
        side = cv2.resize(astronaut[:256, 96:352], (64, 64))
        cv2.imwrite(str(tmp_path / "UADFV" / name), side if "real" in name else side[:, ::-1])
    data = {
        "UADFV": {
            f"UADFV_{kind}": {
                "test": {video: {"label": f"UADFV_{kind}", "frames": [rf".\UADFV\{folder}\0.png"]}}
            }
            for kind, video, folder in (
                ("Real", "0000", r"real\0000"),
                ("Fake", "0000_fake", r"fake\0000_fake"),
            )
        }
    }
    file = write_json(tmp_path / "UADFV.json", data)
    report = prepare(file, tmp_path / "out", size=32, detect=False, workers=0)
    df = read_manifest(tmp_path / "out")
    assert report.crops == 2 and set(df["source_ids"]) == {"0000"} and set(df["label"]) == {0, 1}
