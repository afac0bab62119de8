"""Frames as a player shows them: mirrored, with square pixels; and what cannot be shown as it should."""

from pathlib import Path

import av
import numpy as np
import pytest

from sficonv.media.video import iter_frames, probe


def video(path: Path, image: np.ndarray, **set_on_stream: object) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "5"}
        for name, value in set_on_stream.items():
            if name == "matrix":
                stream.set_display_matrix(*value) if isinstance(value, tuple) else value(stream)
            else:
                setattr(stream.codec_context, name, value)
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def mark(image: np.ndarray) -> tuple[str, str]:
    """Where the bright corner is."""
    rows, columns = np.nonzero(image.mean(axis=2) > 150)
    height, width = image.shape[:2]
    return (
        "top" if rows.mean() < height / 2 else "bottom",
        "left" if columns.mean() < width / 2 else "right",
    )


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "corner", "shape"),
    [
        (1, 0, 0, -1, ("bottom", "left"), (48, 64)),
        (-1, 0, 0, 1, ("top", "right"), (48, 64)),
        (-1, 0, 0, -1, ("bottom", "right"), (48, 64)),
        (0, 1, 1, 0, ("top", "left"), (64, 48)),
        (0, -1, -1, 0, ("bottom", "right"), (64, 48)),
        (0, 1, -1, 0, ("top", "right"), (64, 48)),
    ],
)
def test_mirrors_in_the_display_matrix_are_applied(
    tmp_path: Path, a: int, b: int, c: int, d: int, corner: tuple[str, str], shape: tuple[int, int]
) -> None:
    image = np.full((48, 64, 3), 30, np.uint8)
    image[:16, :16] = 220
    path = video(tmp_path / "a.mp4", image)
    data = bytearray(path.read_bytes())
    identity = b"".join(v.to_bytes(4, "big") for v in (1 << 16, 0, 0, 0, 1 << 16, 0))
    at = data.rindex(identity)  # that of the track; that of the film stands before it
    values = (a << 16, b << 16, 0, c << 16, d << 16, 0)
    data[at : at + 24] = b"".join(v.to_bytes(4, "big", signed=True) for v in values)
    path.write_bytes(bytes(data))
    info = probe(path)
    frame = next(iter(iter_frames(path)))
    assert frame.image.shape[:2] == (info.height, info.width) == shape
    assert mark(frame.image) == corner


@pytest.mark.parametrize(("ratio", "size"), [("2:1", (128, 48)), ("1:2", (64, 96)), ("1:1", (64, 48))])
def test_pixels_are_shown_square(tmp_path: Path, ratio: str, size: tuple[int, int]) -> None:
    from fractions import Fraction

    image = np.full((48, 64, 3), 30, np.uint8)
    path = video(tmp_path / "a.mp4", image, sample_aspect_ratio=Fraction(ratio.replace(":", "/")))
    info = probe(path)
    assert (info.width, info.height) == size
    assert next(iter(iter_frames(path))).image.shape[1::-1] == size


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_said(tmp_path: Path, transfer: int, name: str) -> None:
    path = video(tmp_path / "a.mp4", np.full((48, 64, 3), 90, np.uint8), color_trc=transfer)
    assert f"high dynamic range ({name})" in probe(path).notes[0]


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    image = np.full((48, 64, 4), (200, 30, 30, 255), np.uint8)
    image[:, 32:, 3] = 0
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgba"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgba")))
        container.mux(stream.encode())
    shown = next(iter_frames(tmp_path / "a.mov")).image
    assert shown[5, 5].tolist() == [200, 30, 30] and shown[5, 60].tolist() == [255, 255, 255]


def test_transparency_that_is_not_decoded_is_said(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 4), np.uint8), format="rgba")
        container.mux(stream.encode(frame.reformat(format="yuva420p")))
        container.mux(stream.encode())
    assert "transparent" in probe(tmp_path / "a.webm").notes[0]
