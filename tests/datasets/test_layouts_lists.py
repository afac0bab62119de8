"""CSV lists and text lines "path label" as people write them, and the labels they mean."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sficonv.datasets.layouts import detect_layout, read_source
from sficonv.datasets.layouts.lists import folder_label
from sficonv.datasets.manifest import read_manifest
from sficonv.errors import DataError
from sficonv.preparation.prepare import prepare

Touch = Callable[..., Path]
CROPS = tuple(f"crops/{name}" for name in ("a.png", "b.png", "c.mp4", "d d.png"))


@pytest.fixture
def listed(tmp_path: Path, touch: Touch) -> Callable[..., Path]:
    """Write a list beside some files."""
    touch(tmp_path, *CROPS)

    def write(text: str, name: str = "list.csv", encoding: str = "utf-8") -> Path:
        file = tmp_path / name
        file.write_bytes(text.encode(encoding))
        return file

    return write


def labels(file: Path, **options: object) -> dict[str, int]:
    return {item.path.name: item.label for item in read_source(file, **options).items}


def test_csv_with_every_column(listed: Callable[..., Path], tmp_path: Path) -> None:
    file = listed(
        "path,label,video,split,method,compression,source_ids,frame,mask,note\n"
        "crops/a.png,1,v1,train,FaceSwap,c23,000 003,12,crops/b.png,x\n"
        'crops/b.png,0,v2,Validation,,,"003;000",,,\n'
        "crops/c.mp4,fake,,test,,,,,,\n"
    )
    assert detect_layout(file) == "csv"
    source = read_source(file)
    first, second, third = source.items
    assert (first.label, first.method, first.compression, first.split) == (1, "FaceSwap", "c23", "train")
    assert (first.video_id, first.source_ids, first.frame) == ("list/v1", ("000", "003"), 12)
    assert first.mask == tmp_path / "crops/b.png" and first.kind == "image" and first.official_split == ""
    assert (second.label, second.split, second.source_ids, second.mask) == (0, "val", ("003", "000"), None)
    assert (third.label, third.kind, third.method, third.split) == (1, "video", "fake", "test")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path,label\ncrops/a.png,1\ncrops/b.png,0\n", "utf-8"),
        ("path,label\r\ncrops/a.png,1\r\n\r\ncrops/b.png,0\r\n", "utf-8"),
        ("path,label\ncrops/a.png,1\ncrops/b.png,0\n", "utf-8-sig"),
        ("Filename;Label\ncrops/a.png;FAKE\ncrops/b.png;Real\n", "utf-8"),
        ("label\tpath\n1\tcrops/a.png\n0\tcrops/b.png\n", "utf-8"),
        ("crops/a.png,1\ncrops/b.png,0\n", "utf-8"),
        ('"crops/a.png",fake\n"./crops/b.png",real\n', "utf-8-sig"),
        ("path,label\ncrops\\a.png,1\n.\\crops\\b.png,0\n", "utf-8"),
        ("path,label\ncrops/a.png,1\ncrops/b.png,0\ncrops/a.png,1\n", "utf-8"),
        ("path,label\n/old/machine/crops/a.png,1\n/old/machine/crops/b.png,0\n", "utf-8"),
        ("path,label\nD:\\old\\crops\\a.png,1\nD:\\old\\crops\\b.png,0\n", "utf-8"),
    ],
    ids=[
        "plain",
        "CRLF",
        "BOM",
        "semicolons",
        "tabs",
        "no header",
        "quotes",
        "backslashes",
        "twice",
        "moved",
        "D:",
    ],
)
def test_csv_as_people_have_them(listed: Callable[..., Path], text: str, encoding: str) -> None:
    file = listed(text, encoding=encoding)
    assert labels(file) == {"a.png": 1, "b.png": 0}
    assert labels(file, fake_label=0) == (
        {"a.png": 0, "b.png": 1} if "1" in text else {"a.png": 1, "b.png": 0}
    )


def test_csv_absolute_paths_and_another_base(
    listed: Callable[..., Path], tmp_path: Path, touch: Touch
) -> None:
    other = touch(tmp_path / "other place", "x/a.png")
    file = listed(f"path,label\n{tmp_path}/crops/a.png,1\n{tmp_path}/crops/d d.png,0\n")
    assert labels(file) == {"a.png": 1, "d d.png": 0}
    file = listed("path,label\nx/a.png,1\n")
    assert read_source(file, base_folder=str(other)).items[0].path == other / "x/a.png"
    with pytest.raises(DataError, match="none of the 1 listed files exists"):
        read_source(file, base_folder=str(tmp_path / "crops"))


def test_equal_names_in_other_folders_are_other_files(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path, "0.png", "1.png")
    file = tmp_path / "list.csv"
    file.write_text("path,label\nx/0.png,1\ny/1.png,0\n")
    with pytest.raises(DataError, match="none of the 2 listed files exists"):
        read_source(file)
    file.write_text("path,label\n/old/0.png,1\n/old/1.png,0\n")  # all from one folder, which is now here
    assert labels(file) == {"0.png": 1, "1.png": 0}
    below = tmp_path / "lists" / "list.csv"
    below.parent.mkdir()
    below.write_text(file.read_text())  # but not somewhere above
    with pytest.raises(DataError, match="none of the 2 listed files exists"):
        read_source(below)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        ("path,label\n", "the list is empty"),
        ("path,kind\ncrops/a.png,1\n", "line 1 is 'path,kind'"),
        ("path,label\ncrops/a.png\n", "line 2 is 'crops/a.png'"),
        ("path,label\ncrops/a.png,2\n", "line 2: the label is '2'"),
        ("path,label\ncrops/a.png,1\n\ncrops/a.png,0\n", "line 4: crops/a.png has another label"),
        ("path,label,split\ncrops/a.png,1,holdout\n", "line 2: the split is 'holdout'"),
        ("path,label,frame\ncrops/a.png,1,x\n", "line 2: the frame is 'x'"),
        ("path,label\nnone/a.png,1\nnone/b.png,0\n", "none of the 2 listed files exists"),
        ("path,label\n\0", "not a text file"),
    ],
)
def test_csv_damaged(listed: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_source(listed(text))


def test_missing_files_stay_so_that_they_are_reported(listed: Callable[..., Path]) -> None:
    source = read_source(listed("path,label\ncrops/a.png,1\ncrops/gone.png,0\n"))
    assert len(source.items) == 2
    assert any("1 of 2 listed files do not exist: crops/gone.png" in note for note in source.notes)
    assert any("every image counts as its own video" in note for note in source.notes)


def test_without_a_split_column_videos_are_divided(tmp_path: Path, touch: Touch) -> None:
    names = [f"v{v:02d}/{k}.png" for v in range(20) for k in range(3)]
    touch(tmp_path, *names)
    rows = [f"{name},{int(name[1:3]) % 2},{name[:3]}" for name in names]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,video", *rows]))
    items = read_source(tmp_path / "list.csv").items
    sides = {
        split: {item.video_id for item in items if item.split == split} for split in ("train", "val", "test")
    }
    assert [len(sides[split]) for split in ("train", "val", "test")] == [12, 4, 4]
    assert len(set.union(*sides.values())) == 20


# --- "path label" ------------------------------------------------------------------------------------------


@pytest.fixture
def hff_list(tmp_path: Path, touch: Touch) -> Path:
    """What the script of the HFF dataset writes, 0 for fake, on another machine."""
    names = [f"train/fake/StarGAN/{i} x.png" for i in range(3)] + [
        f"train/real/CelebA/{i}.png" for i in range(3)
    ]
    touch(tmp_path, *names)
    lines = [f"/home/dataset/{name} {int('/real/' in name)}" for name in names]
    file = tmp_path / "train.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_text_list_whose_convention_the_folders_tell(hff_list: Path) -> None:
    assert detect_layout(hff_list) == "txt"
    source = read_source(hff_list)
    assert [item.label for item in source.items] == [1, 1, 1, 0, 0, 0]
    assert {item.split for item in source.items} == {"train"}
    assert "in the list 0 = fake and 1 = real, as the folders in the paths confirm" in source.notes[0]
    assert source.items[0].path == hff_list.parent / "train/fake/StarGAN/0 x.png"
    swapped = (
        hff_list.read_text()
        .replace(".png 0", ".png x")
        .replace(".png 1", ".png 0")
        .replace(".png x", ".png 1")
    )
    hff_list.write_text(swapped)
    source = read_source(hff_list)
    assert [item.label for item in source.items] == [1, 1, 1, 0, 0, 0] and "1 = fake" in source.notes[0]


def test_text_list_that_contradicts_itself(hff_list: Path) -> None:
    lines = hff_list.read_text().splitlines()
    lines[4] = lines[4][:-1] + "0"
    hff_list.write_text("\n".join(lines))
    with pytest.raises(
        DataError, match="line 5: the label 0 contradicts the folder in .*1 such lines of 6.*fake-label"
    ):
        read_source(hff_list)
    source = read_source(hff_list, fake_label=0)
    assert [item.label for item in source.items] == [1, 1, 1, 0, 1, 0]
    assert "as was said; 1 lines contradict" in source.notes[0]


def test_text_list_that_says_nothing_about_its_numbers(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path, "faces/a.png", "faces/b.png")
    file = tmp_path / "all.txt"
    file.write_text("faces/a.png 0\nfaces/b.png 1\n")
    with pytest.raises(DataError, match="tell whether 0 or 1 means .*--fake-label"):
        read_source(file)
    assert labels(file, fake_label=0) == {"a.png": 1, "b.png": 0}
    assert labels(file, fake_label=1) == {"a.png": 0, "b.png": 1}
    file.write_text("faces/a.png fake\nfaces/b.png real\n")
    assert labels(file) == {"a.png": 1, "b.png": 0}
    file.write_text("faces/a.png\n")
    with pytest.raises(DataError, match="line 1 is 'faces/a.png'; expected a path and a label"):
        read_source(file)


def test_a_folder_of_text_lists(hff_list: Path, touch: Touch) -> None:
    touch(hff_list.parent, "val/fake/Glow/0.png")
    (hff_list.parent / "test.txt").write_text("/home/dataset/val/fake/Glow/0.png 0\n")
    items = read_source(hff_list.parent, layout="txt").items
    assert [item.split for item in items] == ["test"] + ["train"] * 6
    assert {item.label for item in items if item.split == "test"} == {1}
    hff_list.unlink()
    (hff_list.parent / "test.txt").unlink()
    with pytest.raises(DataError, match="no train.txt"):
        read_source(hff_list.parent, layout="txt")


def test_csv_whose_labels_are_inverted_is_not_believed(tmp_path: Path, touch: Touch) -> None:
    touch(tmp_path, "real/a.png", "fake/b.png")
    (tmp_path / "list.csv").write_text("path,label\nreal/a.png,1\nfake/b.png,0\n")
    with pytest.raises(DataError, match="line 2: the label 1 contradicts the folder"):
        read_source(tmp_path / "list.csv")
    assert labels(tmp_path / "list.csv", fake_label=0) == {"a.png": 0, "b.png": 1}


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("real/x.png", 0),
        ("deepfakes/project/real_faces/x.png", 0),
        ("real\\fake\\x.png", 1),
        ("faces/fake.png", None),
        ("real_fake/x.png", None),
        ("a/b/x.png", None),
    ],
)
def test_what_folders_say(path: str, label: int | None) -> None:
    assert folder_label(path) == label


def test_other_files_are_no_lists(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match="not a known list"):
        read_source(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="no such folder or file"):
        read_source(tmp_path / "none.csv")


def test_prepare_a_list(tmp_path: Path, astronaut: np.ndarray) -> None:
    (tmp_path / "crops").mkdir()
    for i, side in enumerate((astronaut, astronaut[:, ::-1])):
        cv2.imwrite(str(tmp_path / f"crops/{i}.png"), cv2.resize(side[:256, 96:352], (64, 64)))
    file = tmp_path / "my list.csv"
    file.write_text("path,label,split\ncrops/0.png,0,test\ncrops/1.png,1,test\ncrops/gone.png,1,test\n")
    report = prepare(file, tmp_path / "out", size=32, detect=False, workers=0)
    df = read_manifest(tmp_path / "out")
    assert sorted(df["path"]) == ["crops/my list/crops/0_0.png", "crops/my list/crops/1_0.png"]
    assert report.broken == 1 and "gone.png" in report.problems[0].path
    assert (
        prepare(file, tmp_path / "out", size=32, detect=False, workers=0).manifest_hash
        == report.manifest_hash
    )
