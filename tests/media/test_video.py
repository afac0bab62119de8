"""Decoding: the right frame for a time, and honest ends for damaged videos."""

from pathlib import Path

import av
import numpy as np
import pytest

from sficonv.errors import MediaError
from sficonv.media.video import Frame, iter_frames, probe, sample_times


def numbers(frames: list[Frame]) -> list[int]:
    """Which of `counting_frames` these are, seen from their brightness."""
    return [round((float(frame.image.mean()) - 20) / 4) for frame in frames]


def decode_until_error(path: Path, **options: object) -> tuple[list[Frame], MediaError | None]:
    frames: list[Frame] = []
    try:
        for frame in iter_frames(path, **options):  # type: ignore[arg-type]
            frames.append(frame)
    except MediaError as error:
        return frames, error
    return frames, None


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory, counting_frames, write_video) -> Path:
    """40 counting frames at 10 per second, a keyframe at every eighth."""
    path = tmp_path_factory.mktemp("video") / "counted.mp4"
    return write_video(path, counting_frames(40), keyframe_every=8)


def test_probe(counted: Path) -> None:
    info = probe(counted)
    assert (info.width, info.height, info.fps, info.frames, info.rotation) == (64, 48, 10.0, 40, 0)
    assert info.duration == pytest.approx(4.0) and info.path == counted


def test_every_frame_in_order(counted: Path) -> None:
    frames = list(iter_frames(counted))
    assert numbers(frames) == [frame.index for frame in frames] == list(range(40))
    assert [frame.time for frame in frames] == pytest.approx(np.arange(40) / 10)
    assert frames[0].image.shape == (48, 64, 3) and frames[0].image.dtype == np.uint8


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts", "avi"])
@pytest.mark.parametrize("n", [1, 3, 8, 40, 100])
def test_sampled_frames_are_those_on_display(
    tmp_path: Path, counting_frames, write_video, suffix: str, n: int
) -> None:
    path = write_video(tmp_path / f"a.{suffix}", counting_frames(40), keyframe_every=8)
    info = probe(path)
    frames = list(iter_frames(path, times=sample_times(info, n)))
    shown = numbers(frames)
    assert shown == [frame.index for frame in frames] == sorted(set(shown))
    assert len(shown) == min(n, 40)
    assert shown[0] == int(40 * 0.5 / n) and shown[-1] == min(39, int(40 * (1 - 0.5 / n)))


def test_times_in_any_order_outside_and_repeated(counted: Path) -> None:
    frames = list(iter_frames(counted, times=[99.0, 2.05, 0.31, 2.0, -1.0, 0.35]))
    assert numbers(frames) == [0, 3, 20, 39]
    assert list(iter_frames(counted, times=[])) == []


def test_leaving_out_frames_on_the_way_never_changes_a_frame(
    tmp_path: Path, face_frames, write_video
) -> None:
    path = write_video(tmp_path / "a.mp4", face_frames(120))  # one keyframe; two of three frames are B-frames
    whole = list(iter_frames(path))
    for times in ([9.0], [3.0, 6.05, 11.95], [99.0]):
        for frame in iter_frames(path, times=times):
            assert (frame.image == whole[frame.index].image).all()
            assert frame.index == min(119, int(10 * min(times, key=lambda t: abs(t - frame.time)) + 1e-6))
    (first, *_) = iter_frames(path, start=8.0)
    assert first.index == 80 and (first.image == whole[80].image).all()


def test_every_start_end(counted: Path) -> None:
    assert numbers(list(iter_frames(counted, every=0.5))) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert numbers(list(iter_frames(counted, every=1.0, start=0.5, end=2.5))) == [5, 15]
    assert numbers(list(iter_frames(counted, start=1.7, end=2.0))) == [17, 18, 19]
    assert numbers(list(iter_frames(counted, every=0.01, end=0.3))) == [0, 1, 2]


def test_bad_arguments_are_said_at_once(counted: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        iter_frames(counted, times=[0.0], every=1.0)
    with pytest.raises(ValueError, match="positive"):
        iter_frames(counted, every=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        sample_times(probe(counted), 0)


@pytest.mark.parametrize(("degrees", "corner"), [(90, (1, 0)), (180, (1, 1)), (270, (0, 1)), (0, (0, 0))])
def test_rotation_is_applied(tmp_path: Path, write_video, degrees: int, corner: tuple[int, int]) -> None:
    image = np.full((48, 64, 3), 30, np.uint8)
    image[:16, :16] = 220  # the upper left corner of what is stored
    path = write_video(tmp_path / "a.mp4", [image] * 3, rotation=degrees)
    info = probe(path)
    assert (info.width, info.height) == ((48, 64) if degrees % 180 else (64, 48))
    upright = next(iter(iter_frames(path))).image
    assert upright.shape == (info.height, info.width, 3)
    # Turned anticlockwise by the matrix in the file, the bright corner moves to lower left at 90 degrees.
    brightest = [np.s_[:8], np.s_[-8:]]
    assert upright[brightest[corner[0]], brightest[corner[1]]].mean() > 190


def test_variable_frame_rate(tmp_path: Path, counting_frames, write_video) -> None:
    times = [0.0, 0.04, 0.08, 1.0, 1.04, 3.0, 3.04, 3.08, 3.5]
    path = write_video(tmp_path / "a.mp4", counting_frames(9), fps=25, times=times)
    frames = list(iter_frames(path, times=[0.05, 0.9, 2.9, 3.2]))
    assert numbers(frames) == [1, 2, 4, 7]
    everything = list(iter_frames(path))
    assert numbers(everything) == list(range(9))
    assert [frame.time for frame in everything] == pytest.approx(times, abs=0.002)
    index = [frame.index for frame in everything]
    assert index == sorted(set(index))
    # The container counts the length in decoding order, which would leave out the last frame.
    assert probe(path).duration == pytest.approx(3.52, abs=0.03)


@pytest.mark.parametrize(("n", "fps"), [(1, 25), (2, 25), (2, 1), (5, 1)])
def test_very_short_and_very_slow_videos(
    tmp_path: Path, counting_frames, write_video, n: int, fps: int
) -> None:
    path = write_video(tmp_path / "a.mp4", counting_frames(n), fps=fps)
    assert numbers(list(iter_frames(path, times=sample_times(probe(path), 32)))) == list(range(n))


def test_length_missing_in_the_container(tmp_path: Path, counting_frames) -> None:
    path = tmp_path / "live.mkv"
    with av.open(str(path), "w", format="matroska", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in counting_frames(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    info = probe(path)
    assert info.duration == pytest.approx(2.0, abs=0.11) and info.frames in (20, 21)
    assert numbers(list(iter_frames(path, times=sample_times(info, 4)))) == [2, 7, 12, 17]


def test_animated_gif(tmp_path: Path) -> None:
    from PIL import Image

    frames = [Image.new("L", (64, 48), 20 + 80 * i) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    shown = list(iter_frames(tmp_path / "a.gif", times=sample_times(probe(tmp_path / "a.gif"), 8)))
    assert [round(float(frame.image.mean()), -1) for frame in shown] == [20, 100, 180]


def test_no_video_stream(sound_only: Path) -> None:
    for read in (probe, lambda path: list(iter_frames(path))):
        with pytest.raises(MediaError, match=r"sound\.mp4: there is no video stream"):
            read(sound_only)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"a text\n" * 200, "text"), (b"\0\0\0\x18ftypisom" + b"x" * 99, "cannot be opened")],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=rf"a\.mp4: .*{message}"):
        probe(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match=message):
        list(iter_frames(tmp_path / "a.mp4"))


def test_missing_and_image(tmp_path: Path) -> None:
    from PIL import Image

    with pytest.raises(MediaError, match="no such file"):
        list(iter_frames(tmp_path / "missing.mp4"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.mp4", "png")
    with pytest.raises(MediaError, match="an image, not a video"):
        probe(tmp_path / "a.mp4")


def test_truncated_without_index_cannot_be_opened(counted: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(counted.read_bytes()[: counted.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"cut\.mp4: damaged or truncated"):
        probe(cut)


@pytest.mark.parametrize("form", ["index_first", "fragmented"])
def test_truncated_gives_what_there_is_and_then_says_so(
    tmp_path: Path, face_frames, write_video, form: str
) -> None:
    whole = write_video(tmp_path / "whole.mp4", face_frames(60), keyframe_every=10, **{form: True})
    expected, error = decode_until_error(whole)
    assert len(expected) == 60 and error is None
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    frames, error = decode_until_error(cut)
    assert 25 <= len(frames) <= 40
    assert all((a.image == b.image).all() for a, b in zip(frames, expected, strict=False))
    assert "damaged or truncated: decoded 3." in str(error)
    if form == "fragmented":  # names no length: 4 s is how far the fragments reach, the last one broken
        assert len(frames) == 30 and "of 4.0 s, 1 damaged piece left out" in str(error)
    else:
        assert "of 6.0 s" in str(error)
        times = sample_times(probe(cut), 12)
        sampled, error = decode_until_error(cut, times=times)
        assert len(sampled) == sum(time <= frames[-1].time for time in times) and "decoded 3." in str(error)
        sampled, error = decode_until_error(cut, times=[0.5, 1.5])
        assert len(sampled) == 2 and error is None


def test_damaged_in_the_middle(tmp_path: Path, face_frames, write_video) -> None:
    path = write_video(tmp_path / "a.mp4", face_frames(60), keyframe_every=10, index_first=True)
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : third + 3000] = bytes(3000)
    path.write_bytes(bytes(data))
    frames, error = decode_until_error(path)
    assert 30 <= len(frames) < 60 and frames[-1].index == 59
    assert error is not None and "damaged" in str(error)


def test_frames_that_grow_past_the_limit_are_not_decoded(tmp_path: Path, write_video, monkeypatch) -> None:
    parts = []
    for side in (64, 256):
        frames = [np.full((side, side, 3), 40 + 5 * i, np.uint8) for i in range(12)]
        parts.append(write_video(tmp_path / f"{side}.h264", frames).read_bytes())
    bomb = tmp_path / "bomb.h264"
    bomb.write_bytes(b"".join(parts))
    monkeypatch.setattr("sficonv.media.container.MAX_PIXELS", 100 * 100)
    frames, error = decode_until_error(bomb)
    assert {frame.image.shape for frame in frames} == {(64, 64, 3)}
    assert "damaged" in str(error)


def test_nothing_stays_open(counted: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files can be counted on Linux only")
    before = len(list(descriptors.iterdir()))
    for _ in range(3):
        frames = iter_frames(counted)
        next(frames)
        frames.close()  # type: ignore[attr-defined]
        probe(counted)
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.shared
def test_jumping_never_changes_a_frame(shared: Path) -> None:
    # The headers of this video change on the way: decoding from its second keyframe gives rubbish.
    path = shared / "data/ffpp/original_sequences/youtube/c40/videos/253.mp4"
    whole = {frame.index: frame.image for frame in iter_frames(path, end=9.5)}
    jumped = list(iter_frames(path, times=[9.0, 9.4]))
    assert len(jumped) == 2
    assert all((frame.image == whole[frame.index]).all() for frame in jumped)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_time_counts_from_the_first_frame_however_late(
    tmp_path: Path, counting_frames, write_video, suffix: str
) -> None:
    """A piece cut out of a longer recording may keep its times."""
    times = [100 + i / 10 for i in range(20)]
    video = write_video(tmp_path / f"a.{suffix}", counting_frames(20), times=times)
    info = probe(video)
    assert info.duration == pytest.approx(2, abs=0.1)
    sampled = list(iter_frames(video, times=sample_times(info, 4)))
    assert [frame.time for frame in sampled] == pytest.approx([0.2, 0.7, 1.2, 1.7], abs=0.06)


def test_a_video_shorter_than_any_step_shows_a_frame(tmp_path: Path, counting_frames, write_video) -> None:
    video = tmp_path / "a.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=1_000_000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in counting_frames(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    assert len(list(iter_frames(video, every=0.5))) == 1


def test_the_length_of_a_bare_stream_is_counted_and_not_guessed(tmp_path: Path, counting_frames) -> None:
    video = tmp_path / "a.m1v"
    with av.open(str(video), "w", format="mpeg1video") as container:
        stream = container.add_stream("mpeg1video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in counting_frames(50):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    assert probe(video).duration == pytest.approx(2, abs=0.1)
