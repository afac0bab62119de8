"""The page in a real browser. With SFICONV_SCREENSHOTS=docs/images it also takes the pictures of the docs."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from sficonv.detect.demo import write_video

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, service):
    """A page of the service that fails the test if anything is loaded from elsewhere or raises an error."""
    context = browser.new_context(viewport={"width": 1000, "height": 1300}, accept_downloads=True)
    page = context.new_page()
    foreign, errors = [], []
    page.on("request", lambda r: r.url.startswith((service.url, "data:", "blob:")) or foreign.append(r.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: "Content Security Policy" in m.text and errors.append(m.text))
    page.goto(service.url)
    sync_api.expect(page.locator("#service")).to_contain_text("Detector:")
    yield page
    context.close()
    assert not foreign
    assert not errors


def screenshot(page, name):
    if folder := os.environ.get("SFICONV_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / name, full_page=True)


def hand_in(page, file):
    page.set_input_files("#file", file)
    entry = page.locator("#history li").filter(has=page.get_by_text(Path(file).name, exact=True)).first
    sync_api.expect(entry).to_be_visible(timeout=30_000)
    return entry


def test_a_photograph_and_a_video(page, photo, clip, tmp_path):
    hand_in(page, photo)
    answer = page.locator("#answer")
    sync_api.expect(answer.locator("h2")).to_have_text("photo.jpg", timeout=60_000)
    sync_api.expect(answer.locator(".number")).to_contain_text(re.compile(r"0\.\d\d"))
    sync_api.expect(answer.locator(".regions tr")).to_have_count(7)
    assert answer.locator("img").evaluate_all(
        "images => images.every((i) => i.complete && i.naturalWidth > 0)"
    )
    screenshot(page, "page-photo.png")

    entry = hand_in(page, clip)
    sync_api.expect(answer.locator("h2")).to_have_text("clip.mp4", timeout=60_000)
    sync_api.expect(answer.locator("svg.chart polyline")).to_have_count(1)
    sync_api.expect(entry).to_have_attribute("data-state", "done")
    with page.expect_download() as download:
        answer.get_by_role("button", name="Download the report").click()
    report = tmp_path / "report.html"
    download.value.save_as(report)
    assert "clip.mp4" in report.read_text()
    screenshot(page, "page-video.png")

    page.reload()  # what was done is still there
    sync_api.expect(page.locator("#history li")).not_to_have_count(0)
    entry = page.locator("#history li").filter(has_text="clip.mp4").first
    entry.get_by_role("button", name="Show clip.mp4").click()
    sync_api.expect(page.locator("#answer h2")).to_have_text("clip.mp4")
    page.locator("#history li").filter(has_text="clip.mp4").first.get_by_role("button", name="Delete").click()
    sync_api.expect(page.locator("#answer")).to_be_hidden()


def test_progress_and_cancel(page, tmp_path):
    image = astronaut()
    video = tmp_path / "slow.mp4"
    write_video(video, (np.roll(image, shift, axis=1) for shift in range(190)), fps=10)
    page.locator("summary").click()
    page.fill("#every", "0.1")
    entry = hand_in(page, video)
    sync_api.expect(entry.locator("progress")).to_be_visible()
    entry.get_by_role("button", name="Cancel slow.mp4").click()
    sync_api.expect(entry).to_have_attribute("data-state", "cancelled", timeout=30_000)
    sync_api.expect(page.locator("#announce")).to_contain_text("slow.mp4")


def test_a_file_that_is_no_image_is_explained(page, tmp_path):
    (tmp_path / "<b>notes.jpg").write_text("just text")
    page.set_input_files("#file", tmp_path / "<b>notes.jpg")
    sync_api.expect(page.locator("#problem")).to_contain_text("<b>notes.jpg: the file is text")
    assert page.locator("#problem b").count() == 0


def test_by_keyboard_and_for_screen_readers(page, photo):
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.locator("main").count() == 1
    assert page.locator("[role=status]").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"
    hand_in(page, photo)
    sync_api.expect(page.locator("#answer")).to_be_focused(timeout=60_000)
    unnamed = page.locator("img:not([alt]), svg[role=img]:not([aria-label]), button:empty, input:not([id])")
    assert unnamed.count() == 0


def test_the_report_prints_to_a_pdf(browser, service, photo, tmp_path):
    job = service.wait(service.send("/api/jobs", photo, name="photo.jpg").json()["id"])
    (tmp_path / "report.html").write_text(service.get(f"/api/jobs/{job['id']}/report").text)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.pdf()[:5] == b"%PDF-"
    page.close()


def test_light_and_dark(browser, service, photo):
    service.wait(service.send("/api/jobs", photo, name="photo.jpg").json()["id"])
    colours = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 420, "height": 900})
        page.goto(service.url)
        page.get_by_role("button", name="Show photo.jpg").first.click()
        sync_api.expect(page.locator("#answer h2")).to_have_text("photo.jpg")
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.close()
    assert colours["light"] != colours["dark"]


def test_the_documentation_of_the_interface(page, service):
    page.goto(service.url + "/docs")
    sync_api.expect(page.get_by_text("/api/scan", exact=True).first).to_be_visible(timeout=20_000)
