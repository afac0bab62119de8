import csv
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from sficonv.detect.demo import write_video
from sficonv.detect.reading import FoundFace, SourceFile, sharpness
from sficonv.detect.results import Evidence, FaceScore, ScanResult
from sficonv.detect.scan import iter_scan, scan
from sficonv.detect.scanning import _File
from sficonv.detect.tables import append_csv, reserved
from sficonv.errors import WeightsError
from sficonv.pages import printable


def grey(path, level, size=64):
    """Rows a little brighter and darker in turn: a flat image would be a face blurred beyond use."""
    image = np.full((size, size, 3), level, np.uint8)
    image[::2] += 4
    image[1::2] -= 4
    Image.fromarray(image).save(path)
    return path


def one(detector, path, **options):
    (result,) = iter_scan(path, detector=detector, **options)
    return result


def test_a_photograph(detector, media):
    result = one(detector, media / "face.jpg")
    assert (result.kind, result.error, result.frames_sampled) == ("image", None, 1)
    (face,) = result.faces
    assert result.p_fake == face.p_fake
    assert result.verdict == detector.verdict(face.p_fake)
    assert 150 < (face.box[0] + face.box[2]) / 2 < 280  # where the face is in this photograph


def test_a_video_is_one_person_over_time(detector, media):
    shares = []
    result = one(detector, media / "clip.mp4", on_progress=lambda path, share: shares.append(share))
    assert result.kind == "video"
    assert 8 <= result.frames_sampled <= 9
    assert result.duration == pytest.approx(4, abs=0.1)
    assert len(result.tracks) == 1
    assert [f.track for f in result.faces] == [0] * len(result.faces)
    assert np.diff([f.time for f in result.faces]) == pytest.approx(0.5, abs=0.05)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_max_frames_spreads_over_the_whole_video_and_says_so(detector, media):
    result = one(detector, media / "clip.mp4", every=0.1, max_frames=4)
    assert result.frames_sampled == 4
    assert result.faces[-1].time > 3
    assert "a shorter forged passage may be missed" in result.notes[0]


def test_no_face_is_a_verdict_of_its_own(detector, media):
    result = one(detector, media / "nothing.jpg")
    assert (result.verdict, result.p_fake, result.error) == ("no_face", None, None)


def test_crops_are_judged_whole(detector, tmp_path):
    grey(tmp_path / "a.png", 25), grey(tmp_path / "b.png", 230)
    first, second = iter_scan(tmp_path, detector=detector, crops=True)
    assert (first.verdict, second.verdict) == ("real", "fake")
    assert first.p_fake == pytest.approx(25 / 255, abs=1e-3)
    assert first.faces[0].box == (0, 0, 64, 64)


def test_order_is_kept_and_batches_span_files(detector, tmp_path):
    levels = [int(level) for level in np.random.default_rng(0).permutation(range(10, 240, 10))]
    paths = [grey(tmp_path / f"{i}.png", level) for i, level in enumerate(levels)]
    paths.insert(5, tmp_path / "missing.png")
    detector.batch_size = 4
    results = list(iter_scan(paths, detector=detector, crops=True))
    assert [r.path for r in results] == paths
    assert detector.torch.model.batches == [4, 4, 4, 4, 4, 3]
    scores = [r.p_fake for r in results if r.p_fake is not None]
    np.testing.assert_allclose(scores, np.array(levels) / 255, atol=1e-3)


def test_results_come_before_the_last_file_is_read(detector, tmp_path):
    paths = [grey(tmp_path / f"{i}.png", 99) for i in range(20)]
    detector.batch_size = 4
    found = iter_scan(paths, detector=detector, crops=True)
    next(found)
    assert sum(detector.torch.model.batches) == 4


def test_a_small_face_leaves_the_verdict_open(detector, tmp_path):
    grey(tmp_path / "small.png", 250, size=20)
    result = one(detector, tmp_path / "small.png", crops=True)
    assert result.verdict == "uncertain"
    assert result.p_fake > 0.9
    assert "smaller than 40 px" in result.notes[0]


def test_a_bad_file_costs_only_its_own_verdict(detector, tmp_path, media):
    (tmp_path / "text.jpg").write_text("not a picture")
    results = list(
        iter_scan([tmp_path / "text.jpg", tmp_path / "gone.png", media / "face.jpg"], detector=detector)
    )
    assert [r.verdict for r in results[:2]] == ["error", "error"]
    assert "gone.png" in results[1].error
    assert results[2].p_fake is not None


def test_an_unforeseen_failure_is_an_error_of_that_file(detector, media, monkeypatch):
    import sficonv.media.images

    monkeypatch.setattr(sficonv.media.images, "read_picture", lambda path, **limits: 1 / 0)
    result = one(detector, media / "face.jpg")
    assert result.verdict == "error"
    assert "ZeroDivisionError" in result.error


def test_a_damaged_video_has_a_verdict_and_an_error(detector, media, tmp_path):
    whole = (media / "clip.mp4").read_bytes()
    import av

    fast = tmp_path / "fast.mp4"  # with its index at the front, as on the web, half a file can be decoded
    with (
        av.open(str(media / "clip.mp4")) as source,
        av.open(str(fast), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    (tmp_path / "half.mp4").write_bytes(fast.read_bytes()[: len(whole) // 2])
    result = one(detector, tmp_path / "half.mp4")
    assert result.p_fake == pytest.approx(one(detector, media / "clip.mp4").p_fake, abs=0.02)
    assert result.verdict == detector.verdict(result.p_fake)
    assert "half.mp4" in result.error
    assert 0 < result.frames_sampled < 8
    assert any("damaged" in note for note in result.notes)

    (tmp_path / "no_index.mp4").write_bytes(whole[: len(whole) // 2])
    result = one(detector, tmp_path / "no_index.mp4")
    assert (result.verdict, result.p_fake) == ("error", None)


def test_an_empty_folder_is_not_silently_nothing(detector, tmp_path):
    result = one(detector, tmp_path)
    assert result.verdict == "error"
    assert "no images or videos" in result.error


def test_a_file_asked_for_twice_is_judged_once(detector, media):
    assert len(list(iter_scan([media / "face.jpg", media], detector=detector))) == 3


def test_two_people_in_a_video(detector, tmp_path):
    photo = astronaut()[:256, 100:420]
    dark = (photo * 0.4).astype(np.uint8)
    write_video(tmp_path / "two.mp4", iter([np.hstack([photo, dark])] * 30), fps=10)
    result = one(detector, tmp_path / "two.mp4")
    assert len(result.tracks) == 2
    assert result.tracks[0].p_fake > result.tracks[1].p_fake
    assert result.p_fake == result.tracks[0].p_fake
    assert any("2 people" in note for note in result.notes)


@pytest.mark.parametrize(
    "option",
    [{"every": 0}, {"every": float("nan")}, {"max_frames": 0}, {"min_face": -1}, {"start": -1}, {"end": 0}],
)
def test_options_that_make_no_sense(detector, media, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        iter_scan(media, detector=detector, **option)


@pytest.mark.parametrize("name", ["report.jpg", "report", ""])
def test_a_report_cannot_overwrite_a_photograph(media, name):
    with pytest.raises(ValueError, match=r"\.html"):
        scan(media, report=media / name)


def test_a_report_that_cannot_be_written_is_found_out_before_the_work(media, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        scan(media, detector=tmp_path / "never-looked-at", report=tmp_path / "file" / "a.html")
    with pytest.raises(WeightsError, match="missing.safetensors: no such weights file"):
        scan(media, detector=tmp_path / "missing.safetensors", report=tmp_path / "new" / "a.html")
    assert list((tmp_path / "new").iterdir()) == []


def test_what_was_there_survives_a_failure(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(KeyError), reserved(tmp_path / "a.csv"):
        raise KeyError
    assert (tmp_path / "a.csv").read_text() == "old"


def test_evidence_is_bounded_and_the_strongest(detector):
    file = _File(SourceFile(Path("a.mp4")))
    found = FoundFace(np.zeros((2, 2, 3), np.uint8), None, 0, 0, (0, 0, 9, 9), 1, 1, 0)
    for i, p in enumerate(np.random.default_rng(0).permutation(100) / 100):
        file.faces.append(FaceScore(i, i, (0, 0, 9, 9), 1, 1, float(p), track=i % 10))
        file.keep(found)
    kept = [file.faces[e.face] for e in file.evidence]
    assert len(kept) == 12
    assert kept[0].p_fake == 0.99
    assert max(sum(f.track == t for f in kept) for t in range(10)) <= 3


def test_without_evidence_no_crop_is_kept(detector, media):
    assert one(detector, media / "face.jpg").evidence == ()
    (evidence,) = one(detector, media / "face.jpg", evidence=True).evidence
    assert isinstance(evidence, Evidence)
    assert evidence.crop.shape == (256, 256, 3)
    assert evidence.points.shape == (5, 2)
    assert 0.2 < evidence.points.min() < evidence.points.max() < 0.8


def test_large_crops_do_not_pile_up(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("sficonv.detect.scanning"), "QUEUE_BYTES", 2.5 * 600 * 600 * 3)
    paths = [grey(tmp_path / f"{i}.png", 40 * i, size=600) for i in range(5)]
    results = list(iter_scan(paths, detector=detector, crops=True, evidence=True))
    assert detector.torch.model.batches == [3, 2]
    assert [r.evidence[0].crop.shape for r in results] == [(512, 512, 3)] * 5
    assert results[4].faces[0].box == (0, 0, 600, 600)


def test_sharpness_tells_a_blur(media):
    import cv2

    face = astronaut()[50:220, 150:320]
    assert sharpness(face) > 20
    assert sharpness(cv2.GaussianBlur(face, (0, 0), 4)) < 4


def test_the_share_of_a_video_that_was_judged(detector, media, tmp_path):
    photo = astronaut()[:256, 100:420]
    empty = np.full_like(photo, 90)
    write_video(tmp_path / "half.mp4", iter([photo] * 20 + [empty] * 20), fps=10)
    result = one(detector, tmp_path / "half.mp4")
    assert result.judged_share == 0.5
    assert result.to_dict()["judged_share"] == round(result.judged_share, 3)
    assert one(detector, media / "nothing.jpg").judged_share == 0
    assert one(detector, tmp_path / "gone.mp4").judged_share is None


def test_to_dict_is_json_with_the_promised_fields(detector, media):
    found = json.loads(json.dumps([r.to_dict() for r in iter_scan(media, detector=detector)]))
    assert [r["kind"] for r in found] == ["video", "image", "image"]
    judged = [detector.verdict(r["p_fake"]) for r in found[:2]]
    assert [r["verdict"] for r in found] == [*judged, "no_face"]
    for result in found:
        assert {"path", "kind", "p_fake", "verdict", "error"} <= result.keys()


def test_start_and_end_bound_what_is_decoded(detector, media):
    whole = one(detector, media / "clip.mp4", every=0.1)
    part = one(detector, media / "clip.mp4", every=0.1, start=0.3, end=0.6)
    assert whole.frames_sampled > part.frames_sampled == 3
    assert [round(f.time, 1) for f in part.faces] == [0.3, 0.4, 0.5]
    few = one(detector, media / "clip.mp4", every=0.1, start=0.3, end=0.7, max_frames=2)
    assert [round(f.time, 1) for f in few.faces] == [0.4, 0.6]


def test_a_start_behind_the_end_of_the_video_is_an_error_of_that_file(detector, media):
    result = one(detector, media / "clip.mp4", start=100)
    assert result.verdict == "error"
    assert "start lies at 100 s" in result.error


def test_limits_are_checked_before_the_frames(detector, media):
    assert "longer than the limit" in one(detector, media / "clip.mp4", max_duration=0.1).error
    for name in ("clip.mp4", "face.jpg"):
        error = one(detector, media / name, max_pixels=100).error
        assert "more than the limit of 100" in error
        assert "scan --max-pixels, serve --max-megapixels" in error  # options that there are


def test_a_name_can_stand_for_the_path(tmp_path):
    result = ScanResult(
        Path("/secret/0a1b"), None, None, "error", error="/secret/0a1b: empty", shown_as="a.jpg"
    )
    assert result.to_dict()["path"] == "a.jpg"
    assert result.to_dict()["error"] == "a.jpg: empty"
    assert list(append_csv([result], tmp_path / "a.csv")) == [result]
    assert "secret" not in (tmp_path / "a.csv").read_text()


def test_csv_cells_are_no_formulas(detector, tmp_path, media):
    results = [ScanResult("=cmd()|x.jpg", "image", 0.25, "real"), one(detector, media / "clip.mp4")]
    assert list(append_csv(results, tmp_path / "a.csv")) == results
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert rows[0]["path"] == "./=cmd()|x.jpg"
    assert rows[0]["p_fake"] == "0.25"
    assert (rows[1]["kind"], rows[1]["people"]) == ("video", "1")


def test_names_cannot_drive_a_terminal():
    assert printable("a\x1b[2J\n\udcff.jpg") == r"a\x1b[2J\n\udcff.jpg"
