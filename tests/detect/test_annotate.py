import av
import numpy as np
import pytest
from PIL import Image

from sficonv.detect.annotate import FAKE, REAL, AnnotatedCopies, annotate
from sficonv.detect.reading import SourceFile
from sficonv.detect.results import FaceScore, ScanResult, TrackScore
from sficonv.detect.scan import iter_scan, scan


def pixels(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def near(colour, wanted):
    return np.abs(np.asarray(colour, int) - wanted).max() < 60  # H.264 keeps half the resolution of colour


def result(path, kind, *scores):
    faces = tuple(
        FaceScore(n, n * 1.0, (20.0 + 10 * n, 60.0, 120.0 + 10 * n, 160.0), 0.9, 100.0, p, 0)
        for n, p in enumerate(scores)
    )
    track = TrackScore(0, max(scores), len(scores), 0.0, faces[-1].time, True)
    return ScanResult(
        path, kind, max(scores), "fake", faces=faces, tracks=(track,), frames_sampled=len(faces)
    )


def test_an_image(tmp_path):
    Image.new("RGB", (200, 200), "black").save(tmp_path / "a.png")
    out = annotate(result(tmp_path / "a.png", "image", 0.9), tmp_path / "out.png", band=(0.4, 0.6))
    image = np.asarray(Image.open(out))
    assert near(image[159, 70], FAKE)
    assert image[100, 70].max() == 0


def test_a_video_keeps_its_length_and_moves_its_boxes(tmp_path, media):
    from sficonv.media.video import probe

    info = probe(media / "clip.mp4")
    out = annotate(result(media / "clip.mp4", "video", 0.0, 1.0, 0.0), tmp_path / "out.mp4", band=(0.4, 0.6))
    copy = probe(out)
    assert (copy.frames, copy.width, copy.height) == (info.frames, info.width, info.height)
    assert copy.duration == pytest.approx(info.duration, abs=2 / info.fps)
    frames = pixels(out)
    first, middle = frames[0], frames[round(0.5 * info.fps)]
    assert near(first[159, 70], REAL)
    assert near(frames[round(info.fps)][159, 80], FAKE)
    assert not near(first[159, 122], REAL)  # the box has moved five pixels half-way to the next sample
    assert np.abs(middle[159, 122].astype(int) - first[159, 122]).max() > 20


def test_from_a_scan(detector, media, tmp_path):
    (found,) = iter_scan(media / "clip.mp4", detector=detector)
    before, after = (
        pixels(media / "clip.mp4")[5],
        pixels(annotate(found, tmp_path / "a.mp4", band=(0.1, 0.2)))[5],
    )
    x0, y0, x1, y1 = (round(edge) for edge in found.faces[0].box)
    changed = np.abs(before.astype(int) - after).max(axis=2) > 60
    assert changed[y0 : y0 + 4, x0:x1].mean() > 0.5
    assert changed[(y0 + y1) // 2, (x0 + x1) // 2] == 0


@pytest.mark.parametrize(
    ("target", "files", "word"),
    [
        ("a.mp4", ["face.jpg", "clip.mp4"], "folder"),
        ("a.mp4", ["face.jpg"], "image"),
        ("a.png", ["clip.mp4"], "video"),
    ],
)
def test_names_that_do_not_fit_are_refused_before_the_work(media, target, files, word):
    with pytest.raises(ValueError, match=word):
        AnnotatedCopies(target, [SourceFile(media / name) for name in files])


def test_a_file_is_not_overwritten_by_its_copy(media, detector):
    (found,) = iter_scan(media / "face.jpg", detector=detector)
    with pytest.raises(ValueError, match="overwrite"):
        annotate(found, media / "face.jpg", band=(0.4, 0.6))


def test_a_folder_of_copies(media, tmp_path):
    scan([media / "face.jpg", media / "nothing.jpg", tmp_path / "gone.mp4"], annotate=tmp_path / "copies")
    assert sorted(p.name for p in (tmp_path / "copies").iterdir()) == [
        "face_annotated.png",
        "nothing_annotated.png",
    ]
