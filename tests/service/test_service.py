"""The service over real HTTP."""

import io
import os
import re
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from sficonv.detect.demo import write_video


def children(pid):
    """Processes that descend from `pid` (Linux)."""
    lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    found = [int(child) for child in " ".join(lists).split()]
    return found + [below for child in found for below in children(child)]


# -- images -----------------------------------------------------------------------------------------


def test_a_photograph_gets_the_answer_of_the_command_line(service, photo):
    from sficonv.detect.scan import scan

    answer = service.send("/api/scan", photo, name="../../etc/holiday.jpg")
    assert answer.status_code == 200, answer.text
    (expected,) = [result.to_dict() for result in scan([photo])]
    found = answer.json()
    assert found.pop("path") == "holiday.jpg"
    assert expected.pop("path") == str(photo)
    assert found["p_fake"] == pytest.approx(expected["p_fake"], abs=2e-3)
    assert found.keys() == expected.keys()
    assert found["verdict"] == expected["verdict"]
    assert not list((service.folder / "uploads").iterdir())


def test_an_image_without_a_face(service):
    blank = io.BytesIO()
    Image.new("RGB", (80, 60), "grey").save(blank, "png")
    answer = service.send("/api/scan", blank.getvalue())
    assert (answer.status_code, answer.json()["verdict"], answer.json()["p_fake"]) == (200, "no_face", None)


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", 415, "empty"),
        (b"just some text, called photo.jpg", 415, "text"),
        (bytes(5000), 415, "zeros"),
        (b"\x89PNG\r\n\x1a\n" + b"\x01" * 500, 422, "damaged"),
        (b"\x1aE\xdf\xa3" + bytes(range(256)), 415, "video"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(service, content, status, reason):
    answer = service.send("/api/scan", content, name="photo.jpg")
    assert answer.status_code == status
    assert reason in answer.json()["detail"]
    assert str(service.folder) not in answer.text


def test_a_photograph_cut_in_its_header(service, photo):
    answer = service.send("/api/scan", photo.read_bytes()[:400], name="cut.jpg")
    assert answer.status_code == 422
    assert answer.json()["verdict"] == "error"
    assert answer.json()["detail"].startswith("cut.jpg: ")


def test_a_photograph_cut_short_is_judged_by_what_is_there(service, photo):
    answer = service.send("/api/scan", photo.read_bytes()[:20_000], name="cut.jpg")
    assert answer.status_code == 200
    assert answer.json()["error"].startswith("cut.jpg: the image is damaged")


def test_too_many_pixels(service):
    bomb = io.BytesIO()
    Image.new("1", (9000, 9000)).save(bomb, "png")
    answer = service.send("/api/scan", bomb.getvalue())
    assert answer.status_code == 422
    assert "more than the limit of 64,000,000" in answer.json()["detail"]
    assert "--max-megapixels" in answer.json()["detail"]


def test_without_a_file(service):
    answer = httpx.post(service.url + "/api/scan", data={"file": "a name"})
    assert answer.status_code == 422
    assert "multipart field 'file'" in answer.json()["detail"]
    assert httpx.post(service.url + "/api/jobs", content=b"x").status_code == 422


@pytest.mark.parametrize("path", ["/api/scan", "/api/jobs"])
def test_an_upload_that_is_too_large(service, path):
    answer = service.send(path, b"\xff\xd8\xff" + bytes(20_500_000))
    assert answer.status_code == 413
    assert "limit of 20 MB" in answer.json()["detail"]
    assert not list((service.folder / "uploads").iterdir())


# -- jobs ---------------------------------------------------------------------------------------------


def test_a_video_from_upload_to_report(service, clip):
    answer = service.send("/api/jobs", clip, name="C:\\me\\clip.mp4", every="0.25")
    assert answer.status_code == 202, answer.text
    assert answer.json()["name"] == "clip.mp4"
    job = service.wait(answer.json()["id"])
    assert (job["state"], job["kind"], job["progress"], job["error"]) == ("done", "video", 1.0, None)
    assert job["result"]["frames_sampled"] == 8
    assert job["result"]["p_fake"] == job["p_fake"]
    first = job["pictures"][0]
    assert first["image"].startswith("data:image/jpeg;base64,")
    assert first["attention"].startswith("data:image/jpeg;base64,")
    assert sum(first["regions"].values()) == pytest.approx(1)
    report = service.get(f"/api/jobs/{job['id']}/report")
    assert report.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in report.headers["content-security-policy"]
    assert "clip.mp4" in report.text
    assert str(service.folder) not in report.text
    assert job["id"] in [found["id"] for found in service.get("/api/jobs").json()]
    assert not (service.folder / "uploads" / job["id"]).exists()
    assert httpx.delete(f"{service.url}/api/jobs/{job['id']}").status_code == 204
    assert service.get(f"/api/jobs/{job['id']}").status_code == 404
    assert not (service.folder / "reports" / f"{job['id']}.html").exists()


def test_a_damaged_video_is_an_answer_too(service, clip):
    broken = service.send("/api/jobs", clip.read_bytes()[:700], name="cut.mp4")
    job = service.wait(broken.json()["id"])
    assert (job["state"], job["verdict"]) == ("done", "error")
    assert job["error"].startswith("cut.mp4: ")


def test_a_video_that_is_too_long(service, tmp_path):
    write_video(tmp_path / "long.mp4", (np.zeros((32, 32, 3), np.uint8) for _ in range(50)), fps=2)
    job = service.wait(service.send("/api/jobs", tmp_path / "long.mp4").json()["id"])
    assert job["verdict"] == "error"
    assert "longer than the limit of 20 s" in job["error"]


@pytest.mark.parametrize(
    "options",
    [{"every": "0"}, {"every": "often"}, {"start": "-1"}, {"start": "2", "end": "1"}, {"end": "nan"}],
)
def test_options_that_make_no_sense(service, clip, options):
    answer = service.send("/api/jobs", clip, **options)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(list(options)[-1])
    assert not list((service.folder / "uploads").iterdir())


def test_cancelling(service, tmp_path):
    image = astronaut()
    write_video(tmp_path / "slow.mp4", (np.roll(image, shift, axis=1) for shift in range(190)), fps=10)
    id = service.send("/api/jobs", tmp_path / "slow.mp4", every="0.1").json()["id"]
    assert httpx.post(f"{service.url}/api/jobs/{id}/cancel").status_code == 200
    job = service.wait(id)
    assert job["state"] == "cancelled"
    assert httpx.post(f"{service.url}/api/jobs/{id}/cancel").status_code == 409
    assert service.get(f"/api/jobs/{id}/report").status_code == 409
    until = time.monotonic() + 30
    while (service.folder / "uploads" / id).exists():
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.parametrize("id", ["0" * 32, "..%2f..%2fetc%2fpasswd", "jobs.sqlite", "a'%20OR%201=1"])
def test_unknown_jobs(service, id):
    for path in (f"/api/jobs/{id}", f"/api/jobs/{id}/report"):
        assert service.get(path).status_code == 404


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the worker")
def test_a_crash_costs_only_its_file(service, tmp_path, photo):
    image = astronaut()
    write_video(tmp_path / "slow.mp4", (np.roll(image, shift, axis=1) for shift in range(190)), fps=10)
    id = service.send("/api/jobs", tmp_path / "slow.mp4", every="0.1").json()["id"]
    until = time.monotonic() + 60
    while service.get(f"/api/jobs/{id}").json()["state"] == "waiting":
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(0.5)
    for pid in children(service.process.pid):
        if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    job = service.wait(id)
    assert job["state"] == "failed"
    assert "crash" in job["error"]
    assert service.wait(service.send("/api/jobs", photo).json()["id"])["state"] == "done"
    assert service.send("/api/scan", photo).status_code == 200


def test_mutated_files_never_break_the_service(service, photo, clip):
    rng = np.random.default_rng(0)
    for number in range(24):
        content = bytearray((photo if number % 2 else clip).read_bytes())
        for position in rng.integers(0, len(content), 1 + number):
            content[position] = rng.integers(256)
        path = "/api/scan" if number % 2 else "/api/jobs"
        answer = service.send(path, bytes(content[: rng.integers(1, len(content) + 1)]))
        assert 200 <= answer.status_code < 500
        assert answer.status_code < 300 or answer.json()["detail"]
    jobs = service.get("/api/jobs?limit=200").json()
    assert len(jobs) > 3
    for job in jobs:
        ended = service.wait(job["id"])
        assert ended["state"] != "done" or ended["verdict"]
        assert ended["state"] == "done" or ended["error"]


# -- pages and headers ----------------------------------------------------------------------------------


def test_every_answer_carries_the_security_headers(service):
    for path in ("/", "/static/app.js", "/api/health", "/nothing", "/docs"):
        headers = service.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_nothing_is_loaded_from_elsewhere(service):
    for path in (
        "/",
        "/docs",
        "/static/app.js",
        "/static/answer.js",
        "/static/elements.js",
        "/static/style.css",
    ):
        text = service.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|src=[\"']//", text), path
    assert service.get("/swagger/swagger-ui-bundle.js").status_code == 200


def test_the_interface_describes_itself(service):
    paths = service.get("/api/openapi.json").json()["paths"]
    assert {
        "/api/scan",
        "/api/jobs",
        "/api/jobs/{id}",
        "/api/jobs/{id}/report",
        "/api/health",
    } <= paths.keys()
    form = paths["/api/scan"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]


def test_every_method_of_an_address_is_named(service):
    known = {"/api/jobs": "GET, POST", "/api/jobs/x": "DELETE, GET", "/api/scan": "POST"}
    for path, methods in known.items():
        answer = httpx.request("PATCH", service.url + path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
        assert answer.json()["detail"]


def test_a_file_name_in_the_extended_form_alone(service, photo):
    body = b"--limit\r\nContent-Disposition: form-data; name=file; filename*=UTF-8''%e2%82%ac.jpg\r\n\r\n"
    body += photo.read_bytes() + b"\r\n--limit--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    answer = httpx.post(service.url + "/api/scan", content=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["path"] == "€.jpg"


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"--limit\r\nnonsense\r\n\r\nx\r\n--limit--\r\n", b"--limit\r\n"
     b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\nthe end is missing'],
)  # fmt: skip
def test_a_damaged_form_is_refused_with_the_reason(service, body):
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    answer = httpx.post(service.url + "/api/jobs", content=body, headers=headers, timeout=60)
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]
    assert not list((service.folder / "uploads").iterdir())


def test_parts_that_share_a_name_are_counted_too(service):
    part = b'--limit\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    answer = httpx.post(
        f"{service.url}/api/scan",
        content=50 * part + b"--limit--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=limit"},
    )
    assert answer.status_code == 422
    assert "more than 8 fields" in answer.json()["detail"]


def test_a_photograph_of_a_phone_with_48_megapixels_is_not_refused(service):
    photo = io.BytesIO()
    Image.new("L", (8000, 6000), 128).save(photo, "png")
    answer = service.send("/api/scan", photo.getvalue())
    assert (answer.status_code, answer.json()["verdict"]) == (200, "no_face")


def test_other_sites_are_refused(service, photo):
    files = {"file": photo.read_bytes()}
    evil = httpx.post(service.url + "/api/scan", files=files, headers={"Origin": "https://evil.example"})
    assert evil.status_code == 403
    rebound = httpx.get(service.url + "/api/jobs", headers={"Host": "evil.example"})
    assert rebound.status_code == 400
    own = httpx.get(service.url + "/api/jobs", headers={"Origin": service.url})
    assert own.status_code == 200


# -- limits and restarts ----------------------------------------------------------------------------------


def test_token_time_limit_and_queue(start_service, tmp_path, clip):
    token = "a-token-nobody-guesses"
    image = astronaut()
    write_video(tmp_path / "slow.mp4", (np.roll(image, shift, axis=1) for shift in range(400)), fps=10)
    with start_service(tmp_path / "jobs", token=token, time_limit=1.5, max_waiting=1) as service:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
            assert service.get("/api/jobs", headers=given).status_code == 401
        assert service.get("/").status_code == 200
        client = httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        slow = {"file": (tmp_path / "slow.mp4").read_bytes()}
        first = client.post("/api/jobs", files=slow, data={"every": "0.1"})
        assert first.status_code == 202
        refused = client.post("/api/jobs", files=slow)
        assert refused.status_code == 429
        assert "waiting" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
        until = time.monotonic() + 90
        while (job := client.get(f"/api/jobs/{first.json()['id']}").json())["state"] in (
            "waiting",
            "running",
        ):
            assert time.monotonic() < until
            time.sleep(0.2)
        assert job["state"] == "failed"
        assert "longer than the limit" in job["error"]


def test_weights_that_cannot_be_used_stop_the_service(start_service, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with (
        pytest.raises(AssertionError, match=r"bad\.json: the model card"),
        start_service(tmp_path / "jobs", weights=str(tmp_path / "bad.safetensors")),
    ):
        pass
