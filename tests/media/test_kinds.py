"""What a file is: bare streams, pictures that move, camera raw, whatever their names."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sficonv.errors import MediaError
from sficonv.media.images import read_image
from sficonv.media.kinds import media_format, media_kind
from sficonv.media.video import iter_frames, probe

BARE = {
    "h264": ("libx264", None),
    "hevc": ("libx265", None),
    "ivf": ("libvpx", None),
    "mxf": ("mpeg2video", None),
    "mjpeg": ("mjpeg", None),
    "m2v": ("mpeg2video", "mpeg2video"),
    "mpg": ("mpeg1video", None),
    "vob": ("mpeg2video", None),
    "asf": ("wmv2", None),
    "3g2": ("libx264", None),
    "f4v": ("libx264", None),
    "qt": ("libx264", "mov"),
}


@pytest.mark.parametrize("suffix", BARE)
def test_bare_streams_and_rare_containers_are_videos(tmp_path: Path, counting_frames, suffix: str) -> None:
    codec, form = BARE[suffix]
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        for image in counting_frames(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    assert media_kind(path) == "video"
    levels = [(float(frame.image.mean()) - 20) / 4 for frame in iter_frames(path)]
    assert levels == pytest.approx(range(6), abs=0.9)
    assert probe(path).duration == pytest.approx(0.24, abs=0.05)


def test_uncompressed_y4m_begins_with_text_and_is_a_video(tmp_path: Path) -> None:
    frame = b"FRAME\n" + bytes([120]) * (64 * 48) + bytes([128]) * (32 * 24 * 2)
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n" + 5 * frame)
    assert media_kind(tmp_path / "a.y4m") == "video"
    assert len(list(iter_frames(tmp_path / "a.y4m"))) == 5


def test_digital_video_tape_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.dv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for level in (60, 120, 180):
            image = np.full((576, 720, 3), level, np.uint8)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
            )
        container.mux(stream.encode())
    info = probe(path)
    assert (info.fps, info.frames) == (25.0, 3)
    assert info.width / info.height == pytest.approx(720 * 16 / 15 / 576, rel=0.03)  # not square pixels


def ifd(tags: dict[int, tuple[int, int]], at: int) -> bytes:
    """A TIFF directory of 32-bit or 16-bit numbers: tag -> (type, value)."""
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items())
    )
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def camera_raw(extra: dict[int, tuple[int, int]], below: dict[int, tuple[int, int]]) -> bytes:
    """A TIFF file that opens with a thumbnail of 160 x 120 pixels and has a second picture behind it."""
    pixels = bytes(160 * 120)
    tags = {
        256: (4, 160), 257: (4, 120), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 2000), 277: (3, 1),
        278: (4, 120),
        279: (4, len(pixels)), 330: (4, 1000), **extra,
    }  # fmt: skip
    data = b"II*\0" + struct.pack("<I", 8) + ifd(tags, 8)
    data = data.ljust(1000, b"\0") + ifd(below, 1000)
    return data.ljust(2000, b"\0") + pixels


@pytest.mark.parametrize(
    ("extra", "below"),
    [
        ({50706: (4, 0x401)}, {256: (4, 6000), 257: (4, 4000)}),  # DNG
        ({254: (4, 1)}, {256: (4, 6000), 257: (4, 4000)}),  # NEF, ARW
        ({}, {256: (4, 6000), 257: (4, 4000), 262: (3, 32803)}),
        ({}, {262: (3, 34892)}),
    ],
)
def test_the_thumbnail_of_camera_raw_is_never_taken_for_the_photograph(
    tmp_path: Path, extra: dict[int, tuple[int, int]], below: dict[int, tuple[int, int]]
) -> None:
    (tmp_path / "a.tif").write_bytes(camera_raw(extra, below))
    with pytest.raises(MediaError, match="camera raw.*export it as JPEG"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "start",
    [b"FUJIFILMCCD-RAW 0201", b"IIRO\x08\0\0\0", b"IIU\0\x08\0\0\0", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
     b"II*\0\x10\0\0\0CR\2\0"],
)  # fmt: skip
def test_other_camera_raw_is_named_as_such(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(start + bytes(range(256)) * 4)
    with pytest.raises(MediaError, match="camera raw"):
        read_image(tmp_path / "a.jpg")


def test_an_ordinary_tiff_with_a_smaller_copy_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(camera_raw({}, {256: (4, 80), 257: (4, 60), 262: (3, 1)}))
    assert read_image(tmp_path / "a.tif").shape == (120, 160, 3)


def test_what_a_text_says_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password = hunter2\n" * 99)
    (tmp_path / "a.jpg").symlink_to(tmp_path / "secret")
    with pytest.raises(MediaError) as error:
        media_kind(tmp_path / "a.jpg")
    assert "text" in str(error.value) and "hunter2" not in str(error.value)


def test_a_photo_of_several_pictures_is_one_and_a_film_of_them_is_a_film(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 48), (c, c, c)) for c in (0, 100, 200)]
    pictures[0].save(tmp_path / "depth.jpg", "MPO", save_all=True, append_images=pictures[1:])
    assert media_kind(tmp_path / "depth.jpg") == "image" and read_image(tmp_path / "depth.jpg").max() < 5
    parts = []
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.jpg")
        parts.append((tmp_path / f"{i}.jpg").read_bytes())
    (tmp_path / "film.jpg").write_bytes(b"".join(parts))
    assert media_kind(tmp_path / "film.jpg") == "video"
    assert [round(f.image.mean(), -1) for f in iter_frames(tmp_path / "film.jpg")] == [0, 100, 200]


def test_media_format(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a", "avif")
    assert media_format(tmp_path / "a") == "avif"


def test_a_recording_of_a_broadcast_may_begin_in_the_middle_of_a_packet(
    tmp_path: Path, counting_frames, write_video
) -> None:
    video = write_video(tmp_path / "a.ts", counting_frames(20))
    video.write_bytes(video.read_bytes()[50:])
    assert media_kind(video) == "video" and len(list(iter_frames(video))) == 20
