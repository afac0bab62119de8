"""Dataset trees (of empty files: nothing is decoded here) and their splits."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from sficonv.datasets.identity_split import split_by_identity
from sficonv.datasets.layouts import detect_layout, read_source
from sficonv.errors import DataError, MediaError

FFPP_FILES = (
    "original_sequences/youtube/c23/videos/000.mp4",
    "original_sequences/youtube/c23/videos/003.mp4",
    "original_sequences/youtube/c40/videos/000.mp4",
    "original_sequences/youtube/c0/videos/033.mp4",
    "original_sequences/actors/c23/videos/01__kitchen_pan.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/003_000.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/000_033.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/notes.mp4",
    "manipulated_sequences/Deepfakes/c23/videos/readme.txt",
    "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4",
    "manipulated_sequences/FaceShifter/raw/videos/033_097.mp4",
    "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__kitchen_pan__ABCDEFGH.mp4",
)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def ffpp(tmp_path: Path) -> Path:
    root = touch(tmp_path / "FF++", *FFPP_FILES)
    (root / "splits").mkdir()
    for split, pairs in {"train": [["003", "000"]], "val": [["033", "097"]], "test": []}.items():
        (root / "splits" / f"{split}.json").write_text(json.dumps(pairs))
    return root


def test_ffpp_tree(ffpp: Path) -> None:
    assert detect_layout(ffpp) == "ffpp"
    source = read_source(ffpp)
    by_id = {item.video_id: item for item in source.items}
    assert len(by_id) == len(source.items) == 10
    fake = by_id["ffpp/c23/Deepfakes/000_003"]
    assert (fake.label, fake.method, fake.compression) == (1, "Deepfakes", "c23")
    assert (fake.source_ids, fake.split, fake.kind, fake.dataset) == (
        ("000", "003"),
        "train",
        "video",
        "ffpp",
    )
    real = by_id["ffpp/c40/youtube/000"]
    assert (real.label, real.method, real.compression, real.split) == (0, "real", "c40", "train")
    assert by_id["ffpp/raw/youtube/033"].compression == "raw" and by_id["ffpp/raw/youtube/033"].split == "val"
    assert by_id["ffpp/raw/FaceShifter/033_097"].split == "val"
    assert by_id["ffpp/c23/Deepfakes/000_033"].split == ""  # its two ids are in different lists
    actor = by_id["ffpp/c23/actors/01__kitchen_pan"]
    assert (actor.label, actor.split, actor.source_ids) == (0, "test", ("actor01",))
    swapped = by_id["ffpp/c23/DeepFakeDetection/01_02__kitchen_pan__ABCDEFGH"]
    assert (swapped.label, swapped.split, swapped.source_ids) == (1, "test", ("actor01", "actor02"))
    notes = " ".join(source.notes)
    assert "by custom" in notes and "1 videos have no split" in notes and "notes.mp4" in notes


def test_ffpp_without_lists_has_no_splits_and_says_so(tmp_path: Path) -> None:
    source = read_source(touch(tmp_path, "original_sequences/youtube/c23/videos/000.mp4"))
    assert [item.split for item in source.items] == [""]
    assert "the split column is empty" in source.notes[0]
    assert [item.split for item in read_source(tmp_path, split="val").items] == ["val"]


def test_ffpp_filters(ffpp: Path) -> None:
    items = read_source(ffpp, methods=["Deepfakes"], compressions=["c23"]).items
    assert {item.method for item in items} == {"real", "Deepfakes"}
    assert {item.compression for item in items} == {"c23"}
    with pytest.raises(DataError, match="no method Face2Face here; there are: DeepFakeDetection, Deepfakes"):
        read_source(ffpp, methods=["Face2Face"])
    with pytest.raises(DataError, match="plain folders"):
        read_source(ffpp, label=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ('{"a": 1}', "list of pairs"),
        ('[["003", 7]]', "list of pairs"),
        ("[[]]", "pairs"),
    ],
)
def test_ffpp_damaged_lists(ffpp: Path, content: str, message: str) -> None:
    (ffpp / "splits" / "val.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_source(ffpp)


def test_ffpp_an_id_in_two_lists(ffpp: Path) -> None:
    (ffpp / "splits" / "val.json").write_text('[["000", "033"]]')
    with pytest.raises(DataError, match="id 000 is also in the train list"):
        read_source(ffpp)


def test_ffpp_lists_as_in_the_official_repository(ffpp: Path) -> None:
    (ffpp / "dataset").mkdir()
    (ffpp / "splits").rename(ffpp / "dataset" / "splits")
    assert {item.split for item in read_source(ffpp).items} == {"train", "val", "test", ""}


def test_ffpp_the_same_video_twice(ffpp: Path) -> None:
    touch(ffpp, "original_sequences/youtube/raw/videos/033.mp4")
    with pytest.raises(DataError, match="twice"):
        read_source(ffpp)


@pytest.mark.parametrize(
    ("name", "label", "split", "method"),
    [
        ("real/a.jpg", 0, None, "real"),
        ("fake/a.mp4", 1, None, "fake"),
        ("Original/a.jpg", 0, None, "real"),
        ("manipulated/FaceSwap/a.mp4", 1, None, "FaceSwap"),
        ("fake/FaceSwap/videos/a.mp4", 1, None, "FaceSwap"),
        ("0/a.jpg", 0, None, "real"),
        ("1/a.jpg", 1, None, "fake"),
        ("1_fake/a.jpg", 1, None, "fake"),
        ("real/1/a.jpg", 0, None, "real"),
        ("fake/0/a.jpg", 1, None, "0"),
        ("train/real/a.jpg", 0, "train", "real"),
        ("fake/Validation/a.jpg", 1, "val", "fake"),
        ("real_test/a.jpg", 0, "test", "real"),
        ("training_fake/a.jpg", 1, "train", "fake"),
        ("real-vs-fake/valid/fake/a.jpg", 1, "val", "fake"),
    ],
)
def test_folder_names(tmp_path: Path, name: str, label: int, split: str | None, method: str) -> None:
    source = read_source(touch(tmp_path / "set", name))
    (item,) = source.items
    assert (item.label, item.method, item.dataset, item.compression) == (label, method, "set", "")
    assert item.split == (split or "train")
    assert item.video_id == f"set/{Path(name).with_suffix('')}"
    assert any(f"read as {label} = {'fake' if label else 'real'}" in note for note in source.notes)


@pytest.mark.parametrize("name", ["real_fake/a.jpg", "real/fake/a.jpg", "train/test/real/a.jpg"])
def test_contradicting_folder_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="contradict each other"):
        read_source(touch(tmp_path, name))


def test_no_labels_no_media_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_source(tmp_path / "missing")
    with pytest.raises(DataError, match="no images or videos"):
        read_source(tmp_path)
    touch(tmp_path, "a.jpg", "b.mp4", "readme.txt")
    with pytest.raises(DataError, match=r"2 media files.*label=0"):
        read_source(tmp_path)
    assert [item.label for item in read_source(tmp_path, label=1).items] == [1, 1]
    with pytest.raises(DataError, match="label must be"):
        read_source(tmp_path, label=2)
    with pytest.raises(DataError, match="unknown layout"):
        read_source(tmp_path, layout="nonsense")
    with pytest.raises(DataError, match="split must be"):
        read_source(tmp_path, label=0, split="dev")
    touch(tmp_path, "real/c.jpg")
    with pytest.raises(DataError, match="leave label=0 out"):
        read_source(tmp_path, label=0)
    source = read_source(tmp_path)
    assert len(source.items) == 1 and any("2 files outside" in note for note in source.notes)


def test_video_pattern(tmp_path: Path) -> None:
    touch(tmp_path / "s", "real/033_1.webp", "real/033_2.webp", "fake/033_097_3.webp", "fake/odd.webp")
    pattern = r"^(?P<video>(?P<ids>\d{3}(?:_\d{3})?))_(?P<frame>\d+)$"
    source = read_source(tmp_path / "s", video_pattern=pattern)
    found = [(item.video_id, item.source_ids, item.frame, item.name) for item in source.items]
    assert found == [
        ("s/fake/033_097", ("033", "097"), 3, "s/fake/033_097_3"),
        ("s/real/033", ("033",), 1, "s/real/033_1"),
        ("s/real/033", ("033",), 2, "s/real/033_2"),
    ]
    assert any("odd.webp" in note for note in source.notes)
    assert len({item.split for item in source.items}) == 1  # all of them show 033
    for wrong, message in (
        ("(", "regular expression"),
        ("a", "named group"),
        ("(?P<video>zzz)", "matches no"),
    ):
        with pytest.raises(DataError, match=message):
            read_source(tmp_path / "s", video_pattern=wrong)


def test_folders_of_frames(tmp_path: Path) -> None:
    names = [f"fake/FaceSwap/{v:03d}/frame_{k:04d}.png" for v in range(9) for k in range(5)]
    touch(tmp_path / "s", *names, "real/500/frame_0001.png")
    assert any("video_folders" in note for note in read_source(tmp_path / "s").notes)
    items = read_source(tmp_path / "s", video_folders=True).items
    assert items[7].video_id == "s/fake/FaceSwap/001" and items[7].frame == 2
    assert {item.method for item in items} == {"FaceSwap", "real"}
    splits = defaultdict(set)
    for item in items:
        splits[item.video_id].add(item.split)
    assert len(splits) == 10 and all(len(values) == 1 for values in splits.values())


def test_files_that_differ_in_their_suffix_only(tmp_path: Path) -> None:
    items = read_source(touch(tmp_path / "s", "real/a.jpg", "real/a.png", "real/a.mp4", "real/b.jpg")).items
    assert len({item.name for item in items}) == 4
    assert [item.kind for item in items] == ["image", "video", "image", "image"]


def test_the_identity_split_is_stable_and_keeps_identities_together() -> None:
    ids = [[f"{i:03d}"] for i in range(100)]
    ids += [[f"{i:03d}", f"{i + 1:03d}"] for i in range(0, 100, 2)]
    ids += [[f"{i + 1:03d}", f"{i:03d}"] for i in range(0, 100, 2)]
    labels = [0] * 100 + [1] * 100
    splits = split_by_identity(ids, labels, (0.7, 0.15, 0.15))
    seen = defaultdict(set)
    for names, split in zip(ids, splits, strict=True):
        for name in names:
            seen[name].add(split)
    assert all(len(values) == 1 for values in seen.values())
    assert [splits.count(name) for name in ("train", "val", "test")] == [136, 32, 32]
    backwards = split_by_identity(ids[::-1], labels[::-1], (0.7, 0.15, 0.15))
    assert backwards[::-1] == splits


@pytest.mark.parametrize(
    ("n", "fractions", "sizes"),
    [
        (1, (0.7, 0.15, 0.15), [1, 0, 0]),
        (2, (0.7, 0.15, 0.15), [1, 1, 0]),
        (3, (0.7, 0.15, 0.15), [1, 1, 1]),
        (10, (0.7, 0.15, 0.15), [6, 2, 2]),
        (10, (1.0, 0.0, 0.0), [10, 0, 0]),
        (10, (0.0, 0.0, 1.0), [0, 0, 10]),
        (7, (0.5, 0.5, 0.0), [3, 4, 0]),
    ],
)
def test_sizes_of_the_identity_split(n: int, fractions: tuple[float, ...], sizes: list[int]) -> None:
    splits = split_by_identity([[str(i)] for i in range(2 * n)], [0] * n + [1] * n, fractions)
    for half in (splits[:n], splits[n:]):
        counts = [half.count(name) for name in ("train", "val", "test")]
        assert sum(counts) == n and counts == pytest.approx(sizes, abs=1 if n == 7 else 0)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, 0.1), (1.5, -0.5, 0.0)])
def test_bad_fractions(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="split_fractions"):
        split_by_identity([["a"]], [0], fractions)


def test_given_splits_win_over_ours(tmp_path: Path) -> None:
    touch(tmp_path / "s", "train/real/a.jpg", "test/fake/b.jpg", "fake/c.jpg")
    source = read_source(tmp_path / "s")
    assert [item.split for item in source.items] == ["", "test", "train"]
    assert any("1 files outside train, val and test" in note for note in source.notes)
    assert {item.split for item in read_source(tmp_path / "s", split="test").items} == {"test"}


def test_odd_names_become_texts_and_paths_that_can_be_written(tmp_path: Path) -> None:
    names = ["real/\udcff.png", "real/b\\c.png", f"real/{'x' * 250}.png", "real/" + "\u4e2d" * 80 + ".png"]
    items = read_source(touch(tmp_path / "s", *names, "fake/\udcfe/a.png", "real/plain.png")).items
    for item in items:
        texts = (item.dataset, item.method, item.video_id, item.name, *item.source_ids)
        assert all(text.encode() for text in texts)  # UTF-8
        assert "\\" not in item.name
        assert max(len(part.encode()) for part in item.name.split("/")) <= 200
    assert len({item.name for item in items}) == len({item.video_id for item in items}) == 6
    assert {item.path.relative_to(tmp_path / "s").as_posix() for item in items} >= set(names)
    assert items[0].method == "\\udcfe" and items[-1].name.isascii()
    assert "s/real/plain" in {item.name for item in items}


def test_odd_names_in_notes_can_be_printed(tmp_path: Path) -> None:
    source = read_source(touch(tmp_path / "s", "real/a.png", "other/\udcff.png"))
    assert "\\udcff.png" in "".join(source.notes).encode().decode()


def test_ffpp_folders_with_odd_names(tmp_path: Path) -> None:
    (item,) = read_source(touch(tmp_path, "manipulated_sequences/\udcff/c23/videos/000_003.mp4")).items
    assert item.method == "\\udcff" and "\\" not in item.name and item.name.encode()


def test_a_video_beside_a_folder_of_its_frames(tmp_path: Path) -> None:
    items = read_source(
        touch(tmp_path / "s", "real/000.mp4", "real/000/000001.png", "real/000_mp4.png")
    ).items
    assert {item.path.name: item.name for item in items} == {
        "000.mp4": "s/real/000_mp4_",
        "000001.png": "s/real/000/000001",
        "000_mp4.png": "s/real/000_mp4",
    }


def test_equal_names_in_two_splits_are_no_identity(tmp_path: Path) -> None:
    names = [f"{split}/{label}/0001.png" for split in ("train", "test") for label in ("real", "fake")]
    touch(tmp_path / "s", *names)
    ids = {item.split: item.source_ids for item in read_source(tmp_path / "s").items}
    assert ids == {"train": ("s:train/0001",), "test": ("s:test/0001",)}
    for options in ({"video_pattern": r"(?P<video>\d+)"}, {"video_folders": True}):
        found = defaultdict(set)
        for item in read_source(tmp_path / "s", **options).items:
            found[item.split] |= set(item.source_ids)
        assert not found["train"] & found["test"]
    (item, *_) = read_source(tmp_path / "s", video_pattern=r"(?P<video>(?P<ids>\d+))").items
    assert item.source_ids == ("0001",)  # a name that was said to be a person is one everywhere


def test_an_unreadable_folder_is_an_item_to_report(tmp_path: Path, ffpp: Path, lock_folder) -> None:
    touch(tmp_path / "s", "real/a.jpg", "fake/FaceSwap/b.jpg")
    lock_folder(tmp_path / "s/fake/FaceSwap")
    for pattern in (None, "(?P<video>a)"):
        items = read_source(tmp_path / "s", video_pattern=pattern).items
        found = [(item.path.name, item.label, item.method) for item in items]
        assert found == [("FaceSwap", 1, "FaceSwap"), ("a.jpg", 0, "real")]
    lock_folder(ffpp / "manipulated_sequences/Deepfakes/c23/videos")
    items = read_source(ffpp, methods=["Deepfakes"], compressions=["c23"]).items
    assert [item.path.name for item in items if item.label] == ["videos"]
    lock_folder(tmp_path / "s")
    with pytest.raises(MediaError, match="cannot be read"):
        read_source(tmp_path / "s")
