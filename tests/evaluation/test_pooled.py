"""One threshold for many sources, on numbers that can be checked by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from sficonv.errors import DataError
from sficonv.evaluation import evaluate, judge
from sficonv.evaluation.pooled import (
    VerdictCounts,
    balanced,
    count_verdicts,
    items_of,
    pooled,
    worst_source_threshold,
)
from sficonv.evaluation.report import write_report
from sficonv.evaluation.score_table import table_in_memory
from sficonv.evaluation.scores import read_scores


def rows(**sources: tuple[list[float], list[float]]) -> pd.DataFrame:
    """Scores of the reals and the fakes of each source; a video each."""
    parts = [
        {"dataset": name, "label": label, "p_fake": p}
        for name, kinds in sources.items()
        for label, scores in enumerate(kinds)
        for p in scores
    ]
    df = pd.DataFrame(parts)
    return df.assign(video_id=[f"v{n}" for n in range(len(df))])


HAND = rows(
    a=([0.1, 0.2, 0.3, 0.4], [0.35, 0.9]),
    b=([0.5, 0.8], [0.6, 0.85, 0.95, 0.99]),
    reals_only=([0.05], []),
)


def scores(df: pd.DataFrame = HAND):
    return read_scores(table_in_memory(df))[0]


def test_the_worst_source_sets_the_threshold():
    items = items_of(scores())
    # at most half: of a 2 of 4 (so above 0.2), of b 1 of 2 (above 0.5), of the single real none (above 0.05)
    assert worst_source_threshold(items, 0.5) == (np.nextafter(0.5, 1), "b")
    assert worst_source_threshold(items, 0.0) == (np.nextafter(0.8, 1), "b")
    assert worst_source_threshold(items[items["source"] == "a"], 0.25) == (np.nextafter(0.3, 1), "a")


def test_it_is_the_smallest_such_threshold():
    rng = np.random.default_rng(0)
    for _ in range(50):
        df = rows(a=(rng.random(37).tolist(), [0.5]), b=(rng.random(11).round(1).clip(0, 0.9).tolist(), []))
        items = items_of(scores(df))
        threshold, decides = worst_source_threshold(items, 0.1)
        reals = items[items["label"] == 0]

        def worst(at: float, reals: pd.DataFrame = reals) -> float:
            return (reals["p_fake"] >= at).groupby(reals["source"], observed=True).mean().max()

        assert worst(threshold) <= 0.1 < worst(np.nextafter(threshold, 0))
        assert decides in "ab"


def test_one_false_alarm_in_twenty_is_allowed_where_nothing_is_said():
    twenty = scores(rows(a=((np.arange(20) / 20).tolist(), [0.5])))
    items = items_of(twenty)
    assert worst_source_threshold(items) == worst_source_threshold(items, 0.05)
    assert (items.query("label == 0")["p_fake"] >= worst_source_threshold(items)[0]).sum() == 1
    assert worst_source_threshold(items_of(scores(rows(a=([0.1] * 18 + [0.7], [0.5]))))) == (
        np.nextafter(0.7, 1),  # of 19 not one
        "a",
    )
    found = pooled(twenty, level="frame")
    assert (found.wanted, found.threshold) == (0.05, worst_source_threshold(items, 0.05)[0])


def test_no_threshold_where_reals_score_one():
    items = items_of(scores(rows(a=([1.0, 1.0], [1.0]), b=([0.1], []))))
    with pytest.raises(DataError, match="2 real items of a score 1: no threshold"):
        worst_source_threshold(items, 0.1)
    with pytest.raises(DataError, match="real faces"):
        worst_source_threshold(items[items["label"] == 1], 0.1)
    with pytest.raises(ValueError, match="false_alarm_rate"):
        worst_source_threshold(items, 1.0)


def test_29_of_100_are_allowed_at_0_29():
    items = items_of(scores(rows(a=((np.arange(100) / 100).tolist(), [0.5]))))
    assert (items["p_fake"] >= worst_source_threshold(items, 0.29)[0]).sum() == 29


def test_labels_sources_and_methods_weigh_alike():
    df = HAND.assign(method=["real"] * 4 + ["FS", "DF"] + ["real"] * 2 + ["FS", "DF", "DF", "DF"] + ["real"])
    items = items_of(scores(df)).assign(weight=lambda table: balanced(table))
    by_label = items.groupby("label")["weight"].sum()
    assert by_label.tolist() == pytest.approx([0.5, 0.5])
    by_source = items.groupby(["label", "source"], observed=True)["weight"].sum()
    assert by_source.tolist() == pytest.approx([1 / 6] * 3 + [1 / 4] * 2)
    by_method = items[items["label"] == 1].groupby(["source", "method"], observed=True)["weight"].sum()
    assert by_method.tolist() == pytest.approx([1 / 8] * 4)


def test_verdicts_are_counted_per_source_and_method():
    reals, fakes = count_verdicts(items_of(scores()), threshold=0.8, low=0.5)
    assert reals == [
        VerdictCounts("a", "real", 4, 0, 0),
        VerdictCounts("b", "real", 2, 1, 1),
        VerdictCounts("reals_only", "real", 1, 0, 0),
    ]
    assert fakes == [VerdictCounts("a", "fake", 2, 1, 0), VerdictCounts("b", "fake", 4, 3, 1)]


def test_a_share_comes_with_wilsons_interval():
    interval = binomtest(27, 150).proportion_ci(method="wilson")
    assert VerdictCounts("x", "real", 150, 27).interval == pytest.approx((interval.low, interval.high))
    # Wilson's formula by hand, for 1 of 2: centre (p + z²/2n) / (1 + z²/n) = 0.5
    low, high = VerdictCounts("x", "real", 2, 1).interval
    assert (low + high) / 2 == pytest.approx(0.5)
    assert low == pytest.approx(0.0945, abs=1e-3)


def test_the_figure_that_counts_by_hand():
    found = pooled(scores(), level="frame", false_alarm_rate=0.5)
    assert (found.threshold, found.decides) == (np.nextafter(0.5, 1), "b")
    assert found.caught == {"a": 0.5, "b": 1.0}
    # Reals weigh 1/12 each in a, 1/6 in b, 1/3 alone; fakes 1/4 in a, 1/8 in b. Share of the reals below each
    # fake: .35: 3/12 + 1/3; .9 and above .8: all; .6: 4/12 + 1/6 + 1/3
    auc = (3 / 12 + 1 / 3) / 4 + 1 / 4 + (4 / 12 + 1 / 6 + 1 / 3) / 8 + 3 / 8
    assert found.auc == pytest.approx(auc)
    entry = found.to_dict()
    assert (entry["caught_mean"], entry["caught_worst"]) == (0.75, 0.5)
    assert entry["false_alarms"]["b"]["called_fake"] == 0.5


def test_a_source_of_many_items_weighs_no_more_than_one_of_few():
    good = rows(a=([0.1] * 2, [0.9] * 2), b=([0.6] * 2, [0.5] * 2))
    many = rows(a=([0.1] * 200, [0.9] * 200), b=([0.6] * 2, [0.5] * 2))
    assert pooled(scores(many), level="frame").auc == pytest.approx(pooled(scores(good), level="frame").auc)


def test_judge_adds_it_where_there_are_several_sources():
    result = judge(HAND, bootstrap=0)
    assert [one.level for one in result.pooled] == ["frame", "video"]
    assert result.to_dict()["pooled"][0]["decides"] == "b"
    assert judge(HAND[HAND["dataset"] == "a"], bootstrap=0).pooled == []
    only_fakes = judge(HAND[HAND["label"] == 1], bootstrap=0)
    assert only_fakes.pooled == []
    assert any("one threshold" in note for note in only_fakes.notes)


def test_evaluate_takes_several_folders_as_sources(small_faces, detectors, tmp_path, capsys):
    from sficonv.cli.app import main

    folders = [small_faces(tmp_path / name, videos=2, frames=1) for name in ("one", "two")]
    result = evaluate(detectors[0], folders, bootstrap=0, device="cpu")
    assert result.counts["frames"] == 8
    for level in result.pooled:
        assert [one.source for one in level.reals] == ["one", "two"]
    assert all(
        (tmp_path / name) in Path(p).parents for name, p in result.predictions[["dataset", "path"]].values
    )
    assert any(warning.startswith("two: ") for warning in result.warnings)
    page = write_report(result, tmp_path / "page.html").read_text()
    assert "One threshold for all sources: videos" in page
    assert "worst source" in page
    command = ["evaluate", "--weights", str(detectors[0]), "--data", str([str(f) for f in folders])]
    assert main([*command, "--bootstrap", "0", "--device", "cpu"]) == 0
    assert "worst source" in capsys.readouterr().out
