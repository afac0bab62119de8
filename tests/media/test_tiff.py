"""TIFF files as cameras, scanners and microscopes write them: the right page, all pages, their brightness."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from sficonv.errors import MediaError
from sficonv.media.images import read_image, read_picture
from sficonv.media.kinds import media_kind
from sficonv.media.video import iter_frames, probe

THUMBNAIL = np.full((12, 16, 3), 90, np.uint8)
SENSOR = np.full((96, 128), 900, np.uint16)


def difference(image: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - expected).mean())


def test_a_thumbnail_that_comes_first_is_not_taken_for_the_photograph(tmp_path: Path, astronaut) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(THUMBNAIL, photometric="rgb", subfiletype=1)
        file.write(astronaut, photometric="rgb")
    assert media_kind(tmp_path / "a.tif") == "image"
    assert np.array_equal(read_image(tmp_path / "a.tif"), astronaut)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("below", [False, True])
def test_camera_raw_behind_a_thumbnail_is_named_as_such(tmp_path: Path, big: bool, below: bool) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=big) as file:
        file.write(THUMBNAIL, photometric="rgb", subfiletype=1, subifds=int(below))
        file.write(SENSOR, photometric=32803, metadata=None)
    with pytest.raises(MediaError, match="camera raw"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("kind", ["8 in 16 bits", "12 in 16 bits", "float"])
def test_every_page_is_as_bright_as_the_photograph(
    tmp_path: Path, astronaut, big: bool, pages: int, kind: str
) -> None:
    wide = astronaut.astype(np.uint16)
    stored = {"8 in 16 bits": wide, "12 in 16 bits": wide * 16, "float": (astronaut / 255).astype(np.float32)}
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=big) as file:
        for _ in range(pages):
            file.write(stored[kind], photometric="rgb")
    if pages == 1:
        picture = read_picture(tmp_path / "a.tif")
        images, notes = [picture.pixels], picture.notes
    else:
        images = [frame.image for frame in iter_frames(tmp_path / "a.tif")]
        notes = probe(tmp_path / "a.tif").notes
    assert len(images) == pages and max(difference(image, astronaut) for image in images) < 1
    assert kind == "float" or "of 16 bits: brightened" in notes[0]


def test_white_that_is_stored_as_nothing_stays_white(tmp_path: Path, astronaut) -> None:
    grey = astronaut[..., 1]
    tifffile.imwrite(tmp_path / "a.tif", 65535 - grey.astype(np.uint16) * 257, photometric="miniswhite")
    assert difference(read_image(tmp_path / "a.tif")[..., 1], grey) < 1


def test_signed_numbers_are_as_bright_as_unsigned_ones(tmp_path: Path, astronaut) -> None:
    grey = astronaut[..., 1]
    tifffile.imwrite(tmp_path / "a.tif", grey.astype(np.int16) * 128, photometric="minisblack")
    assert difference(read_image(tmp_path / "a.tif")[..., 1], grey) < 1
    tifffile.imwrite(tmp_path / "a.tif", (grey.astype(int) - 128).astype(np.int8), photometric="minisblack")
    with pytest.raises(MediaError, match="pixels from -128 to 127; save the image with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_deep_colours_in_planes_of_their_own_are_refused(tmp_path: Path, astronaut) -> None:
    """Pillow and OpenCV both read them as noise, without a word."""
    planes = np.moveaxis(astronaut.astype(np.uint16) * 257, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(MediaError, match="colour by colour"):
        read_image(tmp_path / "a.tif")


def test_pages_that_were_cut_off_are_missed(tmp_path: Path, astronaut) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(4):
            file.write(astronaut[:64, :64], photometric="rgb", metadata=None)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) * 3 // 10])  # the directory of the second page is gone
    frames = iter_frames(tmp_path / "a.tif")
    assert np.array_equal(next(frames).image, astronaut[:64, :64])
    with pytest.raises(MediaError, match=r"damaged or truncated: decoded 1\.0 s"):
        next(frames)
