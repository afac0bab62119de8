"""Calibration of a detector on validation faces, from crops to the model card."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import beta

from sficonv.cli.app import main
from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.errors import DataError, WeightsError
from sficonv.evaluation import calibrate, evaluate
from sficonv.evaluation.calibrate import fit_calibration
from sficonv.models import create_model, save_weights
from sficonv.models.checkpoint import load_weights, read_calibration, read_card


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
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
            rows.append(
                {
                    "path": path, "label": number % 2, "dataset": "d",
                    "method": "DF" if number % 2 else "real", "compression": "",
                    "video_id": f"v{number}", "source_ids": str(number), "split": split,
                    "frame": k, "time": k / 25, "face": 0, "box": [0.0, 0.0, 64.0, 64.0],
                    "landmarks": [1.0] * 10,
                    "sha256": hashlib.sha256((root / path).read_bytes()).hexdigest(),
                }
            )  # fmt: skip
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


def test_rate_and_its_exact_interval():
    fitted = fit_calibration(scored(), false_alarm_rate=0.05)
    assert fitted.rates["fpr"] <= 0.05
    k = round(fitted.rates["fpr"] * 200)
    expected = (beta.ppf(0.025, k, 201 - k), beta.ppf(0.975, k + 1, 200 - k))
    assert (fitted.rates["fpr_low"], fitted.rates["fpr_high"]) == pytest.approx(expected)
    assert fitted.counts == {"real_videos": 200, "fake_videos": 150, "crops": 350, "unreadable": 0}


def test_a_rate_that_the_videos_cannot_show_is_said():
    assert fit_calibration(scored(), false_alarm_rate=0.05).notes == []
    (note,) = fit_calibration(scored(), false_alarm_rate=0.001).notes
    assert "200 real videos cannot show a false-alarm rate of 0.001" in note
    assert "0.018 (95 % interval)" in note  # 1 - 0.025 ** (1 / 200)


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
    assert read_calibration(card) == (fitted.temperature, fitted.uncertain)
    entry = card["calibration"]
    assert entry["threshold"] == fitted.threshold
    assert entry["real_videos"] == entry["fake_videos"] == 3
    assert entry["from"]["split"] == "val"
    load_weights(weights)

    result = evaluate(weights, folder, bootstrap=0, device="cpu")
    rates = pd.DataFrame(result.operating)
    assert rates["threshold"].tolist() == [0.5, fitted.threshold] * 2
    videos = result.predictions.groupby("video_id")[["label", "p_fake"]].mean()
    called = videos["p_fake"] >= fitted.threshold
    (row,) = [r for r in result.operating if r["level"] == "video" and r["threshold"] == fitted.threshold]
    assert row["fpr"] == called[videos["label"] == 0].mean()
    assert row["tpr"] == called[videos["label"] == 1].mean()
    # on the rows it was set on, the rate is what the card says
    val = evaluate(weights, folder, split="val", bootstrap=0, device="cpu")
    rate = next(r for r in val.operating if r["level"] == "video" and r["threshold"] == fitted.threshold)
    assert rate["fpr"] == pytest.approx(fitted.rates["fpr"])


def test_test_crops_are_never_opened(folder, weights, tmp_path):
    whole = calibrate(weights, folder, out=tmp_path / "a.safetensors", device="cpu")
    rows = read_manifest(folder)
    for path in rows.loc[rows["split"] == "val", "path"]:
        target = tmp_path / "val" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / path).read_bytes())
    write_manifest(tmp_path / "val", rows)
    alone = calibrate(weights, tmp_path / "val", out=tmp_path / "b.safetensors", device="cpu")
    assert (alone.threshold, alone.temperature) == (whole.threshold, whole.temperature)


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
    assert read_card(tmp_path / "new" / "copy.safetensors")["calibration"]["threshold"] == fitted.threshold
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
    assert "3 real videos cannot show" in shown
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["real_videos"] == 3
    assert main(["evaluate", "--weights", str(weights), "--data", str(folder), "--bootstrap", "5"]) == 0
    assert "reals called fake" in capsys.readouterr().out
