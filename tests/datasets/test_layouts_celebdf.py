"""Celeb-DF in the trees in which it is distributed (of empty files: listing decodes nothing)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sficonv.datasets.inspection import inspect_source
from sficonv.datasets.layouts import detect_layout, read_source
from sficonv.errors import DataError
from sficonv.splits.leaks import check_manifest

Touch = Callable[..., Path]


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


def test_celebdf_v2(celeb: Path, by_name, notes) -> None:
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
    assert sorted(item.path.stem for item in read_source(celeb).items if item.split == "test") == [
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


def test_celebdf_partial_download_and_no_list(celeb: Path, notes) -> None:
    (celeb / "Celeb-synthesis/id0_id1_0000.mp4").unlink()
    source = read_source(celeb)
    assert "1 of 3 videos of the test list are missing: celeb-synthesis/id0_id1_0000" in notes(source)
    (row,) = (row for row in inspect_source(celeb).rows if row.label)
    assert row.missing_names == ["celeb-synthesis/id0_id1_0000"] and row.missing == 5638
    (celeb / "List_of_testing_videos.txt").unlink()
    source = read_source(celeb)
    assert {item.split for item in source.items} == {""} and "the test set is unknown" in notes(source)
    (celeb / "Celeb-real/id0_0000.mp4").unlink()


def test_celebdf_with_videos_folders_and_as_frames(tmp_path: Path, touch: Touch, by_name) -> None:
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
    items = read_source(root).items
    people = {
        split: {p for i in items if i.split == split for p in i.source_ids}
        for split in ("train", "val", "test")
    }
    assert people["val"] and not people["val"] & (people["train"] | people["test"])
    assert people["test"] == {"id0", "id1"}
    assert {item.label for item in items if item.split == "val"} == {0, 1}
    assert {item.official_split for item in items if item.split == "val"} == {"train"}
    assert items == read_source(root).items  # the same at every run
    assert {item.split for item in read_source(root, split_fractions=(1, 0, 0)).items} == {"train", "test"}


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


def test_options_of_another_layout_are_refused(celeb: Path, touch: Touch, tmp_path: Path) -> None:
    for options in ({"label": 0}, {"video_folders": True}, {"fake_label": 0}, {"base_folder": "x"}):
        with pytest.raises(DataError, match=f"{next(iter(options))} is for .*, not for Celeb-DF"):
            read_source(celeb, **options)
    with pytest.raises(DataError, match="fake_label must be 0 or 1"):
        read_source(celeb, fake_label=2)
    with pytest.raises(DataError, match="no such folder"):
        read_source(tmp_path / "missing", layout="celebdf")


def test_a_leak_between_official_splits_is_found(celeb: Path) -> None:
    """Celeb-DF shows the same people in training and test: the identities make the check say so."""
    import pandas as pd

    from sficonv.datasets.manifest import COLUMNS

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
        for item in read_source(celeb).items
    ]
    assert any("identit" in str(finding) for finding in check_manifest(pd.DataFrame(rows)))
