import pickle
import sqlite3
import time

import pytest

from sficonv.service.store import JobStore, StoreError, Trouble


@pytest.fixture
def store(tmp_path):
    store = JobStore(tmp_path / "jobs.sqlite")
    store.prepare()
    return store


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
    assert [job.id for job in store.expired(-1)] == ["a"]
    assert store.expired(100) == []
    store.delete("a")
    assert store.get("a") is None


def test_it_survives(store):
    store.add("a", "a", "image", 1, {})
    JobStore(store.file).prepare()
    assert JobStore(store.file).get("a").state == "waiting"


@pytest.mark.parametrize("schema", [None, "CREATE TABLE jobs (other TEXT)"], ids=["text", "other schema"])
def test_a_file_that_is_no_list_of_jobs_is_set_aside(tmp_path, schema):
    file = tmp_path / "jobs.sqlite"
    if schema is None:
        file.write_text("this is no database " * 100)
    else:
        with sqlite3.connect(file) as database:
            database.execute(schema)
        database.close()
    content = file.read_bytes()
    store = JobStore(file)
    with pytest.raises(StoreError) as caught:
        store.newest(1)
    assert caught.value.trouble is Trouble.LOST
    store.prepare()
    assert store.newest(1) == []
    (aside,) = tmp_path.glob("jobs-damaged-*.sqlite")
    assert aside.read_bytes() == content


def test_a_locked_database_is_called_busy(store):
    with sqlite3.connect(store.file) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught:
            JobStore(store.file, patience=0.1).add("a", "a", "image", 1, {})
    other.close()
    assert caught.value.trouble is Trouble.BUSY
    from_a_worker = pickle.loads(pickle.dumps(caught.value))
    assert (str(from_a_worker), from_a_worker.trouble) == (str(caught.value), Trouble.BUSY)


def test_other_users_cannot_read_it(store):
    assert not store.file.stat().st_mode & 0o077


def test_no_more_jobs_wait_than_may(store):
    assert [store.add(id, id, "image", 1, {}, most=2) for id in "abc"] == [True, True, False]
    assert store.get("c") is None


def test_a_clock_that_was_wrong_keeps_no_job_for_ever(store, monkeypatch):
    store.add("a", "a", "image", 1, {})
    monkeypatch.setattr(time, "time", lambda: 4e9)
    store.start("a")
    store.advance("a", 0.5)
    ahead = store.get("a")
    store.end("a", "failed", "reason")
    monkeypatch.undo()
    assert ahead.remaining == 0
    assert store.expired(100) == []
    assert store.get("a").finished <= time.time()
