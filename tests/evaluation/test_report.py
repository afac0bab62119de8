import json
import re

import pandas as pd
import pytest

from sficonv.evaluation import evaluate, judge
from sficonv.evaluation.report import write_report
from sficonv.evaluation.result import flat
from sficonv.evaluation.robustness import robustness

EVIL = "<script>alert(1)</script>$x_"


@pytest.fixture
def check_page(structure_of):
    """What every page has to be: whole, without addresses and scripts, usable without seeing it."""
    return lambda page: checked(structure_of(page), page)


def checked(structure, page: str):
    assert not re.search(r"https?:|//www|@import|url\((?!#)|xmlns", page)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in structure.elements}
    ids = [attrs["id"] for _, attrs in structure.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for name in re.findall(r'(?:url\(|href=")#([^")]+)', page):
        assert name in ids
    for attrs in structure.of("img"):
        assert attrs["src"].startswith("data:image/jpeg;base64,")
        assert len(attrs["alt"]) > 10
    for attrs in structure.of("svg"):
        assert attrs["role"] == "img"
        assert attrs["aria-labelledby"] in ids
    assert len(structure.of("table")) == len(structure.of("caption"))
    assert all(attrs.get("scope") in ("col", "row") for attrs in structure.of("th"))
    return structure


@pytest.fixture
def faces(small_faces, tmp_path):
    return small_faces(tmp_path / "faces", method=EVIL)


@pytest.fixture
def page(faces, detectors, tmp_path):
    evaluate(detectors[0], faces, bootstrap=10, device="cpu", report=tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_is_complete_in_itself_and_well_formed(page, check_page):
    structure = check_page(page)
    assert len(structure.of("svg")) == 4
    assert len(structure.of("table")) == 2
    assert structure.of("img")


def test_a_name_cannot_become_markup(page):
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_it_says_what_was_found_and_what_to_doubt(page, faces, detectors):
    result = evaluate(detectors[0], faces, bootstrap=10, device="cpu")
    assert f"{result.video['auc'].value:.3f}" in page
    assert str(result.frame["eer"]) in page
    assert "overlap was not checked" in page
    assert "only 3 real videos" in page
    assert result.provenance["weights_sha256"] in page
    assert "meso_inception4" in page


def test_mistakes_are_shown_with_the_attention_beside_them(faces, detectors, tmp_path, check_page):
    result = evaluate(detectors[0], faces, bootstrap=0, device="cpu")
    scores = result.predictions
    scores["p_fake"] = 1.0 - scores["label"] * 0.9  # all wrong: reals 1.0, fakes 0.1
    scores.loc[scores["video_id"] == "ffpp/c23/real/002", "p_fake"] = 0.1
    structure = check_page(write_report(with_scores(result, scores), tmp_path / "r.html").read_text())
    alts = [attrs["alt"] for attrs in structure.of("img")]
    assert sum("real video" in alt for alt in alts) == 2
    assert sum("fake video" in alt for alt in alts) == 3
    assert sum("moved its score" in alt for alt in alts) == 5
    assert not any("real/002" in alt for alt in alts)


def with_scores(result, scores: pd.DataFrame):
    """The result as if these had been the scores."""
    about = {name: getattr(result, name) for name in ("weights", "model", "data", "split")}
    return judge(scores, **about, bootstrap=0)


def test_no_mistakes_are_said_too(faces, detectors, tmp_path):
    result = evaluate(detectors[0], faces, bootstrap=0, device="cpu")
    right = result.predictions.assign(p_fake=result.predictions["label"] * 0.8 + 0.1)
    page = write_report(with_scores(result, right), tmp_path / "r.html").read_text()
    assert "No real video was called fake." in page
    assert "No fake video was called real." in page
    assert "<img" not in page


def test_a_crop_that_has_gone_costs_no_report(faces, detectors, tmp_path, check_page):
    result = evaluate(detectors[0], faces, bootstrap=0, device="cpu")
    for crop in (faces / "crops").iterdir():
        crop.unlink()
    page = write_report(result, tmp_path / "r.html").read_text()
    check_page(page)
    assert "this face crop is missing" in page


def test_scores_of_another_detector_have_figures_without_faces(tmp_path, check_page):
    file = tmp_path / "scores.csv"
    pd.DataFrame({"label": [0, 0, 1, 1], "p_fake": [0.2, 0.6, 0.4, 1.0], "path": list("abcd")}).to_csv(file)
    evaluate(predictions=file, bootstrap=0, report=tmp_path / "r.html")
    structure = check_page((tmp_path / "r.html").read_text())
    assert len(structure.of("svg")) == 4
    assert not structure.of("img")


def test_one_class_has_no_roc_curve(tmp_path, check_page):
    file = tmp_path / "scores.csv"
    pd.DataFrame({"label": [0, 0], "p_fake": [0.2, 0.6]}).to_csv(file)
    evaluate(predictions=file, bootstrap=0, report=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert len(check_page(page).of("svg")) == 3
    assert "n/a" in page


def test_the_page_of_the_robustness_suite(small_faces, detectors, tmp_path, check_page):
    faces = small_faces(tmp_path / "faces")
    card = detectors[0].with_suffix(".json")
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(detectors[0].read_bytes())
    weights.with_suffix(".json").write_text(json.dumps({**json.loads(card.read_text()), "data": {"x": EVIL}}))
    result = robustness(
        faces, weights, weights_b=detectors[1], corruptions="jpeg,blur", levels="1,5", bootstrap=5,
        device="cpu", report=tmp_path / "r.html",
    )  # fmt: skip
    page = (tmp_path / "r.html").read_text()
    structure = check_page(page)
    assert len(structure.of("svg")) == 2
    assert page.count("<tr") == 6
    assert str(result.cells[-1].auc) in page


def test_nested_entries_are_flattened():
    assert list(flat({"a_b": {"c": 1, "none": None}, "d": [1]})) == [("a b c", 1), ("d", [1])]
