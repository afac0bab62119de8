"""Calibration of a detector on validation faces, from crops to the model card."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit
from scipy.stats import binomtest

from sficonv.card import read_calibration
from sficonv.cli.app import main
from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.errors import DataError, WeightsError
from sficonv.evaluation import calibrate, evaluate
from sficonv.evaluation.calibrate import fit_calibration
from sficonv.evaluation.platt import calibrated_scores
from sficonv.files import sha256_of
from sficonv.models import create_model, save_weights
from sficonv.models.checkpoint import load_weights, read_card


@pytest.fixture(scope="module")
def folder(tmp_path_factory, crop_row) -> Path:
    """Grey faces with noise, six videos in each of val and test, two crops each."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    (root / "crops").mkdir()
    rows = []
    for number, split in enumerate(["val"] * 6 + ["test"] * 6):
        for k in range(2):
            path = f"crops/{number}_{k}.png"
            pixels = rng.integers(0, 60 + 15 * number, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / path)
            told = {"dataset": "d", "method": "DF" if number % 2 else "real", "video_id": f"v{number}"}
            sha256 = sha256_of(root / path)
            rows.append(crop_row(number, path=path, split=split, frame=k, sha256=sha256, **told))
    write_manifest(root, pd.DataFrame(rows))
    return root


@pytest.fixture
def weights(tmp_path) -> Path:
    return save_weights(tmp_path / "run" / "weights", create_model("efficientnet_lite0"), {"data": {}})


def scored(reals: int = 200, fakes: int = 150, **columns) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1], [reals, fakes])
    p = 1 / (1 + np.exp(-2 * (rng.normal(size=len(label)) + 2 * label - 1)))
    ids = [f"v{row}" for row in range(len(label))]
    return pd.DataFrame({"video_id": ids, "label": label, "p_fake": p}).assign(**columns)


def sources(rng: np.random.Generator, **levels: tuple[float, int, int]) -> pd.DataFrame:
    """Scores of sources whose reals and fakes are equally far apart, each at a level of its own."""
    parts = []
    for source, (level, reals, fakes) in levels.items():
        label = np.repeat([0, 1], [reals, fakes])
        p = expit(rng.normal(size=len(label)) * 1.5 + 3 * label + level)
        ids = [f"{source}{n}" for n in range(len(label))]
        parts.append(pd.DataFrame({"video_id": ids, "label": label, "p_fake": p, "source": source}))
    return pd.concat(parts, ignore_index=True)


def judged(fitted, df: pd.DataFrame) -> pd.DataFrame:
    """The verdicts that a detector with this card gives."""
    found = calibrated_scores(df["p_fake"], fitted.calibration)
    return df.assign(p_fake=found, verdict=[fitted.calibration.verdict(p) for p in found])


def test_the_promise_of_the_card_holds_for_its_own_validation_videos():
    """In every draw, however small: rounding the band inwards broke it in three of four."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        df = sources(
            rng, a=(0, int(rng.integers(5, 60)), 20), b=(1, int(rng.integers(5, 60)), 9), c=(3, 7, 0)
        )
        fitted = fit_calibration(df, false_alarm_rate=0.1)
        found = judged(fitted, df)
        reals = found[found["label"] == 0]
        alarms = (reals["verdict"] == "fake").groupby(reals["source"]).mean()
        assert alarms.max() <= 0.1
        assert alarms.to_dict() == {one.source: one.share for one in fitted.reals}
        fakes = found[found["label"] == 1]
        missed = (fakes["verdict"] == "real").groupby(fakes["source"]).mean()
        assert missed.mean() <= 0.1 + 1e-9
        caught = (fakes["verdict"] == "fake").groupby(fakes["source"]).mean()
        assert caught.to_dict() == {one.source: one.share for one in fitted.fakes}


def test_no_lower_threshold_keeps_the_promise():
    df = sources(np.random.default_rng(0), a=(0, 200, 200), b=(2, 100, 50))
    fitted = fit_calibration(df, false_alarm_rate=0.05)
    assert fitted.decides == "b"
    reals = judged(fitted, df).query("label == 0 and source == 'b'")["p_fake"]
    assert (reals >= fitted.calibration.threshold - 2e-6).mean() > 0.05


def test_each_source_weighs_alike_whatever_its_size():
    rng = np.random.default_rng(1)
    df = sources(rng, a=(0, 50, 50), b=(2, 50, 50))
    many = pd.concat([df, *(df[df["source"] == "a"].assign(video_id=lambda r, k=k: r["video_id"] + f"_{k}")
                            for k in range(20))])  # fmt: skip
    few, flooded = fit_calibration(df).calibration, fit_calibration(many).calibration
    assert flooded.shift == pytest.approx(few.shift, abs=1e-3)
    assert flooded.uncertain == pytest.approx(few.uncertain, abs=1e-3)


def test_the_threshold_sits_at_a_readable_score():
    """Reals of the worst source at 0.99 and fakes at 0.995 (the new detector's own scale)."""
    df = sources(np.random.default_rng(0), a=(-2, 300, 300), b=(3, 300, 300))
    fitted = fit_calibration(df)
    assert np.quantile(df.query("label == 0 and source == 'b'")["p_fake"], 0.95) > 0.99
    assert 0.55 <= fitted.calibration.threshold < 0.95


def test_even_odds_are_never_called_fake():
    df = pd.DataFrame({"video_id": list("abcdefgh"), "label": [0] * 4 + [1] * 4,
                       "p_fake": [0.01, 0.02, 0.01, 0.02, 0.98, 0.99, 0.98, 0.99]})  # fmt: skip
    low, high = fit_calibration(df).calibration.uncertain
    assert low <= 0.45
    assert high >= 0.55


def test_wilson_intervals_and_counts():
    fitted = fit_calibration(scored(), false_alarm_rate=0.05)
    (reals,) = fitted.reals
    assert reals.share <= 0.05
    interval = binomtest(reals.fake, 200).proportion_ci(method="wilson")
    assert reals.interval == pytest.approx((interval.low, interval.high))
    assert fitted.counts == {"real_videos": 200, "fake_videos": 150, "crops": 350, "unreadable": 0}


def test_a_rate_that_the_videos_cannot_show_is_said():
    assert fit_calibration(scored(), false_alarm_rate=0.05).notes == []
    (note,) = fit_calibration(scored(), false_alarm_rate=0.001).notes
    assert "200 real videos of all cannot show a false-alarm rate of 0.001" in note
    assert "0.019 (95 % interval)" in note  # Wilson, none of 200


def test_rows_that_are_not_of_validation_are_refused():
    fit_calibration(scored(split="val"))
    with pytest.raises(DataError, match="validation split only.*test"):
        fit_calibration(scored(split=["val"] * 349 + ["test"]))


@pytest.mark.parametrize(("reals", "fakes", "missing"), [(5, 0, "fake faces"), (0, 5, "real faces")])
def test_both_labels_are_needed(reals, fakes, missing):
    with pytest.raises(DataError, match=f"there are no {missing}"):
        fit_calibration(scored(reals, fakes))


def test_the_card_gets_it_and_the_weights_stay(folder, weights):
    before = weights.read_bytes()
    fitted = calibrate(weights, folder, false_alarm_rate=0.1, device="cpu")
    assert weights.read_bytes() == before
    card = read_card(weights)
    assert card["data"] == {}
    assert read_calibration(card) == fitted.calibration
    entry = card["calibration"]
    threshold = fitted.calibration.threshold
    assert entry["threshold"] == threshold
    assert card["false_alarms"] == {"d": fitted.reals[0].entry()}
    assert card["caught"] == {"d": {"DF": fitted.fakes[0].entry()}}
    assert entry["real_videos"] == entry["fake_videos"] == 3
    assert entry["from"]["split"] == "val"
    load_weights(weights)

    result = evaluate(weights, folder, bootstrap=0, device="cpu")
    rates = pd.DataFrame(result.operating)
    assert rates["threshold"].tolist() == [0.5, threshold] * 2
    videos = result.predictions.groupby("video_id")[["label", "p_fake"]].mean()
    called = videos["p_fake"] >= threshold
    (row,) = [r for r in result.operating if r["level"] == "video" and r["threshold"] == threshold]
    assert row["fpr"] == called[videos["label"] == 0].mean()
    assert row["tpr"] == called[videos["label"] == 1].mean()
    # on the rows it was set on, the rate is what the card says
    val = evaluate(weights, folder, split="val", bootstrap=0, device="cpu")
    rate = next(r for r in val.operating if r["level"] == "video" and r["threshold"] == threshold)
    assert rate["fpr"] == pytest.approx(fitted.reals[0].share)


def test_test_crops_are_never_opened(folder, weights, tmp_path):
    whole = calibrate(weights, folder, out=tmp_path / "a.safetensors", device="cpu")
    rows = read_manifest(folder)
    for path in rows.loc[rows["split"] == "val", "path"]:
        target = tmp_path / "val" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / path).read_bytes())
    write_manifest(tmp_path / "val", rows)
    alone = calibrate(weights, tmp_path / "val", out=tmp_path / "b.safetensors", device="cpu")
    assert alone.calibration == whole.calibration


def test_footage_of_another_split_is_refused(folder, weights, tmp_path):
    rows = read_manifest(folder)
    rows.loc[rows["split"] == "test", "video_id"] = rows.loc[rows["split"] == "val", "video_id"].to_numpy()
    write_manifest(folder, rows, name="leaky.parquet")
    with pytest.raises(DataError, match="6 videos of the validation split are in another split too: v0"):
        calibrate(weights, folder / "leaky.parquet")
    write_manifest(folder, rows.assign(split="test"), name="only_test.parquet")
    with pytest.raises(DataError, match="no face crops in split 'val'"):
        calibrate(weights, folder / "only_test.parquet")


def test_out_writes_a_copy_and_the_shipped_detector_needs_it(folder, weights, tmp_path):
    card = weights.with_suffix(".json").read_text()
    fitted = calibrate(weights, folder, out=tmp_path / "new" / "copy.safetensors", device="cpu")
    assert weights.with_suffix(".json").read_text() == card
    assert fitted.card == str(tmp_path / "new" / "copy.json")
    assert read_calibration(read_card(tmp_path / "new" / "copy.safetensors")) == fitted.calibration
    load_weights(tmp_path / "new" / "copy.safetensors")
    with pytest.raises(WeightsError, match="--out"):
        calibrate("default", folder)
    with pytest.raises(ValueError, match="false_alarm_rate"):
        calibrate(weights, folder, false_alarm_rate=1.0)


def test_the_command(folder, weights, capsys):
    command = ["calibrate", "--weights", str(weights), "--data", str(folder), "--false-alarm-rate", "0.1"]
    assert main([*command, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "calibrated on 3 real and 3 fake videos" in shown
    assert "3 real videos of d cannot show" in shown
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["real_videos"] == 3
    assert main(["evaluate", "--weights", str(weights), "--data", str(folder), "--bootstrap", "5"]) == 0
    assert "reals called fake" in capsys.readouterr().out


def test_several_folders_are_sources_by_name(folder, weights, tmp_path, capsys):
    rows = read_manifest(folder)
    for name in ("one", "two"):
        shutil.copytree(folder / "crops", tmp_path / name / "crops")
        write_manifest(tmp_path / name, rows)
    folders = [str(tmp_path / name) for name in ("one", "two")]
    fitted = calibrate(weights, folders, device="cpu")
    assert [one.source for one in fitted.reals] == ["one", "two"]
    assert [entry["data"] for entry in read_card(weights)["calibration"]["from"]["folders"]] == folders
    assert main(["calibrate", "--weights", str(weights), "--data", str(folders), "--device", "cpu"]) == 0
    assert "one, DF: " in capsys.readouterr().out
    with pytest.raises(ValueError, match="name of its own"):
        calibrate(weights, [tmp_path / "one"] * 2)
