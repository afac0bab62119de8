"""Reading images: every pixel format people have, and every way in which a file can be bad."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sficonv.errors import MediaError
from sficonv.media.images import read_image
from sficonv.media.kinds import media_kind
from sficonv.media.listing import list_media


def png_of_size(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size; a few hundred bytes whatever the size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def test_an_rgb_image_is_read_exactly(tmp_path: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8 and image.shape == (512, 512, 3)
    assert (image == astronaut).all() and image.flags.writeable


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "bmp", "gif", "tiff", "ppm", "avif", "jpeg2000"])
def test_formats_by_content_whatever_the_name(tmp_path: Path, format: str) -> None:
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "file.mp4", format)
    assert media_kind(tmp_path / "file.mp4") == "image"
    image = read_image(tmp_path / "file.mp4")
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int).mean((0, 1)) - (200, 100, 50)).max() < 8


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("RGBA", (200, 100, 50, 0), (255, 255, 255)),  # transparent: white
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 32896, (128, 128, 128)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 2048, (128, 128, 128)),  # 12 bits, stored as they are
        ("I;16", 200, (200, 200, 200)),  # 8 bits
    ],
)
def test_pixel_formats(tmp_path: Path, mode: str, colour: object, expected: tuple[int, ...]) -> None:
    Image.new(mode, (5, 4), colour).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").reshape(-1, 3).tolist() == [list(expected)] * 20


def test_cmyk(tmp_path: Path, astronaut: np.ndarray) -> None:
    Image.fromarray(astronaut).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - astronaut).mean() < 3


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png").tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_16_bit_colour_is_rounded_not_cut_off(tmp_path: Path) -> None:
    rgb = np.array([[[65535, 32896, 200]]], np.uint16)  # 200 / 257 rounds to 1; dropping a byte gives 0
    cv2.imwrite(str(tmp_path / "a.png"), rgb[..., ::-1])
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 128, 1]]]


def test_16_bit_alpha_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[0, 0, 65535, 0], [65535, 0, 0, 65535]]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], [255, 0, 0]]]


@pytest.mark.parametrize("bits", [8, 16])
def test_exif_orientation_is_applied(tmp_path: Path, bits: int) -> None:
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[0, 0] = 255
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    image.save(tmp_path / "a.png", exif=exif)
    if bits == 16:
        data = (tmp_path / "a.png").read_bytes()
        at = data.index(b"eXIf") - 4
        length = int.from_bytes(data[at : at + 4], "big") + 12
        cv2.imwrite(str(tmp_path / "a.png"), stored.astype(np.uint16) * 257)
        deep = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(deep[:33] + data[at : at + length] + deep[33:])
    upright = read_image(tmp_path / "a.png")
    assert upright.shape == (3, 2, 3)
    assert upright[0, 1].tolist() == [255, 255, 255] and upright.sum() == 765


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]


def test_a_huge_image_is_refused_before_decoding(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="too many pixels"):
        read_image(png_of_size(tmp_path / "bomb.png", 20_000, 20_000))
    with pytest.raises(MediaError, match=r"9000 x 9000 pixels.*64,000,000"):
        read_image(png_of_size(tmp_path / "large.png", 9_000, 9_000))
    with pytest.raises(MediaError, match="100 x 100"):
        read_image(png_of_size(tmp_path / "small.png", 100, 100), max_pixels=9_999)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_a_truncated_image_is_refused(tmp_path: Path, astronaut: np.ndarray, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(astronaut).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"a\.\w+: the image is damaged or truncated"):
        read_image(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"this is a text, not a photograph\n" * 99, "text"),
        ("Umlaute \u00e4\u00f6\u00fc \u2603 ".encode() * 200, "text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "text"),
        (b"for free software, see the file\n", "text"),  # "free" is also an MP4 box
        (b"\0" * 5000, "zeros"),
        (bytes(range(1, 250)), "neither an image nor a video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\x89PNG\r\n\x1a\n", "damaged or truncated"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "damaged or truncated"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", "neither"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(content)
    with pytest.raises(MediaError, match=rf"photo\.jpg: .*{message}"):
        read_image(file)


def test_missing_folder_and_odd_paths(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(MediaError, match="folder"):
        media_kind(tmp_path)
    with pytest.raises(MediaError, match="cannot be opened"):
        media_kind("a\0b.jpg")


def test_a_video_is_told_from_an_image(tmp_path: Path, counting_frames, write_video) -> None:
    for suffix in ("mp4", "mkv", "mov", "avi", "ts", "flv"):
        video = write_video(tmp_path / f"a.{suffix}", counting_frames(4))
        renamed = video.rename(tmp_path / f"{suffix}.jpg")
        assert media_kind(renamed) == "video"
        with pytest.raises(MediaError, match="a video, not an image"):
            read_image(renamed)


def test_an_animated_gif_is_a_video_and_a_still_one_an_image(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (c, c, c)) for c in (0, 255)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    assert media_kind(tmp_path / "moving.gif") == "video"
    assert media_kind(tmp_path / "still.gif") == "image"
    assert read_image(tmp_path / "moving.gif").max() == 0


def test_iter_media(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.PNG", "a.mp4", "notes.txt", ".hidden.jpg", "b/._2.jpg", "c/d/e.webm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c" / "loop").symlink_to(tmp_path)
    elsewhere = tmp_path / ".elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked.jpg").touch()
    (tmp_path / "z").symlink_to(elsewhere)
    found = [p.relative_to(tmp_path).as_posix() for p in list_media([tmp_path]).files]
    assert found == ["a.mp4", "b/1.PNG", "b/2.jpg", "c/d/e.webm", "z/linked.jpg"]
    named = [tmp_path / "notes.txt", tmp_path / "missing", tmp_path / "a.mp4"]
    assert list_media([*named, tmp_path / "b", str(named[0])]).files == [
        *named,
        *list_media([tmp_path / "b"]).files,
    ]


def test_each_real_folder_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "real/a").mkdir(parents=True)
    (tmp_path / "real/a/1.jpg").touch()
    (tmp_path / "real/b").symlink_to(tmp_path / "real/a")
    assert list_media([tmp_path]).files == [tmp_path / "real/a/1.jpg"]


def test_an_unreadable_folder_costs_only_its_own_files(tmp_path: Path, lock_folder) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "c/3.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    lock_folder(tmp_path / "b")
    assert list_media([tmp_path]).files == [tmp_path / "a/1.jpg", tmp_path / "b", tmp_path / "c/3.jpg"]
    with pytest.raises(MediaError, match="b: the folder cannot be read"):
        media_kind(tmp_path / "b")
    with pytest.raises(MediaError, match="b: the folder cannot be read"):
        list_media([tmp_path / "b"])
