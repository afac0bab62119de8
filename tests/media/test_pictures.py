"""Pictures with something to say: metadata left out, missing rows, deep pixels, HEIC, memory."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sficonv.errors import MediaError
from sficonv.media.images import read_image, read_picture


def chunk(kind: bytes, data: bytes, *, wrong: bool = False) -> bytes:
    checksum = zlib.crc32(kind + data) ^ wrong
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_chunk(path: Path, image: np.ndarray, piece: bytes) -> Path:
    Image.fromarray(image).save(path, "png")
    data = path.read_bytes()
    path.write_bytes(data[:33] + piece + data[33:])
    return path


TEXT = b"x" * 2_500_000
LARGE = {
    "text": chunk(b"tEXt", b"Comment\0" + TEXT),
    "packed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(TEXT)),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TEXT),
    "packed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(TEXT)),
    "colour profile": chunk(b"iCCP", b"p\0\0" + zlib.compress(TEXT)),
}


@pytest.mark.parametrize("piece", LARGE.values(), ids=LARGE)
def test_large_metadata_never_costs_the_picture(tmp_path: Path, astronaut: np.ndarray, piece: bytes) -> None:
    picture = read_picture(with_chunk(tmp_path / "a.png", astronaut, piece))
    assert (picture.pixels == astronaut).all() and not picture.damage
    assert "more than 1 MB of metadata" in picture.notes[0]


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"pHYs", b"tIME", b"eXIf", b"abCd"])
def test_a_wrong_checksum_where_there_are_no_pixels(
    tmp_path: Path, astronaut: np.ndarray, kind: bytes
) -> None:
    piece = chunk(kind, b"whatever\0\0", wrong=True)
    picture = read_picture(with_chunk(tmp_path / "a.png", astronaut, piece))
    assert (picture.pixels == astronaut).all() and not picture.damage
    assert "wrong checksum" in picture.notes[0]


def test_ordinary_metadata_is_not_worth_a_note(tmp_path: Path, astronaut: np.ndarray) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "nobody", zip=True)
    Image.fromarray(astronaut).save(tmp_path / "a.png", pnginfo=text, dpi=(300, 300))
    assert read_picture(tmp_path / "a.png").notes == ()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_cut_picture_is_read_as_far_as_it_goes(tmp_path: Path, astronaut: np.ndarray, suffix: str) -> None:
    whole = tmp_path / f"a.{suffix}"
    Image.fromarray(astronaut).save(whole)
    expected = read_image(whole)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    picture = read_picture(whole)
    there = 512 * 5 // 10
    assert (picture.pixels[:there] == expected[:there]).all()
    assert "% of the picture is missing" in picture.notes[0]
    assert "damaged or truncated" in picture.damage
    with pytest.raises(MediaError, match="damaged or truncated"):
        read_image(whole)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_where_only_the_end_mark_is_missing_the_picture_is_whole(
    tmp_path: Path, astronaut: np.ndarray, suffix: str
) -> None:
    whole = tmp_path / f"a.{suffix}"
    Image.fromarray(astronaut).save(whole)
    expected = read_image(whole)
    whole.write_bytes(whole.read_bytes()[:-2])
    picture = read_picture(whole)
    assert not picture.damage and (picture.pixels == expected).all()
    assert suffix == "png" or "its end is missing" in picture.notes[0]


def test_a_cut_progressive_jpeg_is_named_as_damaged(tmp_path: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    assert "damaged" in read_picture(tmp_path / "a.jpg").damage


def test_damage_in_the_middle_of_a_png_costs_what_lies_behind_it(
    tmp_path: Path, astronaut: np.ndarray
) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    (tmp_path / "a.png").write_bytes(bytes(data))
    picture = read_picture(tmp_path / "a.png")
    assert (picture.pixels[:200] == astronaut[:200]).all() and picture.damage


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_fewer_bits_stored_in_16_are_brought_to_full_brightness(
    tmp_path: Path, astronaut: np.ndarray, suffix: str, bits: int
) -> None:
    deep = (astronaut.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), deep[..., ::-1])
    picture = read_picture(path)
    assert np.abs(picture.pixels.astype(int) - astronaut).max() <= 1
    assert bool(picture.notes) == (bits < 16)


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0])
@pytest.mark.parametrize("grey", [False, True])
def test_float_pixels_are_read(tmp_path: Path, astronaut: np.ndarray, full: float, grey: bool) -> None:
    values = (astronaut / 255 * full).astype(np.float32)
    cv2.imwrite(str(tmp_path / "a.tif"), values[..., 0] if grey else values[..., ::-1])
    expected = astronaut[..., :1] if grey else astronaut
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - expected).max() <= 1


def test_float_pixels_without_a_scale_are_refused_by_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), np.full((8, 8), -3e9, np.float32))
    with pytest.raises(MediaError, match=r"pixels from -3e\+09.*8 or 16 bits"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pixels_stand_upright_too(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((20, 30), np.uint8)
    stored[:5, :5] = 255
    Image.fromarray(stored).save(tmp_path / "8.png", exif=_exif(orientation))
    deep = Image.fromarray(stored.astype(np.uint16) * 257)
    deep.save(tmp_path / "16.tif", tiffinfo={274: orientation})
    assert (read_image(tmp_path / "16.tif") == read_image(tmp_path / "8.png")).all()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def test_heic_is_read(tmp_path: Path, astronaut: np.ndarray) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="writes the file; reading needs it not")
    pillow_heif.register_heif_opener()
    Image.fromarray(astronaut[:, :300]).save(tmp_path / "IMG.jpg", "HEIF", quality=95)
    image = read_image(tmp_path / "IMG.jpg")
    expected = astronaut[:, :300]
    assert image.shape == expected.shape and np.abs(image.astype(int) - expected).mean() < 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux counts it")
def test_16_bits_take_less_than_a_gigabyte_and_a_half_at_63_megapixels(tmp_path: Path) -> None:
    rows = np.arange(7000, dtype=np.uint16)[:, None, None] * np.ones((1, 9000, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), rows, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    del rows
    code = (
        "import pathlib, re, sys; from sficonv.media.images import read_image;"
        "image = read_image(sys.argv[1]); print(image.shape);"
        "status = pathlib.Path('/proc/self/status').read_text();"  # ru_maxrss is inherited from the parent
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert out[0] == "(7000, 9000, 3)" and int(out[1]) < 1500


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_said(tmp_path: Path, astronaut: np.ndarray, transfer: int, name: str) -> None:
    path = with_chunk(tmp_path / "a.png", astronaut, chunk(b"cICP", bytes([9, transfer, 0, 1])))
    assert f"high dynamic range ({name})" in read_picture(path).notes[0]


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_damaged_exif_data_cost_no_picture(tmp_path: Path, astronaut: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(astronaut).save(path, exif=b"Exif\0\0no directory at all", quality=90)
    picture = read_picture(path)
    assert np.abs(picture.pixels.astype(int) - astronaut).mean() < 5 and not picture.notes


def test_damaged_metadata_of_a_jpeg_cost_no_picture(tmp_path: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.jpg")
    expected = read_image(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    broken = b"Photoshop 3.0\x008BIMxx"
    segment = b"\xff\xed" + (len(broken) + 2).to_bytes(2, "big") + broken
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    picture = read_picture(tmp_path / "a.jpg")
    assert np.array_equal(picture.pixels, expected) and not picture.damage
