"""Files that hold more than one recording or stream, and nothing of it is lost silently."""

from pathlib import Path

import av
import numpy as np
import pytest

from sficonv.errors import MediaError
from sficonv.media.container import open_container
from sficonv.media.video import iter_frames, probe, sample_times

CODECS = {"mpg": "mpeg1video", "vob": "mpeg2video", "webm": "libvpx", "avi": "mpeg4", "gif": "gif"}


def recording(path: Path, levels: list[int], *, fps: int = 25, size: tuple[int, int] = (64, 48)) -> Path:
    codec = CODECS.get(path.suffix[1:], "libx264")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for level in levels:
            image = np.full((size[1], size[0], 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["mpg", "vob", "ts", "m2ts", "mkv", "webm", "avi"])
def test_joined_recordings_are_seen_to_their_end(tmp_path: Path, suffix: str) -> None:
    first = recording(tmp_path / f"a.{suffix}", [40] * 30)
    second = recording(tmp_path / f"b.{suffix}", [200] * 50)
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    frames = list(iter_frames(both))
    assert len(frames) == 80
    times = [frame.time for frame in frames]
    assert np.diff(times) == pytest.approx(np.full(79, 0.04), abs=0.03)
    info = probe(both)
    assert info.duration == pytest.approx(3.2, abs=0.1)
    assert [f.image.mean() > 120 for f in frames] == [False] * 30 + [True] * 50
    sampled = list(iter_frames(both, times=sample_times(info, 16)))
    assert [f.image.mean() > 120 for f in sampled] == [False] * 6 + [True] * 10
    if suffix != "avi":  # has no times that could start again
        assert "2 recordings joined" in info.notes[0]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "flv", "asf"])
def test_a_second_recording_that_no_player_shows_is_named(tmp_path: Path, suffix: str) -> None:
    first = recording(tmp_path / f"a.{suffix}", [40] * 12)
    assert probe(first).notes == ()
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(first.read_bytes() * 2)
    assert "second recording" in probe(both).notes[0]


def test_a_recording_of_its_own_goes_on_without_a_seam(tmp_path: Path) -> None:
    for suffix in ("ts", "mpg", "mkv", "flv", "mp4"):
        assert probe(recording(tmp_path / f"a.{suffix}", [40] * 30)).notes == ()


def two_streams(path: Path, default: int | None) -> Path:
    """Number 0 is small and dark, number 1 large and bright; they may be flagged."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, (width, level) in enumerate(((64, 20), (128, 220))):
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
            if default is not None:
                stream.disposition = av.stream.Disposition.default if number == default else 0
            streams.append((stream, level))
        for _ in range(8):
            for stream, level in streams:
                image = np.full((48, stream.width, 3), level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream, _ in streams:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("default", "width"), [(0, 64), (1, 128)])
def test_of_several_streams_the_default_one_is_taken_and_the_other_named(
    tmp_path: Path, default: int, width: int
) -> None:
    path = two_streams(tmp_path / "a.mkv", default)
    info = probe(path)
    assert info.width == width and f"not judged: {1 - default} (" in info.notes[0]
    assert next(iter(iter_frames(path))).image.shape[1] == width
    assert probe(path, stream=1 - default).width == 192 - width
    with pytest.raises(MediaError, match="no video stream 7; it has 2"):
        probe(path, stream=7)


def test_without_a_flag_the_largest_stream_is_taken(tmp_path: Path) -> None:
    assert probe(two_streams(tmp_path / "a.ts", None)).width == 128


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n"),
        ("a.mkv", "ffconcat version 1.0\nfile '{other}'\n"),
        ("a.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\nc=IN IP4 127.0.0.1\n"),
    ],
)
def test_no_file_makes_ffmpeg_open_another(tmp_path: Path, name: str, content: str) -> None:
    other = recording(tmp_path / "other.mp4", [200] * 5)
    crafted = tmp_path / name
    crafted.write_text(content.format(other=other))
    with pytest.raises(MediaError, match="cannot be opened"):
        open_container(str(crafted)).close()  # even where the look at its content is left out
    with pytest.raises(MediaError, match="the file is text"):
        probe(crafted)


def test_every_video_is_opened_in_one_place() -> None:
    source = Path(__file__).resolve().parents[2] / "src"
    opening = [
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        for line in path.read_text().splitlines()
        if "av.open(" in line and '"w"' not in line
    ]
    assert opening == ["sficonv/media/container.py"]


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_third_recording_that_ffmpeg_does_not_reach_is_named(tmp_path: Path, suffix: str) -> None:
    one = recording(tmp_path / f"a.{suffix}", [40] * 12).read_bytes()
    (tmp_path / f"two.{suffix}").write_bytes(one * 2)
    (tmp_path / f"three.{suffix}").write_bytes(one * 3)
    assert "not judged" not in " ".join(probe(tmp_path / f"two.{suffix}").notes)
    assert "further recording lies behind them" in probe(tmp_path / f"three.{suffix}").notes[1]


def test_a_second_recording_behind_a_gap_is_seen(tmp_path: Path) -> None:
    one = recording(tmp_path / "a.mkv", [40] * 12).read_bytes()
    (tmp_path / "b.mkv").write_bytes(one + bytes(5000) + one)
    frames = list(iter_frames(tmp_path / "b.mkv"))
    assert len(frames) == 24 and frames[-1].time == pytest.approx(23 / 25, abs=0.05)
    assert probe(tmp_path / "b.mkv").duration == pytest.approx(24 / 25, abs=0.05)


def test_the_frames_of_joined_avi_files_are_counted(tmp_path: Path) -> None:
    one = recording(tmp_path / "a.avi", [40] * 12).read_bytes()
    (tmp_path / "a.avi").write_bytes(one * 3)
    assert probe(tmp_path / "a.avi").frames == 36


def test_a_single_frame_beside_a_film_is_its_preview(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        streams = [container.add_stream(codec, rate=10) for codec in ("mjpeg", "libx264")]
        for stream, side, pixels in zip(streams, (128, 64), ("yuvj420p", "yuv420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = side, side, pixels
        for stream, frames in zip(streams, (1, 12), strict=True):
            image = np.full((stream.height, stream.width, 3), 90, np.uint8)
            for _ in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    info = probe(tmp_path / "a.mp4")
    assert info.width == 64 and "not judged: 0 (128 x 128)" in info.notes[0]
