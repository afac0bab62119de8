"""Whole runs of `prepare` on real videos and photographs, interrupted and damaged in every way."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sficonv.data import workers as workers_module
from sficonv.data.extract import CropOptions, read_part
from sficonv.data.layouts import list_source
from sficonv.data.manifest import manifest_hash, read_manifest
from sficonv.data.prepare import prepare
from sficonv.data.workers import run_items
from sficonv.errors import DataError

OPTIONS = CropOptions(frames=2, margin=1.3, size=64, faces="largest", detect=True, min_score=0.7)


@pytest.fixture(scope="module")
def ffpp(tmp_path_factory: pytest.TempPathFactory, face_frames, write_video) -> Path:
    """A small FaceForensics++ tree: two pairs, train and val, real and fake, c23."""
    root = tmp_path_factory.mktemp("source") / "ffpp"
    names = ["original_sequences/youtube/c23/videos/000", "original_sequences/youtube/c23/videos/033"]
    names += [
        f"manipulated_sequences/Deepfakes/c23/videos/{pair}" for pair in ("000_003", "003_000", "033_097")
    ]
    for seed, name in enumerate(names):
        write_video(root / f"{name}.mp4", face_frames(12, seed=seed))
    (root / "splits").mkdir()
    (root / "splits/train.json").write_text('[["000", "003"]]')
    (root / "splits/val.json").write_text('[["033", "097"]]')
    return root


@pytest.fixture
def photos(tmp_path: Path, astronaut: np.ndarray) -> Path:
    """real/ and fake/ with three photographs of a face each."""
    root = tmp_path / "photos"
    for i in range(3):
        for label, image in (("real", astronaut), ("fake", astronaut[:, ::-1])):
            (root / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(image, 5 * i, axis=0)).save(root / label / f"{label}{i}.png")
    return root


def problems_of(out: Path) -> dict[str, tuple[str, str]]:
    with (out / "problems.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: (row["reason"], row["detail"]) for row in csv.DictReader(file)}


def test_videos_with_official_splits(ffpp: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = prepare(ffpp, out, frames=4, workers=2)
    df = read_manifest(out)
    assert len(df) == report.crops == report.frames_sampled == 20 and report.items == 5
    assert report.frames_without_face == 0 and report.problems == [] and report.warnings == []
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
    assert json.loads(json.dumps(report.to_json()))["crops"] == 20


def test_two_runs_agree_whatever_the_number_of_processes(ffpp: Path, tmp_path: Path) -> None:
    a = prepare(ffpp, tmp_path / "a", frames=2, size=64, workers=0)
    b = prepare(ffpp, tmp_path / "b", frames=2, size=64, workers=2)
    assert a.manifest_hash == b.manifest_hash


def test_images(photos: Path, tmp_path: Path) -> None:
    report = prepare(photos, tmp_path / "out", workers=0)
    df = read_manifest(tmp_path / "out")
    assert report.crops == 6 and sorted(df["label"]) == [0, 0, 0, 1, 1, 1]
    assert df["path"].tolist()[0] == "crops/photos/fake/fake0_0.png"
    assert df["time"].isna().all() and set(df["split"]) == {"train", "val", "test"}
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


def test_every_kind_of_bad_file_is_a_row_and_the_good_ones_are_done(
    tmp_path: Path, astronaut: np.ndarray, face_frames, write_video, sound_only: Path
) -> None:
    real = tmp_path / "in/real"
    real.mkdir(parents=True)
    photo = Image.fromarray(astronaut)
    for name in ("good.png", "cut.png", "cut.jpg"):
        photo.save(real / name)
    for name in ("cut.png", "cut.jpg"):
        (real / name).write_bytes((real / name).read_bytes()[:20_000])
    photo.convert("L").save(real / "grey.png")
    photo.convert("CMYK").save(real / "cmyk.jpg")
    photo.convert("RGBA").save(real / "alpha.png")
    cv2.imwrite(str(real / "deep.png"), astronaut[..., ::-1].astype(np.uint16) * 257)
    exif = photo.getexif()
    exif[0x0112] = 8  # turn a quarter anticlockwise to show
    photo.rotate(-90).save(real / "turned.jpg", exif=exif)
    (real / "empty.jpg").touch()
    (real / "empty.mp4").touch()
    (real / "text.jpg").write_text("not a photograph\n" * 50)
    (real / "text.mp4").write_text("not a video\n" * 50)
    Image.new("RGB", (1, 1)).save(real / "dot.png")
    Image.new("RGB", (300, 200), (90, 120, 90)).save(real / "meadow.png")
    Image.new("1", (20_000, 20_000)).save(real / "bomb.png")
    (real / "sound.mp4").write_bytes(sound_only.read_bytes())
    (real / "gone.png").symlink_to(real / "nowhere.png")
    video = write_video(tmp_path / "whole.mp4", face_frames(40), keyframe_every=10, index_first=True)
    (real / "video.mp4").write_bytes(video.read_bytes())
    (real / "video.jpg").write_bytes(video.read_bytes())
    (real / "photo.mp4").write_bytes((real / "good.png").read_bytes())
    (real / "half.mp4").write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    (real / "head.mp4").write_bytes(video.read_bytes()[:300])
    write_video(real / "meadow.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 5)
    sometimes = face_frames(20)
    sometimes[10:] = [np.full_like(sometimes[0], 90)] * 10
    write_video(real / "sometimes.mp4", sometimes)

    report = prepare(tmp_path / "in", tmp_path / "out", frames=4, size=64, workers=1)
    problems = {name.removeprefix("real/"): why for name, why in problems_of(tmp_path / "out").items()}
    expected = {
        "cut.png": ("unreadable", "truncated"),
        "cut.jpg": ("unreadable", "truncated"),
        "empty.jpg": ("unreadable", "empty"),
        "empty.mp4": ("unreadable", "empty"),
        "text.jpg": ("unreadable", "text"),
        "text.mp4": ("unreadable", "text"),
        "dot.png": ("no_face", "no face found in the image"),
        "meadow.png": ("no_face", "no face found in the image"),
        "meadow.mp4": ("no_face", "no face found in 4 frames"),
        "bomb.png": ("unreadable", "too many pixels"),
        "sound.mp4": ("unreadable", "no video stream"),
        "gone.png": ("unreadable", "no such file"),
        "half.mp4": ("truncated", "decoded"),
        "head.mp4": ("unreadable", "damaged or truncated"),
        "sometimes.mp4": ("some_frames_without_face", "no face in 2 of 4 frames"),
    }
    assert set(problems) == set(expected)
    for name, (reason, words) in expected.items():
        assert problems[name][0] == reason and words in problems[name][1], (name, problems[name])
    crops = read_manifest(tmp_path / "out").groupby("video_id")["path"].count().to_dict()
    crops = {name.removeprefix("in/real/"): n for name, n in crops.items()}
    one_each = dict.fromkeys(("good", "grey", "cmyk", "alpha", "deep", "turned", "photo"), 1)
    assert crops.pop("half") in (1, 2)
    assert crops == {**one_each, "video": 8, "sometimes": 2}  # video.mp4 and video.jpg
    assert report.items == len(list(real.iterdir()))
    assert report.broken == 11
    assert report.summary().splitlines()[-1].startswith("15 files with problems (")


def test_nothing_usable_is_a_finished_run_with_problems(tmp_path: Path) -> None:
    (tmp_path / "in/real").mkdir(parents=True)
    (tmp_path / "in/real/a.jpg").write_text("text")
    report = prepare(tmp_path / "in", tmp_path / "out", workers=0)
    assert report.crops == 0 and len(report.problems) == 1 and len(read_manifest(tmp_path / "out")) == 0


def test_odd_names_stop_nothing(tmp_path: Path, astronaut: np.ndarray, face_frames, write_video) -> None:
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
        assert json.dumps(report.to_json(), ensure_ascii=False).encode() and report.summary().encode()
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


def test_an_unreadable_folder_is_a_row(photos: Path, tmp_path: Path, lock_folder) -> None:
    (photos / "real/locked").mkdir()
    lock_folder(photos / "real/locked")
    report = prepare(photos, tmp_path / "out", workers=0)
    assert report.crops == 6 and report.broken == 1
    reason, detail = problems_of(tmp_path / "out")["real/locked"]
    assert reason == "unreadable" and "the folder cannot be read" in detail


def test_a_missing_network_is_not_blamed_on_the_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def yunet() -> bytes:
        raise DataError("the network is missing")

    monkeypatch.setattr("sficonv.data.faces._yunet", yunet)
    with pytest.raises(DataError, match="the network is missing"):
        prepare(photos, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


RUN = """
import sys
from sficonv.data.prepare import prepare
if __name__ == "__main__":
    prepare(sys.argv[1], sys.argv[2], frames=3, size=64, workers=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on(ffpp: Path, tmp_path: Path, how: signal.Signals) -> None:
    source = tmp_path / "source"
    for i in range(8):  # enough to be stopped in the middle even on a slow machine
        for path in ffpp.glob("original_sequences/*/*/*/*.mp4"):
            (source / "real").mkdir(parents=True, exist_ok=True)
            (source / "real" / f"{i}_{path.name}").symlink_to(path)
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(RUN)
    running = subprocess.Popen(
        [sys.executable, str(script), str(source), str(out)], stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (parts := list(out.glob(".parts/*/*.json"))) and time.monotonic() < deadline:
        time.sleep(0.002)
    running.send_signal(how)
    running.communicate(timeout=60)
    assert parts and running.returncode != 0
    while _alive(running.pid) and time.monotonic() < deadline:  # workers end with their parent
        time.sleep(0.05)
    assert not _alive(running.pid)
    assert not (out / "manifest.parquet").exists()
    finished = {path: path.stat().st_mtime_ns for path in out.glob(".parts/*/*.json")}
    assert len(finished) < 16, "the run was over before it could be stopped"

    report = prepare(source, out, frames=3, size=64, workers=0)
    assert report.resumed == len(finished)
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())  # nothing twice
    assert (
        report.manifest_hash
        == prepare(source, tmp_path / "fresh", frames=3, size=64, workers=0).manifest_hash
    )
    on_disk = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert on_disk == set(read_manifest(out)["path"])


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_only_what_is_missing_or_changed_is_done_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(photos, out, workers=0)
    again = prepare(photos, out, workers=0)
    assert again.resumed == 6 and again.manifest_hash == first.manifest_hash
    (out / "crops/photos/real/real0_0.png").unlink()
    repaired = prepare(photos, out, workers=0)
    assert repaired.resumed == 5 and repaired.manifest_hash == first.manifest_hash
    (photos / "real/real1.png").write_text("damaged meanwhile")
    (photos / "fake/fake2.png").unlink()
    Image.open(photos / "real/real0.png").rotate(3).save(photos / "real/more.png")
    changed = prepare(photos, out, workers=0)
    assert changed.resumed == 4 and changed.items == 6 and changed.crops == 5
    assert list(problems_of(out)) == ["real/real1.png"]
    assert not (out / "crops/photos/real/real1_0.png").exists()


def test_a_damaged_part_is_done_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(photos, out, workers=0)
    for part, content in zip(
        sorted(out.glob(".parts/*/*.json")), ("", "[1]", '{"source": "x"}'), strict=False
    ):
        part.write_text(content)
    again = prepare(photos, out, workers=0)
    assert again.resumed == 3 and again.manifest_hash == first.manifest_hash


def test_other_options_need_another_folder(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(photos, out, workers=0)
    with pytest.raises(DataError, match=r"other options \(margin: 1.3 -> 1.5\).*--no-resume"):
        prepare(photos, out, margin=1.5, workers=0)
    assert read_part(out, "real/real0.png") is not None
    report = prepare(photos, out, margin=1.5, workers=1, resume=False)
    assert report.resumed == 0 and report.crops == 6
    (out / "prepare.json").write_text("{")
    with pytest.raises(DataError, match=r"prepare\.json: damaged"):
        prepare(photos, out, margin=1.5, workers=0)


def test_folders_that_are_not_ours_are_left_alone(photos: Path, tmp_path: Path) -> None:
    for resume in (True, False):
        with pytest.raises(DataError, match="not empty"):
            prepare(photos, tmp_path, resume=resume)
    with pytest.raises(DataError, match="lies inside"):
        prepare(photos, photos / "out")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        prepare(photos, tmp_path / "file")
    with pytest.raises(DataError, match="cannot write"):
        prepare(photos, tmp_path / "file" / "below")
    with pytest.raises(DataError, match="no such folder"):
        prepare(tmp_path / "missing", tmp_path / "out")


@pytest.mark.parametrize(
    "wrong",
    [{"frames": 0}, {"size": 1}, {"margin": 0.0}, {"min_score": 2.0}, {"faces": "some"}, {"workers": -1}],
)
def test_arguments_out_of_range(photos: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        prepare(photos, tmp_path / "out", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def prepare_item(item, source: str, out: Path, options: CropOptions):
        if len(done) == 2:
            raise OSError(28, "No space left on device")
        done.append(source)
        return real_prepare_item(item, source, out, options)

    real_prepare_item = workers_module.prepare_item
    monkeypatch.setattr(workers_module, "prepare_item", prepare_item)
    with pytest.raises(DataError, match=r"No space left.*run again"):
        prepare(photos, tmp_path / "out", workers=0)
    monkeypatch.undo()
    assert prepare(photos, tmp_path / "out", workers=0).resumed == 2


CRASHING = """
import os
from sficonv.data.extract import prepare_item as prepare_soundly

def prepare_item(item, source, out, options):
    if "real1" in source:
        os.abort()  # what a decoder does at worst
    return prepare_soundly(item, source, out, options)
"""


def test_a_crashing_decoder_costs_one_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing_prepare_item.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    import crashing_prepare_item  # type: ignore[import-not-found]

    monkeypatch.setattr(workers_module, "prepare_item", crashing_prepare_item.prepare_item)
    report = prepare(photos, tmp_path / "out", workers=2)
    assert report.crops == 5
    assert [(p.path, p.reason) for p in report.problems] == [("real/real1.png", "crashed")]
    assert "crashed on this file" in report.problems[0].detail
    monkeypatch.undo()
    again = prepare(photos, tmp_path / "out", workers=0)  # tried again: memory may have run out
    assert again.resumed == 5 and again.crops == 6 and again.problems == []


def test_an_unexpected_error_costs_one_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sficonv.data import extract

    def read_image(path: Path) -> np.ndarray:
        if path.name == "fake0.png":
            raise KeyError("a decoder's own bug")
        return real_read_image(path)

    real_read_image = extract.read_image
    monkeypatch.setattr(extract, "read_image", read_image)
    report = prepare(photos, tmp_path / "out", workers=0)
    assert report.crops == 5 and report.problems[0].reason == "failed"
    assert "KeyError" in report.problems[0].detail


def test_scripts_without_a_main_guard_are_told_so(photos: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run(
        [sys.executable, str(script), str(photos), str(tmp_path / "out")],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0 and b"workers=0" in done.stderr


def test_run_items_yields_every_part_once(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    items = {item.path.name: item for item in list_source(photos)}
    items["missing"] = replace(items["real0.png"], path=photos / "missing.png", name="missing")
    parts = list(run_items(items, tmp_path / "out", OPTIONS, 1))
    assert sorted(part.source for part in parts) == sorted(items)
    assert list(run_items({}, tmp_path / "out", OPTIONS, 2)) == []


def test_progress_and_summary_go_where_they_belong(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(photos, tmp_path / "out", workers=0)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""  # no terminal: no progress bar


@pytest.mark.shared
def test_real_data(shared: Path, tmp_path: Path) -> None:
    source = tmp_path / "ffpp"
    for name in (
        "original_sequences/youtube/c23/videos/033.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/033_097.mp4",
    ):
        (source / name).parent.mkdir(parents=True)
        (source / name).symlink_to(shared / "data/ffpp" / name)
    (source / "splits").symlink_to(shared / "data/ffpp/splits")
    report = prepare(source, tmp_path / "out", frames=5, workers=0)
    df: pd.DataFrame = read_manifest(tmp_path / "out")
    assert report.crops == 10 and report.problems == [] and report.frames_without_face == 0
    assert set(df["split"]) == {"train"} and sorted(set(df["source_ids"])) == ["033", "033,097"]
    assert [row["label"] for row in report.counts] == [0, 1]
