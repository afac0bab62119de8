"""Finding faces with both detectors, on a real photograph."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from sficonv.errors import DataError
from sficonv.faces import detectors as detectors_module
from sficonv.faces.detectors import DlibHog, YuNet, create_detector
from sficonv.faces.face import Face, FaceDetector, crop_face


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return YuNet()


@pytest.fixture(scope="module")
def hog() -> FaceDetector:
    pytest.importorskip("dlib", reason="needs the extra [dlib]")
    return DlibHog()


@pytest.fixture(scope="module")
def face(detector: FaceDetector, astronaut: np.ndarray) -> Face:
    return detector(astronaut)[0]


def test_one_face_where_it_is(detector: FaceDetector, astronaut: np.ndarray) -> None:
    (face,) = detector(astronaut)
    x0, y0, x1, y1 = face.box
    assert 160 < x0 < 200 and 50 < y0 < 90 and 250 < x1 < 290 and 170 < y1 < 210
    assert 0.9 < face.score <= 1
    assert face.landmarks.shape == (5, 2) and face.landmarks.dtype == np.float32
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 5.0])
def test_one_face_at_any_size(
    detector: FaceDetector, astronaut: np.ndarray, face: Face, scale: float
) -> None:
    resized = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (found,) = detector(resized)
    assert np.abs(np.array(found.box) / scale - face.box).max() < 12
    assert np.abs(found.landmarks / scale - face.landmarks).max() < 16


@pytest.mark.parametrize("side", [48, 90, 128, 256, 1024])
def test_a_face_that_fills_the_image(
    detector: FaceDetector, astronaut: np.ndarray, face: Face, side: int
) -> None:
    crop, _ = crop_face(astronaut, face, margin=1.0, size=side)
    assert len(detector(crop)) == 1


def test_several_faces_largest_first(detector: FaceDetector, astronaut: np.ndarray) -> None:
    half = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    both = np.full((512, 800, 3), 128, np.uint8)
    both[:256, :256], both[:, 288:] = half, astronaut
    large, small = detector(both)
    assert large.area > 3 * small.area and large.box[0] > 288 > small.box[2]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (300, 400)])
def test_no_face(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert detector(np.full((*shape, 3), 127, np.uint8)) == []


def test_nothing_is_found_in_narrow_images_between_others(astronaut: np.ndarray) -> None:
    detector = YuNet()
    narrow = np.full((1, 640, 3), 127, np.uint8)
    small = cv2.resize(astronaut, (128, 128), interpolation=cv2.INTER_AREA)
    for _ in range(150):  # what was in memory before must not show
        assert detector(small)
        assert detector(narrow) == []


def test_arguments_are_checked(detector: FaceDetector) -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            detector(wrong)
    with pytest.raises(ValueError, match="long_side"):
        YuNet(long_side=8)
    with pytest.raises(ValueError, match="min_score"):
        YuNet(min_score=1.5)


def test_a_missing_or_changed_network_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    detectors_module._yunet.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install"):
        YuNet()
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="is missing"):
        YuNet()
    (tmp_path / "face_detection_yunet_2023mar.onnx").write_bytes(b"something else")
    with pytest.raises(DataError, match="checksum"):
        YuNet()


def test_create_by_name() -> None:
    pytest.importorskip("dlib", reason="needs the extra [dlib]")
    yunet, dlib = create_detector(), create_detector("dlib", min_score=0.5)
    assert isinstance(yunet, YuNet) and yunet.min_score == 0.7
    assert isinstance(dlib, DlibHog) and dlib.min_score == 0.5
    with pytest.raises(ValueError, match="one of yunet, dlib, got 'mtcnn'"):
        create_detector("mtcnn")  # type: ignore[arg-type]


def test_dlib_finds_what_its_own_call_finds(hog: FaceDetector, astronaut: np.ndarray) -> None:
    import dlib

    faces = hog(astronaut)
    boxes = {(b.left(), b.top(), b.right() + 1, b.bottom() + 1) for b in _paper(dlib, astronaut)}
    assert {face.box for face in faces} == boxes and len(boxes) >= 1
    assert [face.area for face in faces] == sorted((face.area for face in faces), reverse=True)
    assert all(face.score > 0 for face in faces)


def _paper(dlib, image: np.ndarray):
    return dlib.get_frontal_face_detector()(image, 1)


def test_dlib_landmarks_agree_with_those_of_yunet(
    hog: FaceDetector, face: Face, astronaut: np.ndarray
) -> None:
    x = (face.box[0] + face.box[2]) / 2
    [found] = [f for f in hog(astronaut) if f.box[0] < x < f.box[2] and f.box[1] < 200]
    assert found.landmarks.shape == (5, 2) and found.landmarks.dtype == np.float32
    eyes = np.hypot(*(face.landmarks[1] - face.landmarks[0]))
    assert np.abs(found.landmarks - face.landmarks).max() < 0.2 * eyes
    assert found.area < face.area


def test_dlib_limits_the_long_side(hog: FaceDetector, astronaut: np.ndarray) -> None:
    [small] = DlibHog(long_side=256, min_score=0.5)(astronaut)
    assert small.box[0] == pytest.approx(175, abs=12) and small.box[2] == pytest.approx(266, abs=12)
    assert small.landmarks[0] == pytest.approx(DlibHog()(astronaut)[0].landmarks[0], abs=8)


def test_dlib_misses_what_is_no_face_and_checks_its_arguments(hog: FaceDetector) -> None:
    assert hog(np.full((90, 120, 3), 127, np.uint8)) == []
    assert hog(np.full((1, 1, 3), 127, np.uint8)) == []
    with pytest.raises(ValueError, match="uint8"):
        hog(np.zeros((4, 4), np.uint8))
    for wrong in ({"upsample": -1}, {"long_side": 1}, {"min_score": -0.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DlibHog(**wrong)  # type: ignore[arg-type]


def test_a_closer_look_straightens_the_landmarks(detector: FaceDetector, astronaut: np.ndarray) -> None:
    def tilt(face: Face) -> float:
        x, y = face.landmarks[1] - face.landmarks[0]
        return float(np.degrees(np.arctan2(-y, x)))

    for degrees in (-30, 30):
        turn = cv2.getRotationMatrix2D((220, 120), degrees, 0.7)
        turned = cv2.warpAffine(astronaut, turn, (440, 400), borderMode=cv2.BORDER_REPLICATE)
        [face] = detector(turned)
        assert detector.refine(turned, face, passes=0) is face
        errors = [abs(tilt(detector.refine(turned, face, passes=n)) - degrees) for n in range(3)]
        assert errors[0] > 22 > 18 > errors[1] and errors[2] < 11, errors
        closer = detector.refine(turned, face)
        assert closer.box == pytest.approx(face.box, abs=8) and closer.box != face.box
        assert detector.refine(turned, face, passes=2).box == closer.box


@pytest.mark.parametrize("detector_name", ["yunet", "dlib"])
def test_the_largest_face_alone(detector_name: str, face: Face, astronaut: np.ndarray) -> None:
    if detector_name == "dlib":
        pytest.importorskip("dlib", reason="needs the extra [dlib]")
    finder = create_detector(detector_name)  # type: ignore[arg-type]
    small = cv2.resize(astronaut[:256, 96:352], (180, 180), interpolation=cv2.INTER_AREA)
    both = np.full((512, 740, 3), 128, np.uint8)
    both[:180, :180], both[:, 228:] = small, astronaut
    largest = finder.largest(both)
    assert largest is not None
    assert largest.box == pytest.approx(finder(both)[0].box, abs=10) and largest.box[0] > 228
    assert finder.largest(np.full((90, 120, 3), 127, np.uint8)) is None


def test_a_small_face_is_found_by_the_whole_search(detector: FaceDetector, astronaut: np.ndarray) -> None:
    tiny = cv2.resize(astronaut[:256, 96:352], (64, 64), interpolation=cv2.INTER_AREA)  # a face of 24 px
    image = np.full((480, 640, 3), 128, np.uint8)
    image[200:264, 300:364] = tiny
    [expected] = detector(image)
    largest = detector.largest(image)
    assert largest is not None and largest.box == pytest.approx(expected.box, abs=5)


def test_a_face_that_is_not_found_again_stays_as_it_is(detector: FaceDetector, face: Face) -> None:
    blank = np.full((512, 512, 3), 127, np.uint8)
    assert detector.refine(blank, face, passes=2) is face


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(DataError, match=r"pip install 'sficonv\[dlib\]'"):
        DlibHog()
