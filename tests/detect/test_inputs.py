"""What people hand to a detector: paths, images of Pillow, arrays, tensors, lists of them."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from sficonv.detect.detector import Detector
from sficonv.detect.inputs import images_of
from sficonv.detect.options import ScanOptions
from sficonv.detect.results import ScanResult, ScanResults
from sficonv.detect.scan import scan
from sficonv.errors import WeightsError
from sficonv.models import create_model


@pytest.fixture(scope="module")
def photo(media):
    return np.asarray(Image.open(media / "face.jpg"))


def test_a_photograph_is_the_same_in_every_form(detector, media, photo):
    expected = detector(media / "face.jpg").p_fake
    channels_first = np.ascontiguousarray(photo.transpose(2, 0, 1))
    for form in (
        str(media / "face.jpg"),
        Image.open(media / "face.jpg"),
        photo,
        channels_first,
        torch.from_numpy(channels_first),
        torch.from_numpy(channels_first).float() / 255,
    ):
        result = detector(form)
        assert isinstance(result, ScanResult)
        assert (result.kind, result.p_fake) == ("image", expected)


def test_batches_and_lists_give_a_list_of_results_in_their_order(detector, media, photo):
    nothing = np.zeros_like(photo)
    for batch in (
        np.stack([nothing, photo]),
        torch.from_numpy(np.stack([nothing, photo])).permute(0, 3, 1, 2),
    ):
        results = detector(batch)
        assert [r.verdict == "no_face" for r in results] == [True, False]
        assert [str(r.path) for r in results] == ["image-0", "image-1"]
    mixed = detector([media / "nothing.jpg", Image.fromarray(photo), media / "gone.jpg", photo])
    assert isinstance(mixed, ScanResults)
    assert [str(r.path.name) for r in mixed] == ["nothing.jpg", "image-0", "gone.jpg", "image-1"]
    assert [r.verdict for r in mixed][::2] == ["no_face", "error"]
    assert {r.path.name for r in detector(media)} == {"face.jpg", "nothing.jpg", "clip.mp4"}


def test_scan_takes_images_in_memory_and_a_loaded_detector(detector, photo):
    results = scan([Image.fromarray(photo), photo], detector=detector)
    assert [r.p_fake for r in results] == [detector(photo).p_fake] * 2


def test_results_as_a_table(detector, media, photo):
    table = detector([media / "nothing.jpg", photo]).to_pandas()
    assert list(table["verdict"])[0] == "no_face"
    assert list(table["faces"]) == [0, 1]
    assert ScanResults().to_pandas().empty


def test_images_of_pillow_are_read_as_files_are(tmp_path):
    from sficonv.media.images import read_image

    grey = Image.new("LA", (8, 4), (10, 0))
    turned = Image.new("RGB", (8, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, image in enumerate((grey, turned)):
        image.save(tmp_path / f"{number}.png", exif=exif if number else None)
        again = Image.open(tmp_path / f"{number}.png")
        np.testing.assert_array_equal(images_of(again)[0], read_image(tmp_path / f"{number}.png"))
    assert images_of(again)[0].shape == (8, 4, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((64, 64), np.uint8), r"uint8 \(64, 64\)"),
        (np.zeros((4, 64, 64, 1), np.float32), r"float32 \(4, 64, 64, 1\)"),
        (np.zeros((0, 64, 3), np.uint8), r"uint8 \(0, 64, 3\)"),
        (np.zeros((64, 64, 3), np.int64), r"int64 \(1, 64, 64, 3\)|int64 \(64, 64, 3\)"),
        (np.full((64, 64, 3), 2.5), "from 2.5 to 2.5: pass them as they are before any normalisation"),
        (torch.full((3, 8, 8), -1.0), "from -1 to -1"),
    ],
)
def test_an_array_that_is_no_image_is_named_as_it_was_given(detector, given, said):
    for call in (detector, detector.scores, lambda x: scan(x, detector=detector)):
        with pytest.raises(ValueError, match=said):
            call(given)


@pytest.mark.parametrize("given", [5, None, {"a": 1}, [3.5]])
def test_what_is_no_image_at_all_is_named(detector, given):
    with pytest.raises(TypeError, match="paths, images of Pillow, arrays and tensors"):
        detector(given)


def test_scores_of_arrays_that_may_not_be_written_to_warn_of_nothing(detector, recwarn):
    crops = np.full((2, 64, 64, 3), 51, np.uint8)
    crops.flags.writeable = False
    np.testing.assert_allclose(detector.scores(list(crops)), 0.2, atol=1e-4)
    np.testing.assert_allclose(detector.predict_proba(crops), [[0.8, 0.2]] * 2, atol=1e-4)
    assert not [w for w in recwarn if "writable" in str(w.message)]


def test_anything_that_gives_paths_one_by_one_is_a_list_of_them(detector, media):
    names = {"face.jpg", "nothing.jpg"}
    found = [p for p in media.iterdir() if p.suffix == ".jpg"]
    for given in (
        media.glob("*.jpg"),
        set(found),
        (str(p) for p in found),
        np.array([str(p) for p in found]),
    ):
        assert {r.path.name for r in scan(given, detector=detector)} == names
    (entry,) = [e for e in os.scandir(media) if e.name == "face.jpg"]
    assert detector(entry).path.name == "face.jpg"


def test_an_empty_path_is_not_the_folder_one_is_in(detector):
    with pytest.raises(ValueError, match="an empty path names no file"):
        detector("")


def test_tensors_of_any_floating_type_and_layout(detector, photo):
    tensor = torch.from_numpy(photo.transpose(2, 0, 1).copy()).float() / 255
    expected = detector.scores(tensor)
    np.testing.assert_allclose(detector.scores(tensor.to_sparse()), expected)
    np.testing.assert_allclose(detector.scores(tensor.bfloat16()), expected, atol=0.1)
    with pytest.raises(ValueError, match="holds no values"):
        detector.scores(tensor.to("meta"))


def test_what_looks_like_a_source_and_is_none_says_what_to_do(detector, media):
    with pytest.raises(TypeError, match="is a path: scores takes faces .*; scan judges files"):
        detector.scores(media / "face.jpg")
    with pytest.raises(TypeError, match="not FileIO"), (media / "face.jpg").open("rb", buffering=0) as file:
        detector(file)
    with pytest.raises(ValueError, match=r"uint16 \(8, 8, 3\): divide 16 bits by 65535"):
        detector(np.zeros((8, 8, 3), np.uint16))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("every", "1"), ("every", True), ("max_frames", 2.5), ("max_frames", "3"), ("min_face", float("nan")),
        ("video_stream", "a"), ("video_stream", -1), ("start", "0"), ("end", "1"), ("max_pixels", 1.5),
        ("max_duration", "x"), ("crops", "no"),
    ],
)  # fmt: skip
def test_an_option_of_another_type_is_named(option, value):
    with pytest.raises(ValueError, match=f"{option} must be"):
        ScanOptions(**{option: value})


@pytest.mark.parametrize(
    ("error", "said", "make"),
    [
        (TypeError, "not of NoneType", lambda: Detector(None)),
        (ValueError, "does not say how its input is made", lambda: Detector(torch.nn.Linear(2, 2), {})),
        (
            ValueError,
            "3 classes, a detector needs 2",
            lambda: Detector(create_model("resnet26", num_classes=3)),
        ),
        (ValueError, "call .float", lambda: Detector(create_model("meso_inception4").half())),
        (WeightsError, "card must be an object", lambda: Detector(create_model("meso_inception4"), [])),
        (ValueError, "batch_size must be a whole number", lambda: Detector(batch_size=2.5)),
        (ValueError, "threads must be a whole number", lambda: Detector(threads=0)),
    ],
)
def test_what_is_no_detector_is_refused_when_it_is_made(error, said, make):
    with pytest.raises(error, match=said):
        make()
