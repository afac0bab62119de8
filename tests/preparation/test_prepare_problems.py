"""`prepare` on bad input: what one file, the disk or a decoder does wrong costs as little as possible."""

import csv
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sficonv.datasets.layouts import read_source
from sficonv.datasets.manifest import read_manifest
from sficonv.errors import DataError, MediaError
from sficonv.media.pixels import Picture
from sficonv.media.video import iter_frames
from sficonv.preparation import workers as workers_module
from sficonv.preparation.extract import read_part
from sficonv.preparation.options import PrepareOptions
from sficonv.preparation.prepare import prepare
from sficonv.preparation.workers import run_items

OPTIONS = PrepareOptions(frames=2, size=64, timeout=4)

RUN = """
import sys
import time
from sficonv.preparation.prepare import prepare
if __name__ == "__main__":
    prepare(sys.argv[1], sys.argv[2], frames=3, size=64, workers=2)
"""


def test_every_kind_of_bad_file_is_a_row_and_the_good_ones_are_done(
    tmp_path: Path, astronaut: np.ndarray, face_frames, write_video, sound_only: Path, problems_of
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
        "cut.png": ("truncated", "truncated"),
        "cut.jpg": ("truncated", "truncated"),
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
    # 4 s, of which the frames at 0.5, 1.5, 2.5 and 3.5 s are wanted, as far as they can be decoded
    half, reached = real / "half.mp4", []
    with pytest.raises(MediaError, match="truncated"):
        for frame in iter_frames(half):
            reached.append(frame.time)
    assert crops.pop("half") == sum(time <= reached[-1] for time in (0.5, 1.5, 2.5, 3.5)) >= 1
    assert crops.pop("cut") == 1  # the upper half of the photograph, which shows the face
    assert crops == {**one_each, "video": 8, "sometimes": 2}  # video.mp4 and video.jpg
    assert report.items == len(list(real.iterdir()))
    assert report.broken == 11
    assert report.summary().splitlines()[-1].startswith("15 files with problems (")


def two_streams(path: Path, frames: list[np.ndarray]) -> None:
    """A video with the frames, and a second, smaller stream that is dark."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, side in zip(streams, (192, 96), strict=True):
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
        for frame in frames:
            for stream, image in zip(streams, (frame, np.zeros((96, 96, 3), np.uint8)), strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())


def test_what_is_said_of_a_file_that_could_be_read_is_a_row(
    tmp_path: Path, astronaut: np.ndarray, face_frames, write_video
) -> None:
    folder = tmp_path / "photos/real"
    folder.mkdir(parents=True)
    half = write_video(tmp_path / "half.ts", face_frames(12)).read_bytes()
    (folder / "joined.ts").write_bytes(half + half)
    two_streams(folder / "two.mkv", face_frames(8))
    text = PngInfo()
    text.add_text("comment", "x" * 2_000_000)
    Image.fromarray(astronaut).save(folder / "text.png", pnginfo=text)
    Image.fromarray(astronaut).save(folder / "plain.png")
    report = prepare(tmp_path / "photos", tmp_path / "out", frames=4, size=64, workers=0)
    said = {problem.path: problem.detail for problem in report.problems if problem.reason == "with_note"}
    assert said.keys() == {"real/joined.ts", "real/text.png", "real/two.mkv"} and report.broken == 0
    assert "2 recordings joined" in said["real/joined.ts"] and "metadata" in said["real/text.png"]
    assert "not judged: 1 (" in said["real/two.mkv"]
    assert report.summary().splitlines()[-1].startswith("3 files with problems (3 with note")
    with (tmp_path / "out/problems.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["path"], row["reason"]) for row in csv.DictReader(file)]
    assert rows == [(problem.path, problem.reason) for problem in report.problems]
    again = prepare(tmp_path / "photos", tmp_path / "out", frames=4, size=64, workers=0)
    assert again.resumed == 4 and again.problems == report.problems


def test_names_in_the_list_of_problems_are_no_formulas(tmp_path: Path) -> None:
    (tmp_path / "=1+1.jpg").write_text("text")
    (tmp_path / "list.csv").write_text("path,label\n=1+1.jpg,0\n")
    prepare(tmp_path / "list.csv", tmp_path / "out", workers=0)
    with (tmp_path / "out/problems.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == "./=1+1.jpg"


def test_nothing_usable_is_a_finished_run_with_problems(tmp_path: Path) -> None:
    (tmp_path / "in/real").mkdir(parents=True)
    (tmp_path / "in/real/a.jpg").write_text("text")
    report = prepare(tmp_path / "in", tmp_path / "out", workers=0)
    assert report.crops == 0 and len(report.problems) == 1 and len(read_manifest(tmp_path / "out")) == 0


def test_an_unreadable_folder_is_a_row(photos: Path, tmp_path: Path, lock_folder, problems_of) -> None:
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

    monkeypatch.setattr("sficonv.faces.detectors._yunet", yunet)
    with pytest.raises(DataError, match="the network is missing"):
        prepare(photos, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()


FULL_DISK = """
import resource, sys
from sficonv.preparation.prepare import prepare
from sficonv.errors import DataError
limit = int(sys.argv[3])  # bytes per file; a write beyond fails as on a full disk, in the middle of the file
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
if __name__ == "__main__":
    try:
        prepare(sys.argv[1], sys.argv[2], size=64, workers=int(sys.argv[4]))
    except DataError as error:
        print(error)
"""


def run_on_a_full_disk(tmp_path: Path, source: Path, out: Path, *, limit: int, workers: int) -> None:
    script = tmp_path / "run.py"
    script.write_text(FULL_DISK)
    done = subprocess.run(
        [sys.executable, str(script), str(source), str(out), str(limit), str(workers)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "cannot write" in done.stdout and "run the same command to continue" in done.stdout, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_stops_the_run_and_keeps_what_is_done(photos: Path, tmp_path: Path, workers: int) -> None:
    plain, out = photos / "fake/plain.png", tmp_path / "out"
    Image.new("RGB", (200, 200), (90, 120, 90)).save(plain)  # has no face: nothing large to write
    run_on_a_full_disk(tmp_path, photos, out, limit=4_000, workers=workers)
    whole = len(list(out.glob(".parts/*/*.json")))
    assert whole < 7
    report = prepare(photos, out, size=64, workers=0)
    assert (
        report.resumed == whole and report.crops == 6 and [p.reason for p in report.problems] == ["no_face"]
    )
    assert report.manifest_hash == prepare(photos, tmp_path / "other", size=64, workers=0).manifest_hash
    assert not list(out.glob(".parts/*/.*")) and not list(out.glob(".parts/*/*.watch"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
def test_a_disk_that_is_full_at_the_end_keeps_the_old_manifest(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(photos, out, size=64, workers=0)
    before = (out / "manifest.parquet").read_bytes()
    (photos / "real/real1.png").unlink()
    run_on_a_full_disk(tmp_path, photos, out, limit=4_000, workers=0)
    assert (out / "manifest.parquet").read_bytes() == before
    assert prepare(photos, out, size=64, workers=0).crops == 5 and len(read_manifest(out)) == 5
    assert not list(out.glob(".manifest*"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_hangs_costs_one_file(photos: Path, tmp_path: Path, workers: int) -> None:
    items = {item.path.name: item for item in read_source(photos).items}
    pipe = tmp_path / "sequence.tar"
    os.mkfifo(pipe)  # opening it blocks until somebody writes to it: nobody does
    hanging = replace(items["real0.png"], path=pipe, name="hanging", members=("a/1.png",))
    items = {"sequence.tar!a": hanging, **items}
    start = time.monotonic()
    options = replace(OPTIONS, workers=workers)
    parts = {part.source: part for part in run_items(items, tmp_path / "out", options)}
    assert time.monotonic() - start >= 4
    assert set(parts) == set(items)
    assert {name for name, part in parts.items() if part.reason} == {"sequence.tar!a"}
    lost = parts["sequence.tar!a"]
    assert lost.reason == "timeout" and "no frame for 4 s" in lost.detail and str(pipe) in lost.detail
    assert not list(tmp_path.glob("out/.parts/*/*.watch"))
    assert read_part(tmp_path / "out", "sequence.tar!a") is None  # tried again next time


CRASHING = """
import os
from sficonv.preparation.workers import work as work_soundly

def work(item, name, out, options):
    if "real1" in name:
        os.abort()  # what a decoder does at worst
    return work_soundly(item, name, out, options)
"""


def test_a_crashing_decoder_costs_one_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing_work.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    import crashing_work  # type: ignore[import-not-found]

    monkeypatch.setattr(workers_module, "work", crashing_work.work)
    report = prepare(photos, tmp_path / "out", workers=2)
    assert report.crops == 5
    assert [(p.path, p.reason) for p in report.problems] == [("real/real1.png", "crashed")]
    assert "its decoder crashed" in report.problems[0].detail
    monkeypatch.undo()
    again = prepare(photos, tmp_path / "out", workers=0)  # tried again: memory may have run out
    assert again.resumed == 5 and again.crops == 6 and again.problems == []


def test_an_unexpected_error_costs_one_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sficonv.preparation import extract

    def read_picture(path: Path) -> Picture:
        if path.name == "fake0.png":
            raise KeyError("a decoder's own bug")
        return real_read_picture(path)

    real_read_picture = extract.read_picture
    monkeypatch.setattr(extract, "read_picture", read_picture)
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
    items = {item.path.name: item for item in read_source(photos).items}
    items["missing"] = replace(items["real0.png"], path=photos / "missing.png", name="missing")
    parts = list(run_items(items, tmp_path / "out", replace(OPTIONS, workers=1)))
    assert sorted(part.source for part in parts) == sorted(items)
    assert list(run_items({}, tmp_path / "out", OPTIONS)) == []


def test_a_cut_photograph_gives_its_face_and_a_problem(photos: Path, tmp_path: Path) -> None:
    file = photos / "real/real0.png"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 8 // 10])
    report = prepare(photos, tmp_path / "out", workers=0)
    assert report.crops == 6
    assert [(p.path, p.reason) for p in report.problems] == [("real/real0.png", "truncated")]
    assert "of the picture is missing" in report.problems[0].detail
