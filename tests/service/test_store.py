import time

import pytest

from sficonv.service.store import JobStore


@pytest.fixture
def store(tmp_path):
    return JobStore(tmp_path / "jobs.sqlite")


def answer(verdict="real", p_fake=0.1):
    return {"result": {"verdict": verdict, "p_fake": p_fake, "error": None}, "pictures": []}


def test_a_job_from_beginning_to_end(store):
    store.add("a", "clip.mp4", "video", 10, {"every": 1.0})
    assert store.get("a").state == "waiting"
    assert store.get("a").options == {"every": 1.0}
    assert store.start("a")
    store.advance("a", 0.5)
    job = store.get("a")
    assert (job.state, job.attempts, job.progress) == ("running", 1, 0.5)
    assert 0 <= job.remaining < 5
    store.finish("a", answer("fake", 0.9))
    job = store.get("a")
    assert (job.state, job.verdict, job.p_fake, job.progress, job.remaining) == ("done", "fake", 0.9, 1, None)
    assert store.answer("a")["result"]["verdict"] == "fake"


def test_what_has_ended_stays_ended(store):
    store.add("a", "a", "image", 1, {})
    assert store.end("a", "cancelled", "cancelled")
    assert not store.start("a")
    store.finish("a", answer())
    assert store.get("a").state == "cancelled"
    assert store.answer("a") is None
    assert not store.end("a", "failed", "late")
    assert store.get("a").error == "cancelled"


def test_lists(store):
    for id in "abc":
        store.add(id, id, "image", 1, {})
        time.sleep(0.01)
    store.start("a")
    store.finish("a", answer())
    assert [job.id for job in store.newest(2)] == ["c", "b"]
    assert [job.id for job in store.newest(5, offset=2)] == ["a"]
    assert [job.id for job in store.unfinished()] == ["b", "c"]
    assert store.waiting() == 2
    assert [job.id for job in store.expired(time.time() + 1)] == ["a"]
    assert store.expired(time.time() - 100) == []
    store.delete("a")
    assert store.get("a") is None


def test_it_survives(store):
    store.add("a", "a", "image", 1, {})
    assert JobStore(store.file).get("a").state == "waiting"
