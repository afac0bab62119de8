"""What a scan passes over in a folder is counted and named wherever the scan says what it found."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sficonv.cli.output import failed, show, to_json
from sficonv.detect import parquet
from sficonv.detect.scan import iter_scan, scan
from sficonv.media.listing import list_media

JUDGED = ["a.jpg_large", "b.apng", "c.weird", "noname"]
SKIPPED = [".DS_Store", "notes.txt", "table.bin"]
WHY = ["hidden", "neither an image nor a video", "neither an image nor a video"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures whose names do not say so, and three files that are none."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in JUDGED:
        Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(inbox / name, "png")
    (inbox / "notes.txt").write_text("no picture")
    (inbox / "table.bin").write_bytes(bytes(range(1, 250)))
    Image.new("RGB", (60, 80)).save(inbox / ".DS_Store", "png")
    return inbox


def names(paths) -> list[str]:
    return [Path(path).name for path in paths]


def test_content_decides_and_the_rest_comes_after_with_the_reason(detector, folder) -> None:
    results = detector(folder)
    assert names(r.path for r in results) == JUDGED + SKIPPED
    assert [r.verdict for r in results] == ["no_face"] * 4 + ["skipped"] * 3
    assert [r.notes for r in results[4:]] == [(why,) for why in WHY]
    assert not failed(results)
    assert names(r.path for r in iter_scan([folder, folder], detector=detector)) == JUDGED + SKIPPED
    assert list_media([folder]).note.startswith("3 files skipped (hidden, or neither an image nor a video): ")


def test_a_file_that_is_named_is_judged_whatever_it_is(detector, folder) -> None:
    named = [folder / "notes.txt", folder]
    assert [r.verdict for r in detector(named)] == ["error"] + ["no_face"] * 4 + ["skipped"] * 2
    assert detector(folder / ".DS_Store").verdict == "no_face"


def test_a_folder_of_nothing_else_fails_and_names_them(detector, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    results = detector([tmp_path])
    assert [r.verdict for r in results] == ["error", "skipped"] and failed(results)


def test_the_summary_counts_and_names_them(detector, folder, capsys) -> None:
    for number in range(6):
        (folder / f"z{number}.log").write_text("a line")
    show(detector(folder), {})
    shown = capsys.readouterr().out
    assert "4 files: 4 no_face" in shown
    assert f"1 file skipped, hidden: {folder / '.DS_Store'}" in shown
    assert f"8 files skipped, neither an image nor a video: {folder / 'notes.txt'}, " in shown
    assert "z2.log and 3 more" in shown and "z3.log" not in shown


def test_json_names_them(detector, folder) -> None:
    found = {Path(r["path"]).name: r for r in json.loads(to_json(detector(folder)))}
    assert [name for name, r in found.items() if r["verdict"] == "skipped"] == SKIPPED
    assert found["notes.txt"]["notes"] == ["neither an image nor a video"]
    assert found["notes.txt"]["error"] is None and found["notes.txt"]["p_fake"] is None


def test_tables_have_a_row_of_each(detector, folder, monkeypatch) -> None:
    monkeypatch.setattr(parquet, "Detector", lambda: detector)
    for run in (1, 2):  # the second finds what the first has written, and is no part of it
        scan(folder, detector=detector, csv=folder / "scan.csv")
        parquet.scan_to_parquet(folder, folder / "scan.parquet")
        rows = pd.read_csv(folder / "scan.csv"), pd.read_parquet(folder / "scan.parquet")
        for table, other in zip(rows, ("scan.parquet", "scan.csv"), strict=True):
            told = table[(table["verdict"] == "skipped") & ~table["path"].str.endswith(other)]
            assert names(told["path"]) == SKIPPED and list(told["notes"]) == WHY, run
    assert len(rows[0]) == 8  # with the other scan's table


def test_an_interrupted_scan_tells_of_them_when_it_is_continued(detector, folder) -> None:
    class Stop(Exception):
        pass

    def stopping(crops, tracks):
        raise Stop

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(folder / "d.png")
    options = {"detector": detector, "csv": folder / "scan.csv", "crops": True}
    detector.scores, scores = stopping, detector.scores
    with pytest.raises(Stop):
        scan(folder, **options)
    detector.scores = scores
    results = scan(folder, **options)
    assert names(r.path for r in results if r.verdict == "skipped") == SKIPPED


def test_the_report_lists_them_apart(detector, folder, tmp_path, structure_of) -> None:
    results = scan(folder, detector=detector, report=folder / "report.html")
    assert names(r.path for r in results) == JUDGED + SKIPPED
    page = (folder / "report.html").read_text(encoding="utf-8")
    structure_of(page)
    assert "4 files judged by" in page and "3 files skipped" in page
    assert page.count("<article") == 4
    for name in SKIPPED:
        assert f"{name}</td>" in page
    (folder / "notes.txt").unlink()
    for name in (".DS_Store", "table.bin", "report.html"):
        (folder / name).unlink()
    scan(folder, detector=detector, report=tmp_path / "report.html")
    assert "skipped" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_copies_are_made_of_what_was_judged(detector, folder) -> None:
    (folder / "a.jpg_large").rename(folder.parent / "one.png")
    for name in JUDGED[1:]:
        (folder / name).unlink()
    (folder.parent / "one.png").rename(folder / "one.png")
    scan(folder, detector=detector, annotate=folder.parent / "copy.png")
    assert (folder.parent / "copy.png").is_file()
