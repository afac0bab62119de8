"""Pictures that move are read as videos are: every one of them, at its time."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
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


def animation(path: Path, astronaut: np.ndarray) -> Path:
    """Four pictures, half a second each."""
    pictures = [Image.fromarray(np.roll(astronaut, 40 * i, axis=1)) for i in range(4)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=500)
    return path


@pytest.mark.parametrize("piece", ["text", "profile", "checksum"])
def test_metadata_never_cost_an_animated_png(tmp_path: Path, astronaut, piece: str) -> None:
    path = animation(tmp_path / "a.png", astronaut)
    data = path.read_bytes()
    kind, content = {
        "text": (b"zTXt", b"key\0\0" + zlib.compress(bytes(2_000_000))),
        "profile": (b"iCCP", b"name\0\0" + zlib.compress(os.urandom(1_500_000))),
        "checksum": (b"tEXt", b"key\0text"),
    }[piece]
    checksum = zlib.crc32(kind + content) ^ (piece == "checksum")
    extra = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    path.write_bytes(data[:33] + extra + data[33:])
    assert len(list(iter_frames(path))) == 4
    assert "metadata" in probe(path).notes[0]


def test_a_cut_webp_animation_gives_what_there_is_and_says_so(tmp_path: Path, astronaut) -> None:
    path = animation(tmp_path / "a.webp", astronaut)
    path.write_bytes(path.read_bytes()[:-1000])
    frames = iter_frames(path)
    assert [next(frames).time for _ in range(3)] == [0, 0.5, 1]
    with pytest.raises(MediaError, match=r"decoded 1\.5 s \(its end is missing\)"):
        next(frames)


def test_a_cut_gif_animation_says_so(tmp_path: Path, astronaut) -> None:
    path = animation(tmp_path / "a.gif", astronaut)
    assert len(list(iter_frames(path))) == 4
    for kept in (0.6, 0.999):  # what is shown of the last picture may be nothing but its top
        part = tmp_path / "part.gif"
        part.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
        with pytest.raises(MediaError, match="damaged or truncated"):
            list(iter_frames(part))


def test_all_pictures_of_a_heic_file_are_judged(tmp_path: Path, astronaut) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    blank = Image.new("RGB", (64, 64), (90, 90, 90))
    blank.save(tmp_path / "a.heic", save_all=True, append_images=[Image.fromarray(astronaut)])
    assert [f.image.shape[:2] for f in iter_frames(tmp_path / "a.heic")] == [(64, 64), (512, 512)]
