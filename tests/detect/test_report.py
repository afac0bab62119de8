import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sficonv.detect import report as report_module
from sficonv.detect.options import ScanOptions
from sficonv.detect.report import clock, write_report
from sficonv.detect.results import ScanResult
from sficonv.detect.scan import iter_scan


def page_of(detector, paths, tmp_path, **options):
    target = tmp_path / "report.html"
    found = iter_scan(paths, detector=detector, evidence=True, **options)
    results = write_report(found, target, detector, options=ScanOptions(every=0.5))
    return target.read_text(encoding="utf-8"), results


@pytest.fixture(scope="module")
def evil(tmp_path_factory, media):
    path = tmp_path_factory.mktemp("evil") / "<img src=x onerror=alert(1)>.jpg"
    path.write_bytes((media / "face.jpg").read_bytes())
    return path


def test_the_page_is_complete_in_itself_and_well_formed(detector, media, tmp_path, structure_of):
    page, results = page_of(detector, [media, tmp_path / "missing.jpg"], tmp_path)
    elements = structure_of(page).elements
    assert not re.search(r"https?://|@import|url\(", page)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in elements}
    images = [attrs for tag, attrs in elements if tag == "img"]
    assert len(images) >= 6
    for attrs in images:
        assert attrs["src"].startswith("data:image/jpeg;base64,")
        assert len(attrs["alt"]) > 10
    ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in elements:
        if attrs.get("href"):
            assert attrs["href"].removeprefix("#") in ids
    assert [r.evidence for r in results] == [()] * 4


def test_it_says_what_was_found(detector, media, tmp_path):
    page, results = page_of(detector, [media, tmp_path / "missing.jpg"], tmp_path)
    assert "No face found" in page
    assert "no such file" in page
    assert "Score over time" in page
    assert "Where the detector looked" in page
    assert "Knows only &lt;brightness&gt; &amp; nothing else." in page
    assert f"{results[0].p_fake:.2f}" in page
    import hashlib

    assert hashlib.sha256((media / "clip.mp4").read_bytes()).hexdigest() in page


def test_a_file_name_cannot_become_markup(detector, evil, tmp_path, structure_of):
    page, _ = page_of(detector, [evil], tmp_path)
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in page
    assert all("onerror" not in attrs for _, attrs in structure_of(page).elements)


def test_names_of_no_encoding_do_not_break_it(detector, media, tmp_path):
    name = b"\xff\xfe.jpg".decode("utf-8", "surrogateescape")
    path = tmp_path / name
    path.write_bytes((media / "face.jpg").read_bytes())
    page, results = page_of(detector, [path], tmp_path)
    assert results[0].p_fake is not None
    assert r"\udcff\udcfe.jpg" in page


def test_of_many_files_the_most_suspicious_are_shown(detector, tmp_path, monkeypatch, structure_of):
    monkeypatch.setattr(report_module, "SECTIONS", 3)
    for i, level in enumerate([40, 250, 60, 200, 20, 240]):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(tmp_path / f"{i}.png")
    page, results = page_of(detector, tmp_path, tmp_path, crops=True)
    assert [attrs["id"] for tag, attrs in structure_of(page).elements if tag == "article"] == [
        "file-1",
        "file-3",
        "file-5",
    ]
    assert "the 3 most suspicious are shown in full" in page
    assert len(results) == 6


def test_a_file_that_may_not_be_asked_for_costs_no_report(detector, media, tmp_path, monkeypatch):
    is_file = Path.is_file

    def refused(path):
        if path.name == "locked.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    locked = ScanResult(Path("locked.jpg"), None, None, "error", error="locked.jpg: cannot be read")
    (seen,) = iter_scan(media / "face.jpg", detector=detector, evidence=True)
    assert len(write_report([locked, seen], tmp_path / "report.html", detector)) == 2
    assert "locked.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_sliver_of_an_image_can_be_shown(detector, tmp_path):
    Image.fromarray(np.full((1, 2000, 3), 99, np.uint8)).save(tmp_path / "sliver.png")
    page, _ = page_of(detector, [tmp_path / "sliver.png"], tmp_path, crops=True)
    assert "data:image/jpeg" in page


def test_no_results_at_all(detector, tmp_path):
    assert write_report([], tmp_path / "report.html", detector) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (3.5, "0:03.5"), (59.96, "1:00"), (7325, "2:02:05")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_false_alarms_of_the_card_are_shown(detector, media, tmp_path):
    assert "real faces forged" not in page_of(detector, media / "face.jpg", tmp_path)[0]
    rates = {"items": 150, "called_fake": 0.16, "called_fake_95": [0.11, 0.227], "uncertain": 0.38}
    detector.card["false_alarms"] = {"<CelebA>": rates}
    page, _ = page_of(detector, media / "face.jpg", tmp_path)
    cells = re.findall(r"<td[^>]*>([^<]*)", page.partition("&lt;CelebA&gt;")[2].partition("</tr>")[0])
    assert cells == ["16 %", "11 to 23 %", "38 %", "150"]
