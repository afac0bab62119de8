"""Pictures that move are read as videos are: every one of them, at its time."""

from pathlib import Path

import pytest
from PIL import Image

from sficonv.errors import MediaError
from sficonv.media.images import read_image
from sficonv.media.kinds import media_kind
from sficonv.media.video import iter_frames, probe, sample_times

LEVELS = (20, 100, 180)


def moving(path: Path, **options: object) -> Path:
    frames = [Image.new("RGB", (64, 48), (level, level, level)) for level in LEVELS]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


@pytest.mark.parametrize("suffix", ["webp", "png", "avif", "gif"])
def test_an_animation_is_a_video(tmp_path: Path, suffix: str) -> None:
    path = moving(tmp_path / f"a.{suffix}", duration=500).rename(tmp_path / "photo.jpg")
    assert media_kind(path) == "video"
    info = probe(path)
    assert (info.width, info.height, info.frames) == (64, 48, 3)
    assert info.duration == pytest.approx(1.5, abs=0.02) and info.fps == pytest.approx(2, abs=0.05)
    frames = list(iter_frames(path))
    assert [round(float(f.image.mean()), -1) for f in frames] == list(LEVELS)
    assert [f.time for f in frames] == pytest.approx([0, 0.5, 1], abs=0.02)
    assert [f.index for f in iter_frames(path, times=sample_times(info, 3))] == [0, 1, 2]
    assert [f.index for f in iter_frames(path, every=0.5, start=0.5)] == [1, 2]


def test_the_pages_of_a_tiff_are_frames_and_its_reduced_copies_are_none(tmp_path: Path) -> None:
    path = moving(tmp_path / "a.tif")
    assert media_kind(path) == "video"
    assert [round(float(f.image.mean())) for f in iter_frames(path, every=0.5)] == list(LEVELS)
    Image.new("RGB", (64, 48), (9, 9, 9)).save(
        tmp_path / "b.tif", save_all=True, append_images=[_thumbnail(tmp_path)]
    )
    assert media_kind(tmp_path / "b.tif") == "image" and read_image(tmp_path / "b.tif").max() == 9


def _thumbnail(folder: Path) -> Image.Image:
    Image.new("RGB", (16, 12)).save(folder / "thumb.tif", tiffinfo={254: 1})
    image = Image.open(folder / "thumb.tif")
    image.encoderinfo = {"tiffinfo": {254: 1}}
    return image


def test_pages_of_other_sizes_and_frames_without_a_time(tmp_path: Path) -> None:
    pages = [Image.new("RGB", size, (90, 90, 90)) for size in ((64, 48), (32, 100))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert [f.image.shape for f in iter_frames(tmp_path / "a.tif")] == [(48, 64, 3), (100, 32, 3)]
    info = probe(moving(tmp_path / "a.webp", duration=0))
    assert info.duration == pytest.approx(0.3)


def test_a_still_picture_in_such_a_format_is_an_image(tmp_path: Path) -> None:
    for suffix in ("webp", "png", "avif", "tif"):
        Image.new("RGB", (64, 48)).save(tmp_path / f"a.{suffix}")
        assert media_kind(tmp_path / f"a.{suffix}") == "image"


def test_a_cut_animation_gives_what_there_is_and_says_so(tmp_path: Path, astronaut) -> None:
    frames = [Image.fromarray(astronaut).rotate(i) for i in range(4)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=500)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) * 6 // 10])
    seen = []
    with pytest.raises(MediaError, match="damaged or truncated"):
        for frame in iter_frames(tmp_path / "cut.png"):
            seen.append(frame.time)
    assert seen and seen[-1] < 1.5
