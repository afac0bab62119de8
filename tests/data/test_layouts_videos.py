"""Video data sets in the trees in which they are distributed (of empty files: listing decodes nothing)."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sficonv.data.inspection import inspect_source
from sficonv.data.layouts import detect_layout, list_source, read_source
from sficonv.data.leaks import check_manifest
from sficonv.data.source import Source, SourceItem
from sficonv.errors import DataError

Touch = Callable[..., Path]


def by_name(source: Source) -> dict[str, SourceItem]:
    return {item.video_id.partition("/")[2]: item for item in source.items}


def notes(source: Source) -> str:
    return "\n".join(source.notes)


# --- FaceForensics++ ---------------------------------------------------------------------------------------


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


def test_ffpp_masks_splits_beside_the_tree_and_no_official_split_for_actors(ffpp: Path) -> None:
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
    (item,) = (item for item in list_source(ffpp, split="test") if item.path.stem == "000")
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
    items = list_source(root)
    assert [(item.kind, item.video_id, item.frame) for item in items] == [
        ("image", "ffpp/c23/youtube/000", 0),
        ("image", "ffpp/c23/youtube/000", 11),
    ]
    assert len({item.name for item in items}) == 2
    touch(root, "original_sequences/youtube/c23/videos/000.mp4")  # the videos win
    assert [item.kind for item in list_source(root)] == ["video"]


@pytest.mark.parametrize(
    "locked",
    ["manipulated_sequences", "manipulated_sequences/Deepfakes", "manipulated_sequences/Deepfakes/c23"],
)
def test_ffpp_an_unreadable_folder_on_any_level_is_an_item(ffpp: Path, lock_folder, locked: str) -> None:
    lock_folder(ffpp / locked)
    items = list_source(ffpp)
    assert [item.label for item in items if item.path == ffpp / locked] == [1]
    assert any(item.label == 0 for item in items)


# --- Celeb-DF ----------------------------------------------------------------------------------------------

CELEB = (
    "Celeb-real/id0_0000.mp4",
    "Celeb-real/id1_0000.mp4",
    "YouTube-real/00000.mp4",
    "YouTube-real/00001.mp4",
    "Celeb-synthesis/id0_id1_0000.mp4",
    "Celeb-synthesis/id1_id0_0000.mp4",
)
CELEB_LIST = "1 YouTube-real/00001.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n1 Celeb-real/id1_0000.mp4\n"


@pytest.fixture
def celeb(tmp_path: Path, touch: Touch) -> Path:
    root = touch(tmp_path / "Celeb-DF-v2", *CELEB, ".DS_Store", "README.md", "Celeb-real/.DS_Store")
    (root / "List_of_testing_videos.txt").write_text(CELEB_LIST)
    return root


def test_celebdf_v2(celeb: Path) -> None:
    assert detect_layout(celeb) == "celebdf"
    source = read_source(celeb)
    found = by_name(source)
    assert source.dataset == "celebdf-v2" and len(found) == 6
    assert {name: (item.label, item.split) for name, item in found.items()} == {
        "celeb-real/id0_0000": (0, "train"),
        "celeb-real/id1_0000": (0, "test"),
        "youtube-real/00000": (0, "train"),
        "youtube-real/00001": (0, "test"),
        "celeb-synthesis/id0_id1_0000": (1, "test"),
        "celeb-synthesis/id1_id0_0000": (1, "train"),
    }
    assert found["celeb-synthesis/id0_id1_0000"].source_ids == ("id0", "id1")
    assert found["celeb-real/id0_0000"].source_ids == ("id0",)
    assert found["youtube-real/00000"].source_ids == ("youtube:00000",)
    assert "1 = real, 0 = fake" in notes(source) and "none was taken" in notes(source)
    rows = {row.method: row for row in inspect_source(celeb).rows}
    assert (rows["real"].expected, rows["real"].expected_splits) == (890, {"test": 178})
    assert (rows["Celeb-synthesis"].expected, rows["Celeb-synthesis"].splits) == (
        5639,
        {"test": 1, "train": 1},
    )


@pytest.mark.parametrize(
    "text",
    [
        CELEB_LIST.replace("\n", "\r\n"),
        "\ufeff" + CELEB_LIST,
        CELEB_LIST.replace("/", "\\"),
        CELEB_LIST + "\n" + CELEB_LIST + "\n\n",
        CELEB_LIST.replace("YouTube", "Youtube"),
    ],
    ids=["CRLF", "BOM", "backslashes", "duplicates", "spelling"],
)
def test_celebdf_lists_as_people_have_them(celeb: Path, text: str) -> None:
    (celeb / "List_of_testing_videos.txt").write_text(text, encoding="utf-8", newline="")
    assert sorted(item.path.stem for item in list_source(celeb) if item.split == "test") == [
        "00001",
        "id0_id1_0000",
        "id1_0000",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1 Celeb-real/id0_0000.mp4\n1 Celeb-synthesis/id0_id1_0000.mp4\n",
            "line 2 .* contradicts its folder",
        ),
        ("0 Celeb-real/id0_0000.mp4\n1 Celeb-synthesis/id0_id1_0000.mp4\n", "inverted throughout"),
        ("1 Celeb-real/id0_0000.mp4\n0 Celeb-real/id0_0000.mp4\n", "line 2 says 0 .* earlier line 1"),
        ("Celeb-real/id0_0000.mp4\n", "line 1 is 'Celeb-real"),
        ("1 Other/id0_0000.mp4\n", "line 1 is '1 Other"),
        ("\n1 Celeb-real/id0_0000.mp4\n2 Celeb-real/id1_0000.mp4\n", "line 3 is '2 Celeb"),
        ("1 Celeb-real/\0\n", "not a text file"),
    ],
)
def test_celebdf_damaged_or_contradicting_lists(celeb: Path, text: str, message: str) -> None:
    (celeb / "List_of_testing_videos.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_source(celeb)


def test_celebdf_partial_download_and_no_list(celeb: Path) -> None:
    (celeb / "Celeb-synthesis/id0_id1_0000.mp4").unlink()
    source = read_source(celeb)
    assert "1 of 3 videos of the test list are not there: celeb-synthesis/id0_id1_0000" in notes(source)
    (row,) = (row for row in inspect_source(celeb).rows if row.label)
    assert row.missing_names == ["celeb-synthesis/id0_id1_0000"] and row.missing == 5638
    (celeb / "List_of_testing_videos.txt").unlink()
    source = read_source(celeb)
    assert {item.split for item in source.items} == {""} and "is not there" in notes(source)
    (celeb / "Celeb-real/id0_0000.mp4").unlink()


def test_celebdf_with_videos_folders_and_as_frames(tmp_path: Path, touch: Touch) -> None:
    root = touch(tmp_path, "Celeb-real/videos/id0_0000.mp4", "Youtube-real/frames/00000/007.png")
    (root / "List_of_testing_videos.txt").write_text(CELEB_LIST)
    found = by_name(read_source(root))
    assert set(found) == {"celeb-real/id0_0000", "youtube-real/00000"}
    assert (found["youtube-real/00000"].kind, found["youtube-real/00000"].frame) == ("image", 7)


def test_celebdf_validation_set_where_people_can_be_divided(tmp_path: Path, touch: Touch) -> None:
    pairs = [(2 * i, 2 * i + 1) for i in range(20)]
    names = [f"Celeb-synthesis/id{a}_id{b}_0000.mp4" for a, b in pairs]
    names += [f"Celeb-real/id{a}_0000.mp4" for a, _ in pairs]
    root = touch(tmp_path / "Celeb-DF-v1", *names)
    (root / "List_of_testing_videos.txt").write_text(
        "0 Celeb-synthesis/id0_id1_0000.mp4\n1 Celeb-real/id0_0000.mp4\n"
    )
    items = list_source(root)
    people = {
        split: {p for i in items if i.split == split for p in i.source_ids}
        for split in ("train", "val", "test")
    }
    assert people["val"] and not people["val"] & (people["train"] | people["test"])
    assert people["test"] == {"id0", "id1"}
    assert {item.label for item in items if item.split == "val"} == {0, 1}
    assert {item.official_split for item in items if item.split == "val"} == {"train"}
    assert items == list_source(root)  # the same at every run
    assert {item.split for item in list_source(root, split_fractions=(1, 0, 0))} == {"train", "test"}


def test_celebdf_plus_plus(tmp_path: Path, touch: Touch) -> None:
    root = touch(
        tmp_path,
        "Celeb-real/id0_0000.mp4",
        "Celeb-synthesis/FaceSwap/Celeb-DF/id0_id1_0000.mp4",
        "Celeb-synthesis/FaceSwap/SimSwap/id0_id1_0000.mp4",
        "Celeb-synthesis/TalkingFace/SadTalker/id0_0000.mp4",
    )
    (root / "List_of_testing_videos.txt").write_text(
        "0 Celeb-synthesis/FaceSwap/SimSwap/id0_id1_0000.mp4\n"
        "0 Celeb-synthesis/FaceReenact/LIA/id0_id1_0000.mp4\n"
    )
    source = read_source(root)
    assert source.dataset == "celebdf-pp"
    assert {item.method: item.split for item in source.items} == {
        "real": "train",
        "Celeb-DF": "train",
        "SimSwap": "test",
        "SadTalker": "train",
    }
    rows = {row.method: row for row in inspect_source(root).rows}
    assert rows["SadTalker"].expected_splits == {"test": 300} and rows["SimSwap"].expected_splits == {
        "test": 200
    }
    assert rows["LIA"].missing_names == ["celeb-synthesis/FaceReenact/LIA/id0_id1_0000"]


# --- DFDC and its preview ----------------------------------------------------------------------------------


def write_part(root: Path, number: int, reals: int = 2, fakes: int = 2) -> Path:
    folder = root / f"dfdc_train_part_{number}"
    folder.mkdir(parents=True)
    names = {f"r{number}{i}.mp4": {"label": "REAL", "split": "train", "original": None} for i in range(reals)}
    for i in range(fakes):
        original = f"r{number}{i % reals}.mp4"
        names[f"f{number}{i}.mp4"] = {"label": "FAKE", "split": "train", "original": original}
    (folder / "metadata.json").write_text(json.dumps(names))
    for name in names:
        (folder / name).touch()
    return folder


def test_dfdc_parts_sample_and_test_set(tmp_path: Path) -> None:
    for number in (0, 1, 36):
        write_part(tmp_path, number)
    sample = tmp_path / "train_sample_videos"
    sample.mkdir()
    (sample / "r00.mp4").touch()
    (sample / "metadata.json").write_text('{"r00.mp4": {"label": "REAL", "split": "train"}}')
    for name in ("test", "test_videos"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t0.mp4").touch()
    (tmp_path / "test/labels.csv").write_text("filename,label\r\nt0.mp4,1\r\nt1.mp4,0\r\n")
    (tmp_path / "dfdc_train_part_0/extra.mp4").touch()
    (tmp_path / "dfdc_train_part_1/f11.mp4").unlink()
    assert detect_layout(tmp_path) == "dfdc"
    source = read_source(tmp_path)
    found = by_name(source)
    assert len(found) == len(source.items) == 3 * 4 - 1 + 1
    fake = found["dfdc_train_part_36/f361"]
    assert (fake.label, fake.source_ids, fake.split, fake.official_split) == (1, ("r361",), "val", "train")
    assert {item.split for name, item in found.items() if "_part_0/" in name} == {"train"}
    assert (found["test/t0"].label, found["test/t0"].split) == (1, "test")
    text = notes(source)
    assert "47 of the 50 training parts are not there: 2, 3" in text
    assert "1 files ignored, not in metadata.json or labels.csv: dfdc_train_part_0/extra.mp4" in text
    assert "test_videos has no labels" in text and "1 videos of train_sample_videos" in text
    assert "2 listed videos are not there: dfdc_train_part_1/f11.mp4, test/t1.mp4" in text
    rows = {row.label: row for row in inspect_source(tmp_path).rows}
    assert (rows[0].expected, rows[1].expected) == (19_154 + 2_500, 100_000 + 2_500)
    assert rows[0].missing_names == ["test/t1.mp4"] and rows[1].missing == 102_500 - 6


@pytest.mark.parametrize("where", ["part", "root", "train/part", "videos"])
def test_dfdc_one_part_wherever_it_lies(tmp_path: Path, where: str) -> None:
    folder = write_part(tmp_path / "train" if where == "train/part" else tmp_path, 0, reals=20, fakes=40)
    if where == "videos":
        (folder / "videos").mkdir()
        for file in folder.glob("*.mp4"):
            file.rename(folder / "videos" / file.name)
    source = read_source(folder if where == "root" else tmp_path)
    assert source.layout == "dfdc" and len(source.items) == 60
    sides = {split: {i.source_ids[0] for i in source.items if i.split == split} for split in ("train", "val")}
    assert len(sides["val"]) == 4 and not sides["val"] & sides["train"]  # 20 clips, 0.15 / 0.85 of them


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.json", "{", "not readable as JSON"),
        ("metadata.json", "[" * 100_000, "not readable as JSON"),
        ("metadata.json", '["a.mp4"]', "expected"),
        ("metadata.json", '{"a.mp4": {"label": "MAYBE"}}', "a.mp4: the label is 'MAYBE'"),
        ("labels.csv", "filename,label\na.mp4,2\n", "line 2: the label is '2'"),
        ("labels.csv", "a.mp4,1\nb.mp4,0\n", "line 2: expected the columns"),
        ("labels.csv", "filename,label\na.mp4,0\na.mp4,1\n", "line 3: a has another label"),
    ],
)
def test_dfdc_damaged_lists(tmp_path: Path, touch: Touch, name: str, text: str, message: str) -> None:
    (touch(tmp_path, "a.mp4") / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_source(tmp_path, layout="dfdc")


def test_dfdc_test_set_with_is_fake(tmp_path: Path, touch: Touch) -> None:
    (touch(tmp_path, "a.mp4", "b.mp4") / "metadata.json").write_text(
        '{"a.mp4": {"is_fake": 1}, "b.mp4": {"is_fake": 0}}'
    )
    assert [(item.label, item.split) for item in list_source(tmp_path)] == [(1, "test"), (0, "test")]


DFDCP = {
    "original_videos/643049/643049_C_000.mp4": ("real", "train", None),
    "original_videos/888888/888888_C_000.mp4": ("real", "test", None),
    "method_A/643049/643049_A/643049_777.mp4": ("fake", "train", "777777"),
    "method_B/888888/888888_B/888888_555.mp4": ("fake", "test", "555555"),
}


@pytest.fixture
def dfdcp(tmp_path: Path, touch: Touch) -> Path:
    root = touch(tmp_path / "dfdc_preview_set", *DFDCP)
    entries = {
        name: {
            "label": label,
            "set": split,
            "target_id": name.split("/")[1],
            "swapped_id": swapped,
            "augmentations": [],
        }
        for name, (label, split, swapped) in DFDCP.items()
    }
    (root / "dataset.json").write_text(json.dumps(entries))
    return root


def test_dfdc_preview(dfdcp: Path, touch: Touch) -> None:
    assert detect_layout(dfdcp) == detect_layout(dfdcp.parent) == "dfdcp"
    touch(dfdcp, "method_A/643049/643049_A/other.mp4")
    (dfdcp / "original_videos/888888/888888_C_000.mp4").unlink()
    source = read_source(dfdcp)
    found = {item.path.name: item for item in source.items}
    assert {name: (i.label, i.method, i.split, i.source_ids) for name, i in found.items()} == {
        "643049_C_000.mp4": (0, "real", "train", ("actor643049",)),
        "643049_777.mp4": (1, "method_A", "train", ("actor643049", "actor777777")),
        "888888_555.mp4": (1, "method_B", "test", ("actor888888", "actor555555")),
    }
    text = notes(source)
    assert "1 of 4 videos of dataset.json are not there" in text and "other" in text
    assert "lists 2 real and 2 fake videos; published were 1131 and 4119" in text
    rows = {row.method: row for row in inspect_source(dfdcp).rows}
    assert rows["real"].missing_names == ["original_videos/888888/888888_C_000.mp4"]
    assert (rows["method_A"].present, rows["method_A"].missing) == (1, 0)


def test_dfdc_preview_with_an_inner_videos_folder(dfdcp: Path) -> None:
    for name in ("original_videos", "method_A", "method_B"):
        (dfdcp / name).rename(dfdcp / "x")
        (dfdcp / name).mkdir()
        (dfdcp / "x").rename(dfdcp / name / "videos")
    assert len(list_source(dfdcp)) == 4


def test_dfdc_preview_damaged(dfdcp: Path) -> None:
    file = dfdcp / "dataset.json"
    entries = json.loads(file.read_text())
    for change, message in (
        ({"label": "real"}, "labelled 'real', but method_A"),
        ({"label": None}, "the label is None"),
        ({"set": "holdout"}, "the set is 'holdout'"),
    ):
        name = "method_A/643049/643049_A/643049_777.mp4"
        file.write_text(json.dumps({**entries, name: {**entries[name], **change}}))
        with pytest.raises(DataError, match=message):
            read_source(dfdcp)
    file.write_text("[]")
    with pytest.raises(DataError, match="expected"):
        read_source(dfdcp)
    file.unlink()
    with pytest.raises(DataError, match="not there; without it"):
        read_source(dfdcp)


# --- DeeperForensics, FFIW, UADFV --------------------------------------------------------------------------


def test_deeperforensics(tmp_path: Path, touch: Touch) -> None:
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


def test_ffiw(tmp_path: Path, touch: Touch) -> None:
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


def test_uadfv(tmp_path: Path, touch: Touch) -> None:
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


# --- all of them -------------------------------------------------------------------------------------------

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


def test_options_of_another_layout_are_refused(celeb: Path, touch: Touch, tmp_path: Path) -> None:
    for options in ({"label": 0}, {"video_folders": True}, {"fake_label": 0}, {"base_folder": "x"}):
        with pytest.raises(DataError, match=f"{next(iter(options))} is for .*, not for Celeb-DF"):
            read_source(celeb, **options)
    with pytest.raises(DataError, match="fake_label must be 0 or 1"):
        read_source(celeb, fake_label=2)
    with pytest.raises(DataError, match="no such folder"):
        read_source(tmp_path / "missing", layout="celebdf")


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
    items = list_source(root)
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
    found = sorted(item.path.name for item in list_source(root) if item.label)
    assert found == ["id0_0000.mp4", "id0_id1_0000.mp4", "id1_id2_0000.mp4"]


def test_listing_is_linear_and_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the videos take about four times as long, and no video is looked at one by one."""
    for number, count in ((0, 500), (1, 2000)):
        write_part(tmp_path / str(number), 0, reals=count, fakes=count)
    looked: list[str] = []
    real_stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **k: (looked.append(str(path)), real_stat(path, **k))[1])
    seconds = []
    for number in (0, 1):
        start = time.perf_counter()
        assert len(list_source(tmp_path / str(number))) == (1000, 4000)[number]
        seconds.append(time.perf_counter() - start)
    assert not any(path.endswith(".mp4") for path in looked)
    assert (
        seconds[1] < 12 * seconds[0] + 1
    )  # far from the factor 16 of a quadratic one on top of a slow machine


def test_a_leak_between_official_splits_is_found(celeb: Path) -> None:
    """Celeb-DF shows the same people in training and test: the identities make the check say so."""
    import pandas as pd

    from sficonv.data.manifest import COLUMNS

    rows = [
        {
            **dict.fromkeys(COLUMNS, ""),
            "path": item.name,
            "sha256": item.name,
            "label": item.label,
            "dataset": item.dataset,
            "video_id": item.video_id,
            "source_ids": ",".join(item.source_ids),
            "split": item.split,
        }
        for item in list_source(celeb)
    ]
    assert any("identit" in str(finding) for finding in check_manifest(pd.DataFrame(rows)))
