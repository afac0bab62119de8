import base64
import hashlib
import re
import shutil
from dataclasses import replace
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
    assert not {"link", "iframe", "object", "form"} & {tag for tag, _ in elements}
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert page.count("<script") == page.count(f"script-src 'sha256-{digest}'") == 1
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


def test_of_many_files_the_most_suspicious_are_shown(detector, tmp_path, monkeypatch, structure_of, striped):
    monkeypatch.setattr(report_module, "SECTIONS", 3)
    for i, level in enumerate([40, 250, 60, 200, 20, 240]):
        Image.fromarray(striped(level)).save(tmp_path / f"{i}.png")
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


def test_the_weakness_stands_above_the_first_verdict(detector, media, tmp_path):
    detector.card["metrics"] = {"<FF++>": {}, "Celeb-DF": {}}
    page, _ = page_of(detector, media, tmp_path)
    top = page.partition("<main>")[0]
    assert "Known weakness.</b> Knows only &lt;brightness&gt; &amp; nothing else." in top
    assert "Measured on:</b> &lt;FF++&gt;; Celeb-DF." in top
    assert "1 · No face found" in top
    detector.card["weakness"] = "Misses masks."
    assert detector.weakness == "Misses masks."


def test_the_truth_stands_beside_the_verdict_where_it_is_known(detector, media, tmp_path):
    found = detector.iter_scan([media / "face.jpg", media / "nothing.jpg"], evidence=True)
    write_report((replace(r, truth="fake") for r in found), tmp_path / "report.html", detector)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("in truth forged") == 2
    assert page.count("<td>forged</td>") == 2


def test_an_interrupted_scan_has_a_report_of_what_was_judged(detector, media, tmp_path):
    def interrupted():
        yield from detector.iter_scan(media / "face.jpg", evidence=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(interrupted(), tmp_path / "report.html", detector)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The scan was interrupted" in page
    assert page.count("<article") == 1


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium (Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_the_overview_sorts_and_filters_in_a_browser(detector, tmp_path, browser, striped):
    for i, level in enumerate([120, 250, 20]):
        Image.fromarray(striped(level)).save(tmp_path / f"{i}.png")
    page_of(detector, tmp_path, tmp_path, crops=True)
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.goto((tmp_path / "report.html").as_uri())
    names = lambda: [Path(n).name for n in page.locator("#overview tbody a:visible").all_inner_texts()]  # noqa: E731
    assert names() == ["0.png", "1.png", "2.png"]
    assert page.locator("#overview tbody img").count() == 3
    page.get_by_role("button", name="P(fake)").press("Enter")
    assert names() == ["1.png", "0.png", "2.png"]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("P(fake)")
    page.get_by_role("button", name="P(fake)").press("Enter")
    assert names() == ["2.png", "0.png", "1.png"]
    page.get_by_role("button", name="1 · Likely forged").press("Enter")
    assert names() == ["1.png"]
    assert page.locator("article:visible").count() == 1
    assert page.locator("#shown").inner_text() == "1 of 3 files shown"
    assert not errors
    page.close()


def test_a_full_disk_is_said_with_the_name_of_the_report(detector, media, tiny_disk):
    (tiny_disk / "filler").write_bytes(bytes(65536))
    found = detector.iter_scan(media / "face.jpg", evidence=True)
    with pytest.raises(OSError, match=r"No space left on device: .*report\.html"):
        write_report(found, tiny_disk / "report.html", detector)
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"]
