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


def test_the_report_prints_to_a_pdf(browser, service, photo, tmp_path):
    job = service.wait(service.send("/api/jobs", photo, name="photo.jpg").json()["id"])
    (tmp_path / "report.html").write_text(service.get(f"/api/jobs/{job['id']}/report").text)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.pdf()[:5] == b"%PDF-"
    page.close()


SCREENS = {"phone": (390, 844), "desktop": (1280, 900)}
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")


def violations(page):
    """What axe-core finds on the page that keeps people out."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{v['id']}: {v['help']}: {[node['html'] for node in v['nodes'][:3]]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def tab_to(page, selector):
    """Press Tab until the focus is there, as somebody without a mouse does."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached by keyboard")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_walk_without_a_mouse(browser, service, photo, clip, tmp_path, screen, scheme):
    service.wait(service.send("/api/jobs", clip, name="clip.mp4").json()["id"])
    width, height = SCREENS[screen]
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
    page.on("filechooser", lambda chooser: None)  # from now on, not only when one is expected
    page.goto(service.url)
    sync_api.expect(page.locator("#service")).to_contain_text("Detector:")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 380) == (scheme == "dark")
    assert page.evaluate("document.documentElement.lang") == "en"

    tab_to(page, ".skip")
    tab_to(page, "#file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photo)
    answer = page.locator("#answer")
    sync_api.expect(answer.locator("h2")).to_have_text("photo.jpg", timeout=60_000)
    sync_api.expect(answer).to_be_focused()
    sync_api.expect(answer.locator(".weakness")).to_contain_text("Known weakness")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    tab_to(page, "#answer button")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "report.html")

    tab_to(page, "button[aria-label='Show clip.mp4']")
    page.keyboard.press("Enter")
    sync_api.expect(answer.locator("h2")).to_have_text("clip.mp4")
    sync_api.expect(answer).to_be_focused()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screenshot(page, f"page-{screen}-{scheme}.png")

    before = page.locator("#history li").count()
    tab_to(page, "button[aria-label='Delete photo.jpg']")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("#history li")).to_have_count(before - 1)

    page.keyboard.press("Shift+Tab")
    page.reload()
    tab_to(page, "summary")
    page.keyboard.press("Enter")
    tab_to(page, "#every")
    page.keyboard.type("1")
    (tmp_path / "notes.jpg").write_text("just text")
    page.set_input_files("#file", tmp_path / "notes.jpg")
    sync_api.expect(page.locator("#problem")).to_contain_text("notes.jpg: the file is text")
    assert violations(page) == []

    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("h1").count() == 1
    assert violations(page) == []
    page.close()


def test_the_documentation_of_the_interface(page, service):
    page.goto(service.url + "/docs")
    sync_api.expect(page.get_by_text("/api/scan", exact=True).first).to_be_visible(timeout=20_000)
