"""Whole runs of `prepare` on real videos and photographs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sficonv.datasets.manifest import manifest_hash, read_manifest, read_protocol
from sficonv.errors import DataError
from sficonv.preparation.options import PrepareOptions
from sficonv.preparation.prepare import prepare
from sficonv.splits.split import split


def test_videos_with_official_splits(ffpp: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = prepare(ffpp, out, frames=4, workers=2)
    df = read_manifest(out)
    assert len(df) == report.crops == report.frames_sampled == 20 and report.items == 5
    assert report.frames_without_face == 0 and report.problems == []
    [warning] = report.warnings  # all videos show one photograph, in two splits
    assert "nearly the same as one in another split" in warning
    assert report.protocol.name == "official" and read_protocol(out) == report.protocol
    assert report.manifest_hash == manifest_hash(df)
    videos = df.groupby("video_id").first()
    assert videos["split"].to_dict() == {
        "ffpp/c23/Deepfakes/000_003": "train",
        "ffpp/c23/Deepfakes/003_000": "train",
        "ffpp/c23/Deepfakes/033_097": "val",
        "ffpp/c23/youtube/000": "train",
        "ffpp/c23/youtube/033": "val",
    }
    first = df[df["video_id"] == "ffpp/c23/Deepfakes/000_003"]
    assert first["path"].tolist() == [
        f"crops/ffpp/c23/Deepfakes/000_003/{i:06d}_0.png" for i in (1, 4, 7, 10)
    ]
    assert first["frame"].tolist() == [1, 4, 7, 10] and first["time"].tolist() == pytest.approx(
        [0.1, 0.4, 0.7, 1.0]
    )
    assert set(first["source_ids"]) == {"000,003"} and set(first["method"]) == {"Deepfakes"}
    for _, row in df.iterrows():
        crop = cv2.imread(str(out / row["path"]), cv2.IMREAD_UNCHANGED)
        assert crop.shape == (256, 256, 3) and crop.dtype == np.uint8
        points = np.asarray(row["landmarks"]).reshape(5, 2)
        assert points.min() > 40 and points.max() < 220
    assert "no problems" in report.summary() and "train" in report.summary()
    assert json.loads(json.dumps(report.to_dict()))["crops"] == 20


def test_two_runs_agree_whatever_the_number_of_processes(ffpp: Path, tmp_path: Path) -> None:
    a = prepare(ffpp, tmp_path / "a", frames=2, size=64, workers=0)
    b = prepare(ffpp, tmp_path / "b", frames=2, size=64, workers=2)
    assert a.manifest_hash == b.manifest_hash


def test_images(photos: Path, tmp_path: Path) -> None:
    report = prepare(photos, tmp_path / "out", workers=0)
    df = read_manifest(tmp_path / "out")
    assert report.crops == 6 and sorted(df["label"]) == [0, 0, 0, 1, 1, 1]
    assert df["path"].tolist()[0] == "crops/photos/fake/fake0_0.png"
    # The photographs are nearly the same: those that the order of the hash would part stay together.
    assert df["time"].isna().all() and "train" in set(df["split"])
    assert any("moved to the split of their near duplicates" in note for note in report.notes)
    assert report.protocol is not None and not report.protocol.leaky
    assert any('"real" read as 0 = real' in note for note in report.notes)


def test_largest_and_all_faces(tmp_path: Path, astronaut: np.ndarray) -> None:
    both = np.full((512, 800, 3), 128, np.uint8)
    both[:256, :256] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    both[:, 288:] = astronaut
    (tmp_path / "in/real").mkdir(parents=True)
    Image.fromarray(both).save(tmp_path / "in/real/two.png")
    assert prepare(tmp_path / "in", tmp_path / "largest", workers=0).crops == 1
    prepare(tmp_path / "in", tmp_path / "all", faces="all", workers=0)
    df = read_manifest(tmp_path / "all")
    assert df["face"].tolist() == [0, 1]
    assert df["box"][0][0] > 288 > df["box"][1][0]


def test_crops_are_only_resized(tmp_path: Path, astronaut: np.ndarray) -> None:
    (tmp_path / "in/real").mkdir(parents=True)
    Image.fromarray(astronaut[20:220, 130:330]).save(tmp_path / "in/real/033_7.png")
    Image.new("RGB", (90, 120), (9, 9, 9)).save(tmp_path / "in/real/034_1.png")
    pattern = r"(?P<video>\d+)_(?P<frame>\d+)"
    report = prepare(
        tmp_path / "in", tmp_path / "out", detect=False, video_pattern=pattern, split="test", workers=0
    )
    df = read_manifest(tmp_path / "out")
    assert report.crops == 2 and report.problems == [] and set(df["split"]) == {"test"}
    assert df["frame"].tolist() == [7, 1] and df["video_id"].tolist() == ["in/real/033", "in/real/034"]
    assert np.asarray(df["box"][1]).tolist() == [0, 0, 90, 120]
    assert np.isnan(np.asarray(df["landmarks"][1], float)).all()
    eyes = np.asarray(df["landmarks"][0]).reshape(5, 2)[:2] / 256 * 200 + (130, 20)
    assert np.abs(eyes - [[200, 102], [247, 103]]).max() < 8
    crop = cv2.imread(str(tmp_path / "out" / df["path"][0]))[..., ::-1]
    assert crop.shape == (256, 256, 3)
    expected = cv2.resize(astronaut[20:220, 130:330], (256, 256), interpolation=cv2.INTER_CUBIC)
    assert (crop == expected).all()


def test_odd_names_stop_nothing(
    tmp_path: Path, astronaut: np.ndarray, face_frames, write_video, problems_of
) -> None:
    real = tmp_path / "in/real"
    real.mkdir(parents=True)
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    video = write_video(tmp_path / "video.mp4", face_frames(4))
    names = ("\udcff.png", "b\\c.png", "x" * 246 + ".png", "\udcfd.mp4", "plain.mp4")
    for name in names:
        (real / name).write_bytes((video if name.endswith("mp4") else tmp_path / "photo.png").read_bytes())
    (real / "\udcfe.png").write_text("not a photograph")
    (real / "plain").mkdir()
    (real / "plain/000001.png").write_bytes((tmp_path / "photo.png").read_bytes())
    for resumed in (0, 7):
        report = prepare(tmp_path / "in", tmp_path / "out", frames=4, size=64, split="test", workers=1)
        assert report.resumed == resumed and report.crops == 12
        assert problems_of(tmp_path / "out").keys() == {"real/\\udcfe.png"}
        assert json.dumps(report.to_dict(), ensure_ascii=False).encode() and report.summary().encode()
    df = read_manifest(tmp_path / "out")
    assert all((tmp_path / "out" / path).is_file() for path in df["path"]) and df["video_id"].nunique() == 6


def test_frames_put_beside_a_prepared_video_do_not_take_its_crops(
    tmp_path: Path, astronaut: np.ndarray, face_frames, write_video
) -> None:
    write_video(tmp_path / "in/real/000.mp4", face_frames(2))
    prepare(tmp_path / "in", tmp_path / "out", frames=2, size=64, workers=0)
    (tmp_path / "in/real/000").mkdir()
    Image.fromarray(astronaut).save(tmp_path / "in/real/000/000001.png")
    report = prepare(tmp_path / "in", tmp_path / "out", frames=2, size=64, workers=0)
    assert report.resumed == 0 and report.crops == 3
    on_disk = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert on_disk == set(read_manifest(tmp_path / "out")["path"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"size": 1},
        {"margin": 0.0},
        {"min_score": 2.0},
        {"faces": "some"},
        {"workers": -1},
        {"engine": "spark"},
        {"timeout": -1},
        {"shards": -1},
        {"sampling": "odd"},
    ],
)
def test_arguments_out_of_range(photos: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        prepare(photos, tmp_path / "out", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_options_as_an_object_or_one_by_one(photos: Path, tmp_path: Path) -> None:
    options = PrepareOptions(size=64, split="val", workers=0)
    both = [
        prepare(photos, tmp_path / "a", options, frames=2),
        prepare(photos, tmp_path / "b", frames=2, size=64, split="val", workers=0),
    ]
    assert both[0].manifest_hash == both[1].manifest_hash
    with pytest.raises(TypeError, match="frame"):
        prepare(photos, tmp_path / "c", frame=2)


def test_the_record_of_options_keeps_its_names(photos: Path, tmp_path: Path) -> None:
    """Folders that earlier versions prepared can be continued; training reads margin and size from it."""
    prepare(photos, tmp_path / "out", size=64, workers=0, compressions=None)
    assert json.loads((tmp_path / "out/prepare.json").read_text()) == {
        "format": 2,
        "options": {
            "source": str(photos.resolve()),
            **dict.fromkeys(("layout", "dataset", "label", "video_pattern", "fake_label", "base_folder")),
            **dict.fromkeys(("split", "methods", "compressions", "every")),
            "video_folders": False,
            "split_fractions": [0.7, 0.15, 0.15],
            "frames": 32,
            "margin": 1.3,
            "size": 64,
            "faces": "largest",
            "detect": True,
            "min_score": 0.7,
            "detector": "yunet",
            "align": False,
            "self_blend": 0,
            "self_blend_points": "five",
            "seed": 0,
        },
    }


def test_progress_and_summary_go_where_they_belong(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(photos, tmp_path / "out", workers=0)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""  # no terminal: no progress bar


FAKE = "manipulated_sequences/Deepfakes/c23/videos/000_003"


def test_the_papers_sampling(ffpp: Path, tmp_path: Path, face_frames, write_video) -> None:
    source = tmp_path / "in"
    for name in ("original_sequences/youtube/c23/videos/000", FAKE):
        write_video(source / f"{name}.mp4", face_frames(40))
    report = prepare(source, tmp_path / "out", size=64, sampling="paper", workers=0)
    frames = read_manifest(tmp_path / "out").groupby("label")["frame"].agg(list).to_dict()
    assert frames == {0: list(range(0, 40, 2)), 1: list(range(0, 32, 2))}  # N_iter 2, N_frames 50 and 16
    assert report.crops == report.frames_sampled == 36 and report.protocol.name == "none"
    stated = split(tmp_path / "out", protocol="paper").protocol
    assert "not the paper's" not in stated.statement
    with pytest.raises(DataError, match="says nothing about a dataset 'mine'"):
        prepare(source, tmp_path / "other", dataset="mine", sampling="paper", workers=0)
    with pytest.raises(DataError, match="other options"):
        prepare(source, tmp_path / "out", size=64, workers=0)


@pytest.mark.parametrize(("options", "name"), [({"split": "test"}, "one split"), ({}, "own")])
def test_the_manifest_says_how_its_splits_came_about(
    photos: Path, tmp_path: Path, options: dict[str, str], name: str
) -> None:
    report = prepare(photos, tmp_path / "out", size=64, workers=0, **options)  # type: ignore[arg-type]
    protocol = read_protocol(tmp_path / "out")
    assert protocol is not None and protocol == report.protocol
    assert protocol.name == name and f"splits: {protocol}" in report.summary()


@pytest.mark.slow
@pytest.mark.shared
def test_real_data_is_accounted_for(shared: Path, tmp_path: Path) -> None:
    """A pair each of c23 and c40: every video has crops or a row, every frame a crop or a reason."""
    source, frames = tmp_path / "ffpp", 3
    for file in (shared / "data/ffpp").glob("*_sequences/*/c*/videos/*.mp4"):
        pair = {"c23": {"033", "097"}, "c40": {"183", "253"}}[file.parts[-3]]
        if set(file.stem.split("_")) <= pair and file.parts[-4] in ("youtube", "Deepfakes"):
            link = source / file.relative_to(shared / "data/ffpp")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    (source / "splits").symlink_to(shared / "data/ffpp/splits")
    videos = len(list(source.glob("*_sequences/*/c*/videos/*.mp4")))
    report = prepare(source, tmp_path / "out", frames=frames, size=64, workers=0)
    df: pd.DataFrame = read_manifest(tmp_path / "out")
    without = [problem for problem in report.problems if problem.reason not in ("some_frames_without_face",)]
    assert videos == 8 and report.items == videos == df["video_id"].nunique() + len(without)
    assert report.frames_sampled == frames * videos
    assert report.crops + report.frames_without_face == report.frames_sampled
    assert report.crops >= 0.99 * report.frames_sampled
    named = sum(problem.reason == "some_frames_without_face" for problem in report.problems)
    assert (report.frames_without_face > 0) == (named > 0)
    assert set(df["split"]) == {"train"} and set(df["compression"]) == {"c23", "c40"}
    assert report.warnings == []
