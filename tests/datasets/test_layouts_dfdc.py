"""DFDC and its preview in the trees in which they are distributed (of empty files)."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sficonv.datasets.inspection import inspect_source
from sficonv.datasets.layouts import detect_layout, read_source
from sficonv.errors import DataError

Touch = Callable[..., Path]


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


def test_dfdc_parts_sample_and_test_set(tmp_path: Path, by_name, notes) -> None:
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
    assert "47 of the 50 training parts are missing: 2, 3" in text
    assert "1 files ignored, not in metadata.json or labels.csv: dfdc_train_part_0/extra.mp4" in text
    assert "test_videos has no labels" in text and "1 videos of train_sample_videos" in text
    assert "2 listed videos are missing: dfdc_train_part_1/f11.mp4, test/t1.mp4" in text
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
    assert [(item.label, item.split) for item in read_source(tmp_path).items] == [(1, "test"), (0, "test")]


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


def test_dfdc_preview(dfdcp: Path, touch: Touch, notes) -> None:
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
    assert "1 of 4 videos of dataset.json are missing" in text and "other" in text
    assert "lists 2 real and 2 fake videos; published were 1131 and 4119" in text
    rows = {row.method: row for row in inspect_source(dfdcp).rows}
    assert rows["real"].missing_names == ["original_videos/888888/888888_C_000.mp4"]
    assert (rows["method_A"].present, rows["method_A"].missing) == (1, 0)


def test_dfdc_preview_with_an_inner_videos_folder(dfdcp: Path) -> None:
    for name in ("original_videos", "method_A", "method_B"):
        (dfdcp / name).rename(dfdcp / "x")
        (dfdcp / name).mkdir()
        (dfdcp / "x").rename(dfdcp / name / "videos")
    assert len(read_source(dfdcp).items) == 4


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
    with pytest.raises(DataError, match="is missing; labels and splits"):
        read_source(dfdcp)


def test_listing_reads_each_folder_once_and_opens_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the videos are no more reads of folders, and no video is looked at one by one."""
    for number, count in ((0, 500), (1, 2000)):
        write_part(tmp_path / str(number), 0, reals=count, fakes=count)
    looked: list[str] = []
    listed: list[str] = []
    real_stat, real_scandir = os.stat, os.scandir
    monkeypatch.setattr(os, "stat", lambda path, **k: (looked.append(str(path)), real_stat(path, **k))[1])
    monkeypatch.setattr(os, "scandir", lambda path=".": (listed.append(str(path)), real_scandir(path))[1])
    reads = []
    for number in (0, 1):
        listed.clear()
        assert len(read_source(tmp_path / str(number)).items) == (1000, 4000)[number]
        reads.append(len(listed))
    assert 0 < reads[0] == reads[1] < 10
    assert not any(path.endswith(".mp4") for path in looked)
