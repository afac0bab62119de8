"""Video datasets in the trees in which they are distributed (of empty files: listing decodes nothing)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sficonv.datasets.inspection import inspect_source
from sficonv.datasets.layouts import detect_layout, read_source
from sficonv.errors import DataError

Touch = Callable[..., Path]


@pytest.fixture
def ffpp(tmp_path: Path, touch: Touch) -> Path:
    root = touch(
        tmp_path / "ff",
        "original_sequences/youtube/c23/videos/000.mp4",
        "original_sequences/actors/c23/videos/01__kitchen_pan.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
        "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__kitchen_pan__ABCDEFGH.mp4",
        "manipulated_sequences/DeepFakeDetection/masks/videos/01_02__kitchen_pan__ABCDEFGH.mp4",
        "manipulated_sequences/FaceShifter/c23/videos/003_000.mp4",
    )
    (root / "train.json").write_text('[["000", "003"]]')  # beside the sequences, as other projects put it
    return root


def test_ffpp_masks_splits_beside_the_tree_and_no_official_split_for_actors(ffpp: Path, by_name) -> None:
    found = by_name(read_source(ffpp))
    assert (
        found["c23/Deepfakes/000_003"].mask
        == ffpp / "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4"
    )
    assert found["c23/FaceShifter/003_000"].mask is None and found["c23/youtube/000"].mask is None
    swapped = found["c23/DeepFakeDetection/01_02__kitchen_pan__ABCDEFGH"]
    assert swapped.mask is not None and swapped.mask.name == "01_02__kitchen_pan__ABCDEFGH.mp4"
    assert (swapped.split, swapped.official_split) == ("test", "")
    assert (found["c23/youtube/000"].split, found["c23/youtube/000"].official_split) == ("train", "train")
    (item,) = (item for item in read_source(ffpp, split="test").items if item.path.stem == "000")
    assert (item.split, item.official_split) == ("test", "train")


def test_ffpp_report_says_what_is_missing(ffpp: Path) -> None:
    rows = {(row.method, row.compression): row for row in inspect_source(ffpp).rows}
    assert set(rows) == {
        (method, "c23")
        for method in (
            *("real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"),
            *("FaceShifter", "DeepFakeDetection"),
        )
    }
    deepfakes = rows["Deepfakes", "c23"]
    assert (deepfakes.present, deepfakes.expected, deepfakes.missing) == (1, 1000, 999)
    assert deepfakes.missing_names == ["003_000"] and deepfakes.expected_splits == {"train": 2}
    assert (deepfakes.masks, deepfakes.splits) == (1, {"train": 1})
    assert (rows["real", "c23"].expected, rows["real", "c23"].missing_names) == (1363, ["003"])
    assert rows["Face2Face", "c23"].present == 0
    assert rows["DeepFakeDetection", "c23"].expected == 3068


def test_ffpp_as_frames(tmp_path: Path, touch: Touch) -> None:
    frames = (
        "original_sequences/youtube/c23/frames/000/000.png",
        "original_sequences/youtube/c23/frames/000/011.png",
    )
    root = touch(tmp_path, *frames, "original_sequences/youtube/c23/landmarks/000/000.npy")
    items = read_source(root).items
    assert [(item.kind, item.video_id, item.frame) for item in items] == [
        ("image", "ffpp/c23/youtube/000", 0),
        ("image", "ffpp/c23/youtube/000", 11),
    ]
    assert len({item.name for item in items}) == 2
    touch(root, "original_sequences/youtube/c23/videos/000.mp4")  # the videos win
    assert [item.kind for item in read_source(root).items] == ["video"]


@pytest.mark.parametrize(
    "locked",
    ["manipulated_sequences", "manipulated_sequences/Deepfakes", "manipulated_sequences/Deepfakes/c23"],
)
def test_ffpp_an_unreadable_folder_on_any_level_is_an_item(ffpp: Path, lock_folder, locked: str) -> None:
    lock_folder(ffpp / locked)
    items = read_source(ffpp).items
    assert [item.label for item in items if item.path == ffpp / locked] == [1]
    assert any(item.label == 0 for item in items)


def test_deeperforensics(tmp_path: Path, touch: Touch, by_name, notes) -> None:
    root = touch(
        tmp_path,
        "manipulated_videos/end_to_end/000_M101.mp4",
        "manipulated_videos/end_to_end/001_W102.mp4",
        "manipulated_videos/end_to_end_level_3/000_M101.mp4",
        "manipulated_videos/end_to_end/odd.mp4",
        "source_videos/M101/light_up/M101_light_up_happy_camera_front.mp4",
        "lists/manipulated_videos_distortions_meta/meta.txt",
    )
    assert detect_layout(root) == "deeperforensics"
    source = read_source(root)
    assert {item.split for item in source.items} == {""} and "split column is empty" in notes(source)
    assert "c23 originals" in notes(source) and all(item.label for item in source.items)
    touch(
        root, "original_sequences/youtube/c23/videos/000.mp4", "original_sequences/youtube/c23/videos/001.mp4"
    )
    (root / "lists/splits").mkdir()
    (root / "lists/splits/train.txt").write_text("000_M101.mp4\r\n")
    (root / "lists/splits/test.txt").write_text("001_W102.mp4\n002_M103.mp4\n")
    source = read_source(root)
    assert {name: (item.label, item.split, item.source_ids) for name, item in by_name(source).items()} == {
        "real/000": (0, "train", ("000",)),
        "real/001": (0, "test", ("001",)),
        "end_to_end/000_M101": (1, "train", ("000", "actorM101")),
        "end_to_end/001_W102": (1, "test", ("001", "actorW102")),
        "end_to_end_level_3/000_M101": (1, "train", ("000", "actorM101")),
    }
    assert "odd.mp4" in notes(source)
    rows = {row.method: row for row in inspect_source(root).rows}
    assert rows["end_to_end"].missing_names == ["002_M103"] and rows["end_to_end"].expected == 1000
    assert rows["real"].missing_names == ["002"]
    (root / "lists/splits/val.txt").write_text("000_M101.mp4\n")
    with pytest.raises(DataError, match="000_M101 is also in the train list"):
        read_source(root)
    (root / "lists/splits/val.txt").write_text("what\n")
    with pytest.raises(DataError, match="line 1 is 'what'"):
        read_source(root)


def test_ffiw(tmp_path: Path, touch: Touch, by_name) -> None:
    names = [f"{branch}/train/{i:05d}.mp4" for branch in ("source", "target") for i in range(10)]
    names += ["source/val/videos/a.mp4", "target/val/videos/a.mp4", "target_mask/val/a.mp4"]
    touch(tmp_path / "FFIW10K-v1-release", *names)
    for root in (tmp_path, tmp_path / "FFIW10K-v1-release"):
        assert detect_layout(root) == "ffiw"
        source = read_source(root)
        found = by_name(source)
        assert (found["source/val/a"].split, found["target/val/a"].split) == ("test", "test")
        assert found["target/val/a"].official_split == "val"
        assert found["target/val/a"].mask == tmp_path / "FFIW10K-v1-release/target_mask/val/a.mp4"
        assert found["source/val/a"].mask is None
        splits = {name.rpartition("/")[2]: set() for name in found}
        for name, item in found.items():
            splits[name.rpartition("/")[2]].add(item.split)
        assert all(len(values) == 1 for values in splits.values())  # source and target stay together
        assert sum(item.split == "val" for item in source.items) == 4
    rows = {row.method: row for row in inspect_source(tmp_path).rows}
    assert rows["fake"].expected_splits == {"test": 250} and rows["fake"].masks == 1


def test_uadfv(tmp_path: Path, touch: Touch, notes) -> None:
    root = touch(
        tmp_path, "real/0000.mp4", "fake/0000_fake.mp4", "fake/frames/0001_fake/000.png", "real/x.mp4"
    )
    assert detect_layout(root) == "uadfv"
    source = read_source(root)
    assert [(i.label, i.source_ids, i.split, i.official_split) for i in source.items] == [
        (0, ("0000",), "test", ""),
        (1, ("0000",), "test", ""),
        (1, ("0001",), "test", ""),
    ]
    assert "real/x.mp4" in notes(source)
    rows = {row.label: row for row in inspect_source(root).rows}
    assert (rows[1].present, rows[1].expected, rows[1].missing) == (2, 49, 47)


TREES = {
    "ffpp": ["original_sequences/x.txt"],
    "celebdf": ["Celeb-real/x.txt"],
    "dfdc": ["dfdc_train_part_0/x.txt"],
    "deeperforensics": ["manipulated_videos/end_to_end/x.txt"],
    "uadfv": ["fake/0000_fake.txt"],
    "ffiw": ["source/train/x.txt", "target/train/x.txt"],
    "hff": ["train/fake/StarGAN/x.txt", "train/fake/Glow/x.txt"],
    "df40": ["simswap/ff/x.txt"],
}


@pytest.mark.parametrize("layout", TREES)
def test_a_tree_without_media_says_what_was_expected(tmp_path: Path, touch: Touch, layout: str) -> None:
    root = touch(tmp_path, *TREES[layout])
    with pytest.raises(DataError, match="expected for example"):
        read_source(root, layout=layout)


@pytest.mark.parametrize(
    "names",
    [
        ["real/a.mp4", "fake/b.mp4", "metadata.json"],
        ["real/a.png", "fake/b.png", "labels.csv"],
        ["faces/real/a.png", "faces/fake/a.png", "faces/metadata.json"],
        ["real/ff/a.png", "fake/ff/a.png"],
        ["manipulated/manipulated_videos/a.mp4", "original/b.mp4"],
        ["fake/0000.mp4", "real/0000.mp4"],
        ["real_train/a.png", "fake_test/b.png"],
        ["train/fake/StarGAN/a.png", "train/real/b.png"],
    ],
)
def test_plain_folders_are_not_mistaken_for_a_data_set(
    tmp_path: Path, touch: Touch, names: list[str]
) -> None:
    assert detect_layout(touch(tmp_path, *names)) == "folder"


def test_unreadable_folders_long_and_odd_names(tmp_path: Path, touch: Touch, lock_folder) -> None:
    long = "x" * 200
    root = touch(
        tmp_path / "d\u00e4ta \U0001f600",
        *(f"Celeb-synthesis/FaceSwap/{'m' * 120}/{'n' * 120}/id0_id{i}_{long}.mp4" for i in range(2)),
        "Celeb-real/id0_\u4e2d\u6587.mp4",
        "Celeb-real/id1_\udcff.mp4",
        "YouTube-real/00000.mp4",
    )
    lock_folder(root / "YouTube-real")
    items = read_source(root).items
    assert len(items) == 5 and len({item.name for item in items}) == 5
    for item in items:
        assert item.name.encode() and max(len(part.encode()) for part in item.name.split("/")) <= 200
    (locked,) = (item for item in items if item.path == root / "YouTube-real")
    assert locked.source_ids == ()


def test_links_are_followed_and_loops_end(tmp_path: Path, touch: Touch) -> None:
    elsewhere = touch(tmp_path / "disk", "id0_id1_0000.mp4", "sub/id1_id2_0000.mp4")
    root = touch(tmp_path / "set", "Celeb-real/id0_0000.mp4")
    (root / "Celeb-synthesis").symlink_to(elsewhere)
    (elsewhere / "sub/up").symlink_to(elsewhere)
    (elsewhere / "out").symlink_to(root)
    found = sorted(item.path.name for item in read_source(root).items if item.label)
    assert found == ["id0_0000.mp4", "id0_id1_0000.mp4", "id1_id2_0000.mp4"]
