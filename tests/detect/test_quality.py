from pathlib import Path

import pytest
from PIL import Image

from sficonv.detect.quality import bits_per_pixel, image_doubt, video_doubt
from sficonv.media.video import VideoInfo, probe


@pytest.mark.parametrize("quality", [20, 30, 45])
def test_a_low_jpeg_quality_is_named(tmp_path, quality):
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.jpg", quality=quality)
    assert f"quality about {quality})" in image_doubt(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_good_files_raise_no_doubt(tmp_path, name):
    Image.effect_noise((64, 64), 50).save(tmp_path / name, **({"quality": 75} if name == "a.jpg" else {}))
    assert image_doubt(tmp_path / name) is None


def test_no_image_no_doubt(tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    assert image_doubt(tmp_path / "a.jpg") is None


def info(path: Path, duration: float) -> VideoInfo:
    return VideoInfo(path, 640, 480, 25.0, duration, int(25 * duration), 0)


def test_bits_per_pixel_of_a_video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(10_000))
    assert "0.0010 bits per pixel" in video_doubt(info(path, 10.0))
    assert video_doubt(info(path, 0.2)) is None
    assert video_doubt(info(path, 0.0)) is None


@pytest.mark.shared
def test_the_limit_lies_between_c23_and_c40(shared):
    """The figures that stand beside `LOW_BITS`."""
    files = list((shared / "data/ffpp").rglob("*.mp4"))
    for compression, least, most, doubted in (("c23", 0.023, 0.095, False), ("c40", 0.0024, 0.0088, True)):
        found = [probe(file) for file in files if f"/{compression}/" in file.as_posix()]
        bits = [bits_per_pixel(info) for info in found]
        assert (min(bits), max(bits)) == (pytest.approx(least, rel=0.02), pytest.approx(most, rel=0.02))
        assert {video_doubt(info) is not None for info in found} == {doubted}
