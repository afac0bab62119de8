import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from skimage.data import astronaut

from sficonv.detect.demo import DemoCase, DemoResult, demo, forge, pan, write_video
from sficonv.detect.results import ScanResult
from sficonv.errors import SficonvError


def test_the_forgery_is_a_blend_of_the_face_alone():
    photo = astronaut()
    forged = forge(photo)
    changed = np.abs(forged.astype(int) - photo).max(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed.max() > 8
    assert 0.005 < (changed > 0).mean() < 0.15
    assert rows.min() > 40 and rows.max() < 260
    assert columns.min() > 130 and columns.max() < 330
    np.testing.assert_array_equal(forge(photo), forged)


def test_without_a_face_there_is_nothing_to_forge():
    with pytest.raises(SficonvError, match="no face"):
        forge(np.full((200, 200, 3), 80, np.uint8))


def test_the_video_is_real_h264(tmp_path):
    write_video(tmp_path / "a.mp4", pan(astronaut()))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, stream.frames) == (640, 480, 100)


def case(truth, verdict):
    return DemoCase(truth, ScanResult(Path("a.png"), "image", None, verdict))


@pytest.mark.parametrize(
    ("truth", "verdict", "outcome"),
    [
        ("real", "real", "right"),
        ("real", "fake", "wrong"),
        ("real", "uncertain", "undecided"),
        ("fake", "fake", "right"),
        ("fake", "real", "wrong"),
        ("fake", "no_face", "undecided"),
        ("fake", "error", "undecided"),
    ],
)
def test_the_outcome_of_a_verdict(truth, verdict, outcome):
    assert case(truth, verdict).outcome == outcome


def test_only_right_verdicts_count():
    cases = (case("real", "real"), case("real", "uncertain"), case("fake", "fake"), case("fake", "real"))
    assert DemoResult(cases, Path("report.html")).right == 2


def test_it_says_which_forgeries_were_caught_and_which_were_missed():
    def named(name, truth, verdict):
        return DemoCase(truth, ScanResult(Path(name), "image", None, verdict))

    cases = (named("a", "fake", "fake"), named("b", "fake", "real"), named("c", "real", "fake"))
    assert DemoResult(cases, Path("r")).sentence() == (
        "Forgeries caught: a; missed: b; left undecided: none. Originals called forged: c."
    )


@pytest.mark.slow
def test_the_demo_shows_a_caught_forgery_and_the_truth_beside_every_verdict(tmp_path, monkeypatch):
    """With SFICONV_SCREENSHOTS=docs/images it also takes the picture of the README."""
    monkeypatch.chdir(tmp_path)
    result = demo(device="cpu")
    names = [c.result.path.name for c in result.cases]
    assert names == ["real.png", "real.mp4", "fake-1.png", "fake-2.png", "fake-3.png", "fake-1.mp4"]
    assert [c.truth for c in result.cases] == ["real"] * 2 + ["fake"] * 4
    verdicts = [c.result.verdict for c in result.cases]
    assert verdicts[:2] == ["real", "real"]
    assert "fake" in verdicts[2:] and "real" not in verdicts[2:]
    page = Path(result.report).read_text()
    assert page.count("<article") == 6
    assert (page.count("truth genuine"), page.count("truth forged")) == (2, 4)
    if folder := os.environ.get("SFICONV_SCREENSHOTS"):
        take_picture(result.report.resolve(), Path(folder) / "report.png")


def take_picture(report, picture):
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1500})
        page.goto(report.as_uri())
        page.screenshot(path=picture)
        browser.close()
