import json
import math

import pandas as pd
import pytest
from PIL import Image

from sficonv.cli.app import main
from sficonv.errors import DataError
from sficonv.paper.attention.compare import compare_attention


def compare(folder, detectors, tmp_path, **options):
    wide, narrow = detectors
    given = {"average": "2,4", "images": 6, "bootstrap": 200, "out": tmp_path / "out", "device": "cpu"}
    return compare_attention(folder, weights=wide, **{"against": narrow, **given, **options})


def test_the_detector_with_the_larger_window_has_the_wider_attention(make_faces, detectors, tmp_path):
    report = compare(make_faces(), detectors, tmp_path)
    for kind, of in (("FAM", 1), ("AFAM", 2), ("AFAM", 4)):
        assert report.get(kind, "area_above_half", of).value == pytest.approx((24 / 32) ** 2, rel=0.1)
        assert report.get(kind, "area_above_half", of, "against").value == pytest.approx(1 / 16, rel=0.1)
        apart = report.get(kind, "area_above_half", of, "difference")
        assert 0 < apart.low <= apart.value <= apart.high
    # the mask is the small window: all of the one map lies in it, and a ninth of the other
    assert report.get("FAM", "inside_mask", column="against").value > 0.7
    assert report.get("FAM", "inside_mask").value == pytest.approx(1 / 9, rel=0.1)
    assert report.get("FAM", "mask_area").value == pytest.approx(1 / 16)
    assert report.labels == ["wide", "narrow"]
    assert (len(report.images), report.footage) == (6, 3)
    with pytest.raises(KeyError):
        report.get("FAM", "area_above_half", 4)


def test_the_same_seed_gives_the_same_numbers(make_faces, detectors, tmp_path):
    folder = make_faces()
    first = compare(folder, detectors, tmp_path)
    again = compare(folder, detectors, tmp_path)
    pd.testing.assert_frame_equal(first.numbers, again.numbers)


def test_files(make_faces, detectors, tmp_path):
    report = compare(make_faces(), detectors, tmp_path)
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {
        "figure.png", "attention.json", "numbers.csv", "images.csv",
    }  # fmt: skip
    with Image.open(out / "figure.png") as picture:
        assert picture.height > picture.width > 300  # three columns, five rows
    saved = json.loads((out / "attention.json").read_text())
    assert saved["numbers"][0]["number"] == "p_fake"
    assert len(pd.read_csv(out / "images.csv")) == 6 * 2 * 2
    assert len(pd.read_csv(out / "numbers.csv")) == len(report.numbers)


def test_self_blended_faces_bring_their_masks(make_faces, detectors, tmp_path):
    report = compare(make_faces(masks=False), detectors, tmp_path, self_blend=True)
    assert 0 < report.get("FAM", "inside_mask").value < 1
    assert all(path.startswith("0_") for path in report.images)
    assert not any("not known" in note for note in report.notes)


def test_without_masks_and_a_second_detector(make_faces, detectors, tmp_path):
    report = compare(make_faces(masks=False), detectors, tmp_path, against=None, average=[6], bootstrap=0)
    assert "inside_mask" not in set(report.numbers["number"])
    assert not any(column.startswith("against") for column in report.numbers.columns)
    assert math.isnan(report.get("AFAM", "entropy", 6).low)  # there are no other six fakes
    assert any("is not known" in note for note in report.notes)
    assert any("only 3 people's footage" in note for note in report.notes)


def test_too_few_fakes_and_wrong_numbers(make_faces, detectors, tmp_path):
    folder = make_faces()
    with pytest.raises(DataError, match="only 6 videos.*too few for an average over 16"):
        compare(folder, detectors, tmp_path, average="4,16")
    for options in ({"average": "four"}, {"average": "0,4"}, {"images": 0}, {"average": ""}):
        with pytest.raises(ValueError, match="average|images"):
            compare(folder, detectors, tmp_path, **options)
    assert not (tmp_path / "out").exists()


def test_two_files_of_one_network_keep_their_names_apart(make_faces, detectors, tmp_path):
    wide, _ = detectors
    report = compare(make_faces(), (wide, wide), tmp_path)
    assert len(set(report.labels)) == 2
    assert str(wide) in report.labels[0]
    assert report.get("AFAM", "entropy", 2, "difference") == (0, 0, 0)


def test_the_table_for_people_and_the_command_line(make_faces, detectors, tmp_path, capsys):
    folder = make_faces()
    wide, narrow = map(str, detectors)
    options = ["--weights", wide, "--against", narrow, "--average", "2,4", "--out", str(tmp_path / "cli")]
    assert main(["attention", str(folder), *options, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["labels"] == ["wide", "narrow"]
    assert main(["attention", str(folder), *options]) == 0
    printed = capsys.readouterr().out
    assert "AFAM of 4" in printed
    assert "inside mask" in printed
    assert "difference" in printed
    assert "6 fakes of 3 people's footage" in printed
    rows = [line for line in printed.splitlines() if line.startswith("area > 1/2")]
    assert [line.count("]") for line in rows] == [3, 3, 3, 3]  # nothing is wrapped in 80 columns
