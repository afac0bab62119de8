"""One file at a time through `prepare_item`: every kind of video people have, and who in it is kept."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sficonv.datasets.source import SourceItem
from sficonv.preparation.extract import Part, prepare_item
from sficonv.preparation.options import CropOptions

Prepare = Callable[..., Part]


@pytest.fixture
def run(tmp_path: Path) -> Prepare:
    """Prepare one file into a new folder; keywords are options."""
    folders = (tmp_path / f"out{i}" for i in count())

    def prepare(path: Path, *, mask: Path | None = None, label: int = 1, **options: object) -> Part:
        item = SourceItem(path, label, "set", "m", "", "set/a", ("1",), "", "video", name="a", mask=mask)
        out = next(folders)
        part = prepare_item(item, "a.mp4", out, replace(CropOptions(frames=4, size=64), **options))  # type: ignore[arg-type]
        on_disk = {p.relative_to(out).as_posix() for p in out.glob("*/**/*.png")}
        assert on_disk == {c[key] for c in part.crops for key in ("path", "mask") if key in c}
        return part

    return prepare


@pytest.fixture(scope="module")
def head(astronaut: np.ndarray) -> np.ndarray:
    """The face with something around it, 200 x 200."""
    return np.ascontiguousarray(astronaut[20:220, 120:320])


def canvas(height: int, width: int, *faces: tuple[np.ndarray, int, int, int]) -> np.ndarray:
    """A grey frame with pictures at (x, y) of some size."""
    image = np.full((height, width, 3), 120, np.uint8)
    for picture, x, y, size in faces:
        image[y : y + size, x : x + size] = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return image


def test_truncated(run: Prepare, tmp_path: Path, face_frames, write_video) -> None:
    whole = write_video(tmp_path / "whole.mp4", face_frames(40), keyframe_every=10, index_first=True)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    part = run(cut)
    assert part.reason == "truncated" and "damaged or truncated: decoded" in part.detail
    assert 1 <= len(part.crops) == part.sampled < 4


@pytest.mark.parametrize(("content", "words"), [(b"", "empty"), (bytes(4096), "begins with zeros only")])
def test_zero_bytes(run: Prepare, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    part = run(tmp_path / "a.mp4")
    assert (part.reason, part.crops, part.sampled) == ("unreadable", [], 0) and words in part.detail


def test_sound_only(run: Prepare, sound_only: Path) -> None:
    part = run(sound_only)
    assert part.reason == "unreadable" and "it holds sound only" in part.detail


def test_variable_frame_rate(run: Prepare, tmp_path: Path, face_frames, write_video) -> None:
    times = [0.0, 0.04, 0.08, 1.0, 1.04, 3.0, 3.04, 3.08, 3.96]
    part = run(write_video(tmp_path / "a.mp4", face_frames(9), fps=25, times=times))
    # Wanted at 0.5, 1.5, 2.5 and 3.5 s: what is on display then, each frame once.
    assert part.reason == "" and part.sampled == 3
    assert [crop["time"] for crop in part.crops] == pytest.approx([0.08, 1.04, 3.08], abs=0.002)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_as_phones_do(run: Prepare, tmp_path: Path, face_frames, write_video, degrees: int) -> None:
    upright = face_frames(4)
    stored = [np.ascontiguousarray(np.rot90(frame, -degrees // 90)) for frame in upright]
    part = run(write_video(tmp_path / "a.mp4", stored, rotation=degrees))
    plain = run(write_video(tmp_path / "b.mp4", upright))
    assert part.reason == plain.reason == "" and len(part.crops) == 4
    for turned, straight in zip(part.crops, plain.crops, strict=True):
        assert turned["box"] == pytest.approx(straight["box"], abs=4)


def test_4k(run: Prepare, tmp_path: Path, head: np.ndarray, write_video) -> None:
    frame = canvas(2160, 3840, (head, 2000, 700, 900))
    part = run(write_video(tmp_path / "a.mp4", [frame] * 2), frames=2)
    assert part.reason == "" and len(part.crops) == 2
    x0, y0, x1, y1 = part.crops[0]["box"]
    assert 2000 < x0 < x1 < 2900 and 700 < y0 < y1 < 1600 and x1 - x0 > 300


def test_one_frame_a_second(run: Prepare, tmp_path: Path, face_frames, write_video) -> None:
    part = run(write_video(tmp_path / "a.mp4", face_frames(6), fps=1), frames=3)
    assert part.reason == "" and [crop["time"] for crop in part.crops] == [1.0, 3.0, 5.0]
    assert {crop["track"] for crop in part.crops} == {0}


def test_two_frames_give_two_crops(run: Prepare, tmp_path: Path, face_frames, write_video) -> None:
    part = run(write_video(tmp_path / "a.mp4", face_frames(2)), frames=32)
    assert part.reason == "" and [crop["frame"] for crop in part.crops] == [0, 1] and part.sampled == 2


def test_no_face(run: Prepare, tmp_path: Path, write_video) -> None:
    part = run(write_video(tmp_path / "a.mp4", [np.full((64, 64, 3), 99, np.uint8)] * 4))
    assert (part.reason, part.sampled, part.faceless, part.crops) == ("no_face", 4, 4, [])


def test_twelve_faces(run: Prepare, tmp_path: Path, head: np.ndarray, write_video) -> None:
    places = [(head, 140 * column, 140 * row, 130) for row in range(3) for column in range(4)]
    video = write_video(tmp_path / "a.mp4", [canvas(420, 560, *places)] * 3)
    part = run(video, frames=3, faces="all")
    assert part.reason == "" and len(part.crops) == 36
    of_track: dict[int, set[tuple[float, float]]] = {}
    for crop in part.crops:
        centre = (crop["box"][0] + crop["box"][2]) // 280, (crop["box"][1] + crop["box"][3]) // 280
        of_track.setdefault(crop["track"], set()).add(centre)
    assert sorted(of_track) == list(range(12)) and all(len(cells) == 1 for cells in of_track.values())
    assert len(run(video, frames=3).crops) == 3


@pytest.mark.parametrize(
    "name", ["Gesicht \u00fc\u00f6\u00e4 \u4eba\u8138 \U0001f600.mp4", "x" * 240 + ".mp4"]
)
def test_odd_and_long_names(run: Prepare, tmp_path: Path, face_frames, write_video, name: str) -> None:
    video = write_video(tmp_path / "a.mp4", face_frames(4))
    deep = tmp_path.joinpath(*("d" * 200 for _ in range(12)))  # 2,600 characters: longer than Windows takes
    deep.mkdir(parents=True)
    part = run(video.rename(deep / name))
    assert part.reason == "" and len(part.crops) == 4


# Several people: a large one, and a small one whose colours are others.


@pytest.fixture
def couple(tmp_path: Path, head: np.ndarray, write_video) -> Path:
    """Eight frames; the large person is away in the last three, the small one in the first."""
    other = np.ascontiguousarray(head[:, ::-1, ::-1])
    frames = [
        canvas(
            240,
            420,
            *([(head, 10 + i, 10, 220)] if i < 5 else []),
            *([(other, 250 + i, 60, 130)] if i > 0 else []),
        )
        for i in range(8)
    ]
    return write_video(tmp_path / "couple.mp4", frames)


def mask_video(write_video, path: Path, x: int, y: int, size: int, frames: int = 8) -> Path:
    mask = np.zeros((120, 210, 3), np.uint8)  # half the size of the video
    mask[y : y + size, x : x + size] = 255
    return write_video(path, [mask] * frames)


def people(part: Part) -> list[str]:
    return ["large" if crop["box"][0] < 200 else "small" for crop in part.crops]


def test_tracks_tell_people_apart(run: Prepare, couple: Path) -> None:
    part = run(couple, frames=8, faces="all")
    assert part.reason == "" and len(part.crops) == 12
    assert {(who, crop["track"]) for who, crop in zip(people(part), part.crops, strict=True)} == {
        ("large", 0),
        ("small", 1),
    }


def test_one_person_across_a_change_of_frame_size_is_one(run: Prepare, tmp_path: Path, astronaut) -> None:
    pages = [Image.fromarray(cv2.resize(astronaut, (side, side))) for side in (300, 300, 700, 700)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    part = run(tmp_path / "a.tif", faces="main")
    assert [crop["track"] for crop in part.crops] == [0] * 4


def test_largest_changes_the_person_and_main_does_not(run: Prepare, couple: Path) -> None:
    largest = run(couple, frames=8)
    assert people(largest) == ["large"] * 5 + ["small"] * 3 and largest.reason == ""
    main = run(couple, frames=8, faces="main")
    assert people(main) == ["large"] * 5 and {crop["track"] for crop in main.crops} == {0}
    assert (main.reason, main.faceless) == ("some_frames_without_face", 3)
    assert "this person is not seen in 3 of 8 frames" in main.detail


@pytest.mark.parametrize("faces", ["largest", "main", "all"])
def test_the_mask_says_who_was_forged(run: Prepare, couple: Path, write_video, faces: str) -> None:
    small = mask_video(write_video, couple.with_name("small.mp4"), 135, 40, 40)
    part = run(couple, mask=small, frames=8, faces=faces)
    assert people(part) == ["small"] * 7 and (part.sampled, part.faceless) == (8, 1)
    large = mask_video(write_video, couple.with_name("large.mp4"), 30, 30, 50)
    assert people(run(couple, mask=large, frames=8, faces=faces)) == ["large"] * 5


def test_nobody_is_called_fake_where_the_mask_shows_nobody(run: Prepare, couple: Path, write_video) -> None:
    corner = mask_video(write_video, couple.with_name("corner.mp4"), 190, 104, 16)
    part = run(couple, mask=corner, frames=8)
    assert (part.reason, part.crops, part.faceless) == ("no_forged_face", [], 8)
    assert str(couple) in part.detail and str(corner) in part.detail


def test_a_mask_that_says_nothing_is_a_problem_and_not_the_end(
    run: Prepare, couple: Path, write_video, tmp_path: Path
) -> None:
    black = mask_video(write_video, tmp_path / "black.mp4", 0, 0, 0)
    (tmp_path / "text.mp4").write_text("no mask\n" * 50)
    for mask, words in (
        (black, "nothing is masked"),
        (tmp_path / "text.mp4", "text"),
        (tmp_path / "gone.mp4", "no such file"),
    ):
        part = run(couple, mask=mask, frames=8)
        assert part.reason == "mask_unusable" and words in part.detail
        assert people(part) == ["large"] * 5 + ["small"] * 3


def test_mask_of_an_image(run: Prepare, tmp_path: Path, head: np.ndarray) -> None:
    image = canvas(240, 420, (head, 10, 10, 220), (head, 250, 60, 130))
    mask = np.zeros((240, 420), np.uint8)
    mask[80:160, 280:350] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    assert people(run(tmp_path / "a.png")) == ["large"]
    assert people(run(tmp_path / "a.png", faces="main")) == ["large"]
    assert people(run(tmp_path / "a.png", mask=tmp_path / "mask.png")) == ["small"]


def test_aligned_crops_are_upright_however_the_head_is_held(
    run: Prepare, tmp_path: Path, astronaut: np.ndarray
) -> None:
    photo = cv2.copyMakeBorder(astronaut[:320, 60:380], 60, 60, 60, 60, cv2.BORDER_REPLICATE)
    centre = (220, 180)
    crops = {}
    for degrees in (-30, 0, 30):
        turn = cv2.getRotationMatrix2D(centre, degrees, 0.7)
        turned = cv2.warpAffine(photo, turn, photo.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        cv2.imwrite(str(tmp_path / f"{degrees}.png"), turned[..., ::-1])
        for align in (False, True):
            [crop] = run(tmp_path / f"{degrees}.png", align=align, size=128).crops
            points = np.array(crop["landmarks"]).reshape(5, 2)
            tilt = np.degrees(np.arctan2(*(points[0] - points[1])[::-1] * [-1, -1]))
            assert tilt == pytest.approx(0 if align else -degrees, abs=8 if align else 18)
            if align:
                assert points[:2].mean(axis=0) == pytest.approx([64, 52], abs=5)
        [crop] = run(tmp_path / f"{degrees}.png", align=True, size=128).crops
        crops[degrees] = cv2.imread(str(tmp_path / f"out{len(crops) * 3 + 2}" / crop["path"])).astype(float)
    face = np.s_[35:100, 35:93]
    for degrees in (-30, 30):
        assert np.corrcoef(crops[degrees][face].ravel(), crops[0][face].ravel())[0, 1] > 0.8


def test_dlib_as_detector(run: Prepare, tmp_path: Path, face_frames, write_video) -> None:
    pytest.importorskip("dlib", reason="needs the extra [dlib]")
    frames = [cv2.resize(frame, (384, 384), interpolation=cv2.INTER_CUBIC) for frame in face_frames(3)]
    video = write_video(tmp_path / "a.mp4", frames)
    dlib = run(video, frames=3, detector="dlib", min_score=0.0)
    yunet = run(video, frames=3)
    assert dlib.reason == "" and len(dlib.crops) == 3
    widths = [crops[0]["box"][2] - crops[0]["box"][0] for crops in (dlib.crops, yunet.crops)]
    assert dlib.crops[0]["box"] != yunet.crops[0]["box"] and widths[0] == pytest.approx(widths[1], rel=0.4)


def test_self_blended_forgeries(run: Prepare, tmp_path: Path, face_frames, write_video) -> None:
    video = write_video(tmp_path / "a.mp4", face_frames(3))
    part = run(video, label=0, frames=2, self_blend=2)
    assert part.reason == "" and len(part.crops) == 6
    real, fake = part.crops[:2], part.crops[2:]
    assert all("label" not in crop for crop in real)
    for crop in fake:
        assert (crop["label"], crop["method"], crop["video_id"]) == (1, "selfblend", "set/a#selfblend")
        pair = [cv2.imread(str(tmp_path / "out0" / c["path"])) for c in (real[fake.index(crop) // 2], crop)]
        mask = cv2.imread(str(tmp_path / "out0" / crop["mask"]), cv2.IMREAD_GRAYSCALE)
        assert pair[0].shape == pair[1].shape == (64, 64, 3) and mask.shape == (64, 64) and mask.any()
        assert not np.array_equal(*pair)
    again = run(video, label=0, frames=2, self_blend=2)
    assert [c["sha256"] for c in again.crops] == [c["sha256"] for c in part.crops]
    other = run(video, label=0, frames=2, self_blend=2, seed=1)
    assert [c["sha256"] for c in other.crops[:2]] == [c["sha256"] for c in real]
    assert not {c["sha256"] for c in other.crops[2:]} & {c["sha256"] for c in fake}
    assert len({c["sha256"] for c in fake}) == 4
    assert len(run(video, label=1, frames=2, self_blend=2).crops) == 2  # fakes are not forged again
