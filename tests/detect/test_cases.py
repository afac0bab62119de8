"""Files that were judged wrongly or not at all once: each gives the verdict of its content, with a note."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sficonv.detect.detector import Detector
from sficonv.detect.results import ScanResult
from sficonv.media.video import iter_frames


@pytest.fixture(scope="module")
def shipped() -> Detector:
    return Detector.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def judged(shared: Path, shipped: Detector) -> Callable[[str], ScanResult]:
    known: dict[str, ScanResult] = {}

    def judge(name: str) -> ScanResult:
        if name not in known:
            known[name] = shipped(shared / "cases" / name)
        return known[name]

    return judge


def text(result: ScanResult) -> str:
    return " | ".join(result.notes)


@pytest.mark.shared
def test_the_second_of_two_joined_recordings_is_judged(judged) -> None:
    result = judged("timestamps-restart/ab.mpg")
    assert result.duration == pytest.approx(8, abs=0.1) and result.frames_sampled == 16
    assert max(face.time for face in result.faces) > 7 and "2 recordings joined" in text(result)
    halves = [[f.p_fake for f in result.faces if (f.time > 4) == late] for late in (False, True)]
    assert np.mean(halves[1]) > np.mean(halves[0]) + 0.2


@pytest.mark.shared
def test_the_stream_with_the_person_is_judged_and_the_other_named(judged) -> None:
    result = judged("two-video-streams/rear_black_first.mkv")
    assert len(result.faces) == 8 and "not judged: 0 (1280 x 720)" in text(result)


@pytest.mark.shared
def test_an_animated_webp_is_judged_as_the_gif_beside_it(judged) -> None:
    gif, webp = (judged(f"animated-images/blank_then_face.{suffix}") for suffix in ("gif", "webp"))
    assert webp.kind == "video" and webp.verdict == gif.verdict
    assert webp.p_fake == pytest.approx(gif.p_fake, abs=0.08)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["bad_crc_ancillary", "photoshop_xmp_2.4MB"])
def test_metadata_does_not_cost_the_verdict(judged, name: str) -> None:
    result = judged(f"png-metadata/{name}.png")
    assert result.p_fake == judged("png-metadata/plain.png").p_fake and result.error is None
    assert "metadata" in text(result)


@pytest.mark.shared
def test_a_mirrored_display_matrix_is_applied(judged, shared: Path, shipped: Detector) -> None:
    """Both files hold the same frames, upside down; only one says so."""
    result, stored = (judged(f"display-matrix/vflip_{name}.mp4") for name in ("matrix", "stored"))
    assert min(face.score for face in result.faces) > 0.9 and "upside down" not in text(result)
    assert "upside down" in text(stored) and len(stored.faces) == len(result.faces) == 8
    frames = iter_frames(shared / "cases/display-matrix/vflip_stored.mp4", every=0.5)
    by_hand = shipped([np.ascontiguousarray(frame.image[::-1]) for frame in frames])
    assert [f.p_fake for f in result.faces] == pytest.approx([r.p_fake for r in by_hand], abs=1e-4)


@pytest.mark.shared
def test_a_small_face_in_a_panorama_is_judged(judged) -> None:
    result = judged("small-faces/panorama_12000x3000_face.jpg")
    (face,) = result.faces  # 166 px from the chin to the hair; the box is narrower
    assert 120 <= face.size <= 175


@pytest.mark.shared
def test_the_pixels_of_a_video_are_shown_square(judged) -> None:
    face = judged("pixel-aspect/sar2_328x480.mp4").faces[0]
    assert (face.box[2] - face.box[0]) / (face.box[3] - face.box[1]) > 0.65


@pytest.mark.shared
def test_a_jpeg_without_its_end_is_judged_with_a_note(judged) -> None:
    result = judged("cut-jpeg/missing_eoi.jpg")
    assert result.p_fake is not None and "its end is missing" in text(result)


def test_a_cut_photograph_is_judged_as_far_as_it_goes(
    detector, tmp_path: Path, astronaut: np.ndarray
) -> None:
    Image.fromarray(astronaut).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 7 // 10])
    result = detector(tmp_path / "a.jpg")
    assert len(result.faces) == 1 and result.verdict != "error"
    assert "of the picture is missing" in text(result) and "damaged or truncated" in result.error
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 20])  # no face is left, which says nothing
    assert detector(tmp_path / "a.jpg").verdict == "error"


def test_one_person_across_a_change_of_frame_size_is_one(detector, tmp_path: Path, astronaut) -> None:
    pages = [Image.fromarray(cv2.resize(astronaut, (side, side))) for side in (300, 300, 700, 700, 420)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    result = detector(tmp_path / "a.tif")
    assert [track.frames for track in result.tracks] == [5]


def test_a_photograph_turned_by_a_quarter_is_turned_back(detector, tmp_path: Path, astronaut) -> None:
    Image.fromarray(astronaut).save(tmp_path / "upright.png")
    Image.fromarray(np.rot90(astronaut)).save(tmp_path / "turned.png")
    upright, turned = detector([tmp_path / "upright.png", tmp_path / "turned.png"])
    assert turned.p_fake == pytest.approx(upright.p_fake, abs=0.05)
    assert "lie on their side" in text(turned) and not upright.notes


def test_no_face_says_which_sizes_were_looked_for(detector, tmp_path: Path) -> None:
    Image.new("RGB", (3000, 800), (90, 90, 90)).save(tmp_path / "a.png")
    result = detector(tmp_path / "a.png")
    assert result.verdict == "no_face" and "no face of about 40 px or more" in text(result)
