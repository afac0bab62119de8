"""Two detectors on the same videos: what is matched, what is left out, and how sure a difference is."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from sficonv.cli.app import main
from sficonv.errors import DataError
from sficonv.evaluation import compare, evaluate, judge


def two_tables(videos: int = 60, frames: int = 4, better: float = 0.8, seed: int = 0):
    """Scores of two detectors whose errors are mostly the same; the first is better."""
    rng = np.random.default_rng(seed)
    video = np.repeat(np.arange(videos), frames)
    label = video % 2
    shared = rng.normal(size=videos)[video]
    sides = []
    for shift in (0.5 + better, 0.5):
        score = shared + 0.3 * rng.normal(size=len(video)) + shift * label
        sides.append(
            pd.DataFrame(
                {
                    "path": [
                        f"crops/{v:03}_{k}.png" for v, k in zip(video, np.arange(len(video)), strict=True)
                    ],
                    "video_id": [f"v{v:03}" for v in video],
                    "label": label,
                    "p_fake": 1 / (1 + np.exp(-score)),
                }
            )
        )
    return sides


def test_values_and_paired_interval():
    a, b = two_tables()
    found = compare(a, b, bootstrap=500)
    means = [t.groupby("video_id")[["label", "p_fake"]].mean() for t in (a, b)]
    expected = [roc_auc_score(m["label"], m["p_fake"]) for m in means]
    assert [found.video.a.value, found.video.b.value] == pytest.approx(expected)
    assert found.video.difference.value == pytest.approx(expected[0] - expected[1])
    assert found.frame.a.value == pytest.approx(roc_auc_score(a["label"], a["p_fake"]))
    # the errors are shared, so the interval of the difference is narrower than that of either side
    widths = [e.high - e.low for e in (found.video.difference, found.video.a, found.video.b)]
    assert widths[0] < min(widths[1:])
    assert found.video.difference.low > 0
    assert found.video.p_value < 0.05
    half_width = 1.96 * found.video.standard_error
    assert widths[0] / 2 == pytest.approx(half_width, rel=0.25)
    assert (found.only_a, found.only_b, found.matched_by) == (0, 0, "path")
    assert found.warnings == []


def test_the_sides_are_each_judged_as_evaluate_does():
    a, b = two_tables()
    found = compare(a, b, bootstrap=100, seed=3)
    alone = judge(a, bootstrap=100, seed=3)
    assert found.video.a == pytest.approx(alone.video["auc"])
    assert found.frame.a == pytest.approx(alone.frame["auc"])


def test_no_difference_is_said():
    a, b = two_tables(better=0.0)
    found = compare(a, b, bootstrap=200)
    assert found.video.p_value > 0.05
    assert any("do not tell the two detectors apart" in note for note in found.notes)
    same = compare(a, a, bootstrap=50).video
    assert tuple(same.difference) == (0, 0, 0)
    assert same.p_value == 1


def test_leaks_that_an_evaluation_warned_of_are_said_again(tmp_path):
    a, b = two_tables()
    leak = "in this folder 3 near duplicates are in more than one split"
    results = [replace(judge(table, bootstrap=0), warnings=[leak]) for table in (a, b)]
    for sides in (
        results,
        [result.save(tmp_path / name) for name, result in zip("ab", results, strict=True)],
    ):
        assert compare(*sides, bootstrap=0).warnings == [f"A: {leak}", f"B: {leak}"]


def test_order_and_rows_of_one_side_only_do_not_matter():
    a, b = two_tables()
    whole = compare(a[a["path"] != a["path"][7]], b.drop(index=7), bootstrap=50)
    mixed = compare(a.drop(index=7), b.sample(frac=1, random_state=0), bootstrap=50)
    assert mixed.video == whole.video
    assert mixed.frame == whole.frame
    assert (mixed.only_a, mixed.only_b) == (0, 1)
    (warning,) = mixed.warnings
    assert warning == f"only in B, left out: 1 crops, such as {b['path'][7]}"


def test_crops_that_one_side_could_not_score_are_left_out_of_both():
    a, b = two_tables()
    failed = a.assign(error="")
    failed.loc[3, ["p_fake", "error"]] = [float("nan"), "cannot be read"]
    found = compare(failed, b, bootstrap=20)
    assert found.only_b == 1
    assert any("A: 1 of 240 crops were left out" in text for text in found.warnings)
    assert found.video == compare(a.drop(index=3), b.drop(index=3), bootstrap=20).video


def test_videos_are_matched_where_there_are_no_paths():
    a, b = two_tables()
    found = compare(a.drop(columns="path"), b[b["video_id"] != "v005"], bootstrap=50)
    assert found.matched_by == "video"
    assert found.frame is None
    assert (found.only_a, found.only_b) == (1, 0)
    assert "v005" in found.warnings[0]
    less = [t[t["video_id"] != "v005"] for t in (a, b)]
    assert found.video == compare(*less, bootstrap=50).video


def test_names_of_videos_may_differ_in_type(tmp_path):
    a, b = (t.assign(video_id=t["video_id"].str[1:].astype(int)) for t in two_tables())
    b.assign(video_id=b["video_id"].astype(str)).drop(columns="path").to_csv(tmp_path / "b.csv", index=False)
    assert compare(a, tmp_path / "b.csv", bootstrap=0).only_a == 0


def test_faces_of_one_frame_are_told_apart_or_left_out():
    a, b = (t.assign(path=[f"{row // 2}.png" for row in range(len(t))]) for t in two_tables())
    with pytest.raises(DataError, match="no crop in common.*480 crops were left out: several"):
        compare(a, b)
    numbered = [t.assign(face=[row % 2 for row in range(len(t))]) for t in (a, b)]
    numbered[1]["face"] = numbered[1]["face"].astype(float)  # as a CSV has it
    assert compare(*numbered, bootstrap=0).frame.real == 120


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(label=1 - t["label"]), "240 crops different labels: crops/000_0.png"),
        (lambda t: t.drop(columns="path").assign(label=1 - t["label"]), "60 videos different labels: v000"),
        (lambda t: t.assign(path="other/" + t["path"]), "no crop in common.*only in A.*crops/000_0"),
        (lambda t: t.drop(columns=["path", "video_id"]), "share no column path or video_id"),
        (lambda t: t.assign(p_fake=float("nan")), "p_fake must be a number"),
    ],
)
def test_sides_that_cannot_be_compared(change, message):
    a, b = two_tables()
    with pytest.raises(DataError, match=message):
        compare(a, change(b))


def test_one_class_is_said():
    a, b = (t[t["label"] == 1] for t in two_tables())
    found = compare(a, b, bootstrap=10)
    assert np.isnan(found.video.difference.value)
    assert any("no real rows match" in note for note in found.notes)


def test_the_command_compares_what_evaluate_wrote(tmp_path, capsys):
    a, b = two_tables()
    a.to_csv(tmp_path / "a.csv", index=False)
    evaluate(predictions=tmp_path / "a.csv", bootstrap=0, out=tmp_path / "run")
    b.to_parquet(tmp_path / "b.parquet")
    command = ["compare", str(tmp_path / "run"), str(tmp_path / "b.parquet"), "--bootstrap", "50"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["video"]["difference"]["value"] == pytest.approx(
        compare(a, b, bootstrap=0).video.difference.value
    )
    assert found["frame"]["p_value"] is None
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "A - B" in shown
    assert main(["compare", str(tmp_path / "run")]) == 2
    (tmp_path / "w.safetensors").touch()
    assert main(["compare", str(tmp_path / "run"), str(tmp_path / "w.safetensors")]) == 2
    assert "name a prepared folder" in capsys.readouterr().err


def test_summary():
    console = Console(width=160, file=io.StringIO())
    console.print(compare(*two_tables(), bootstrap=20).summary())
    assert "p (DeLong)" in console.file.getvalue()
