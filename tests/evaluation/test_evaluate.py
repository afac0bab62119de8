import hashlib
import io
import json
import math
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from sficonv.card import Calibration
from sficonv.datasets.manifest import manifest_hash, read_manifest, write_manifest
from sficonv.errors import DataError, WeightsError
from sficonv.evaluation import METRICS, evaluate, judge, predict
from sficonv.evaluation.score_table import score_file
from sficonv.models import create_model, save_weights
from sficonv.models.config import ModelConfig


class Brightness(nn.Module):
    """Calls bright faces fake: P(fake) = sigmoid(4 (2 mean - 1)), mean over the pixels in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.drop = nn.Dropout(0.9)
        self.config = ModelConfig("brightness", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        margin = self.gain * self.drop(x).mean((1, 2, 3))
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


def p_fake_of(grey: int, temperature: float = 1.0) -> float:
    return 1 / (1 + math.exp(-4 * (2 * grey / 255 - 1) / temperature))


def make_folder(root: Path, videos: list[dict], frames: int = 2, size: int = 32) -> pd.DataFrame:
    """A prepared folder whose crops are plain grey; `videos`: label, method, grey, split and so on."""
    rows = []
    for n, video in enumerate(videos):
        video = {"compression": "c23", "split": "test", "dataset": "ffpp", "name": f"{n:03}", **video}
        video_id = f"ffpp/{video['compression']}/{video['method']}/{video.pop('name')}"
        for k in range(frames):
            path = Path("crops") / f"{n:03}_{k}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (size, size), (video["grey"],) * 3).save(root / path)
            rows.append(
                {
                    "path": path.as_posix(), "label": video["label"], "dataset": video["dataset"],
                    "method": video["method"], "compression": video["compression"], "video_id": video_id,
                    "source_ids": f"{n:03}", "split": video["split"], "frame": k, "time": k / 25, "face": 0,
                    "box": [0.0, 0.0, 32.0, 32.0], "landmarks": [16.0] * 10,
                    "sha256": hashlib.sha256((root / path).read_bytes() + path.name.encode()).hexdigest(),
                }
            )  # fmt: skip
    df = pd.DataFrame(rows)
    write_manifest(root, df)
    return df


def videos_of(reals: list[int], fakes: dict[str, list[int]], **more: str) -> list[dict]:
    """Reals and fakes by their grey values."""
    return [{"label": 0, "method": "real", "grey": grey, **more} for grey in reals] + [
        {"label": 1, "method": method, "grey": grey, **more}
        for method, greys in fakes.items()
        for grey in greys
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fakes = {"Deepfakes": [90, 200, 220], "FaceSwap": [30, 150]}
    make_folder(tmp_path / "faces", videos_of([20, 60, 100, 140], fakes))
    return tmp_path / "faces"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The detector above as if it had been loaded; its card can be changed by the test."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"weights")
    card = {"model": "brightness", "data": {"folders": [{"name": "other", "manifest_sha256": "0" * 64}]}}
    module = import_module("sficonv.evaluation.evaluate")  # the package holds the function of this name
    monkeypatch.setattr(module, "resolve_weights", lambda path: file)
    monkeypatch.setattr(module, "load_weights", lambda path: (Brightness().eval(), card))
    return card


# Scores of crops


def test_predict_scores_every_crop_in_order_and_leaves_the_model_as_it_was(folder):
    df = read_manifest(folder)
    model = Brightness().train()
    model.drop.eval()
    scored = predict(model, df, folder, batch_size=4)
    greys = np.repeat([20, 60, 100, 140, 90, 200, 220, 30, 150], 2)
    assert scored["p_fake"].tolist() == pytest.approx([p_fake_of(grey) for grey in greys], abs=1e-5)
    assert scored["error"].eq("").all()
    assert scored["path"].tolist() == df["path"].tolist()
    assert model.training
    assert not model.drop.training
    assert "p_fake" not in df.columns


def test_predict_gives_the_same_scores_whatever_the_batch_and_the_workers(folder):
    df = read_manifest(folder).sample(frac=1, random_state=0)
    one = predict(Brightness(), df, folder, batch_size=1)
    many = predict(Brightness(), df, folder, batch_size=7, workers=1)
    np.testing.assert_allclose(one["p_fake"], many["p_fake"], rtol=1e-6)


def test_predict_takes_crops_of_different_sizes(folder):
    df = read_manifest(folder)
    Image.new("RGB", (50, 41), (200,) * 3).save(folder / df["path"][0])
    assert predict(Brightness(), df, folder)["p_fake"][0] == pytest.approx(p_fake_of(200), abs=1e-5)


def test_predict_divides_by_the_temperature(folder):
    df = read_manifest(folder)
    found = predict(Brightness(), df, folder, calibration=Calibration(temperature=2.0))
    assert found["p_fake"][0] == pytest.approx(p_fake_of(20, 2), abs=1e-5)


def test_predict_of_no_rows_and_of_bad_arguments(folder):
    df = read_manifest(folder)
    assert predict(Brightness(), df[:0], folder)["p_fake"].empty
    with pytest.raises(ValueError, match="batch_size"):
        predict(Brightness(), df, folder, batch_size=0)


def test_predict_works_with_a_registered_model(folder):
    df = read_manifest(folder)[:2]
    scored = predict(create_model("efficientnet_lite0"), df, folder)
    assert scored["p_fake"].between(0, 1).all()


# The whole evaluation


def test_figures_per_frame_video_and_method(folder, weights):
    result = evaluate("w.safetensors", folder, bootstrap=50)
    assert result.counts == {
        "frames": 18, "videos": 9, "real_frames": 8, "fake_frames": 10, "real_videos": 4, "fake_videos": 5,
        "unreadable": 0, "empty_videos": 0,
    }  # fmt: skip
    # reals 20 60 100 140 against fakes 90 200 220 30 150: 2 + 4 + 4 + 1 + 4 of 20 pairs
    assert result.video["auc"].value == result.frame["auc"].value == pytest.approx(15 / 20)
    assert result.video["auc"].low <= 0.75 <= result.video["auc"].high
    assert list(result.video) == list(METRICS)
    methods = result.per_method.set_index("method")
    assert methods.loc["Deepfakes", "video_auc"] == pytest.approx(10 / 12)
    assert methods.loc["FaceSwap", "video_auc"] == pytest.approx(5 / 8)
    assert methods.loc["FaceSwap", ["fake_videos", "real_videos", "fake_frames", "real_frames"]].tolist() == [
        2,
        4,
        4,
        8,
    ]
    assert any("only 4 real videos" in note for note in result.notes)
    assert result.warnings == []
    assert (result.model, result.split) == ("brightness", "test")


def test_same_command_gives_the_same_answer(folder, weights):
    assert evaluate("w", folder, bootstrap=20).to_json() == evaluate("w", folder, bootstrap=20).to_json()


def test_a_method_is_judged_against_the_reals_of_its_own_compression(tmp_path, weights):
    easy = videos_of([10, 20], {"Deepfakes": [200, 210]}, compression="c23")
    hard = videos_of([230, 240], {"Deepfakes": [100, 110]}, compression="c40")
    make_folder(tmp_path / "both", easy + hard)
    table = evaluate("w", tmp_path / "both", bootstrap=0).per_method.set_index("compression")
    assert table["video_auc"].to_dict() == {"c23": 1.0, "c40": 0.0}
    make_folder(tmp_path / "alone", videos_of([10, 20], {}, compression="c23") + hard[2:])
    result = evaluate("w", tmp_path / "alone", bootstrap=5)
    assert result.per_method["real_videos"].tolist() == [0]
    assert math.isnan(result.per_method["video_auc"][0])


def test_videos_of_the_same_folder_name_stay_apart(tmp_path, weights):
    same = videos_of([10, 20], {"Deepfakes": [200], "FaceSwap": [40]})
    make_folder(tmp_path, [{**video, "name": "000_003"} if video["label"] else video for video in same])
    result = evaluate("w", tmp_path, bootstrap=0)
    assert result.counts["fake_videos"] == 2


def test_temperature_of_the_card_is_applied(folder, weights):
    weights["calibration"] = {"temperature": 2.0, "uncertain": [0.4, 0.6]}
    result = evaluate("w", folder, bootstrap=0)
    assert result.predictions["p_fake"][0] == pytest.approx(p_fake_of(20, 2), abs=1e-5)
    assert result.provenance["calibration"]["temperature"] == 2.0


def test_a_temperature_that_makes_no_sense_is_refused(folder, weights):
    weights["calibration"] = {"temperature": 0}
    with pytest.raises(WeightsError, match="calibration.temperature must be"):
        evaluate("w", folder)


def test_unreadable_crops_are_left_out_and_counted(folder, weights):
    paths = read_manifest(folder)["path"]
    whole = (folder / paths[0]).read_bytes()
    (folder / paths[0]).write_bytes(whole[: len(whole) // 2])
    (folder / paths[3]).unlink()
    (folder / paths[5]).write_bytes(b"")
    result = evaluate("w", folder, bootstrap=5)
    assert result.counts["unreadable"] == 3
    assert result.counts["frames"] == 15
    assert result.counts["videos"] == 9
    assert "3 of 18 crops were left out" in result.warnings[0]
    assert Path(paths[0]).name in result.warnings[0]
    assert result.predictions["p_fake"].isna().sum() == 3
    assert result.predictions.loc[3, "error"]


def test_nothing_readable_is_an_error(folder, weights):
    for path in read_manifest(folder)["path"]:
        (folder / path).unlink()
    with pytest.raises(DataError, match="nothing to judge"):
        evaluate("w", folder)


def test_one_class_is_reported_not_raised(tmp_path, weights):
    make_folder(tmp_path, videos_of([10, 20], {}))
    result = evaluate("w", tmp_path, bootstrap=5)
    assert math.isnan(result.video["auc"].value)
    assert any("auc" in note and "no fake rows" in note for note in result.notes)
    assert json.loads(result.to_json())["video"]["auc"] == {"value": None, "low": None, "high": None}
    assert result.per_method.empty
    Console(quiet=True).print(result.summary())


def test_results_are_saved_and_can_be_judged_again(folder, weights, tmp_path):
    (folder / read_manifest(folder)["path"][0]).unlink()
    result = evaluate("w", folder, bootstrap=20, out=tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert saved["video"]["auc"]["value"] == result.video["auc"].value
    assert saved["counts"]["unreadable"] == 1
    assert saved["provenance"]["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert {"versions", "seed", "bootstrap", "rows_hash", "calibration"} <= set(saved["provenance"])
    again = evaluate(predictions=tmp_path / "out" / "predictions.parquet", bootstrap=20)
    assert again.video == result.video
    assert again.counts == result.counts


def test_summary_shows_the_figures_and_the_doubts(folder, weights):
    result = evaluate("w", folder, split="all", bootstrap=10)
    console = Console(width=160, file=io.StringIO())
    console.print(result.summary())
    text = console.file.getvalue()
    assert "brightness" in text
    assert "0.750 [" in text
    assert "FaceSwap" in text
    assert "only 4 real videos" in text


# What the weights may have seen


def test_splits_used_for_training_and_selection_are_said(tmp_path, weights):
    parts = [videos_of([10, 20], {"Deepfakes": [200]}, split=split) for split in ("train", "val", "test")]
    make_folder(tmp_path, sum(parts, []))
    weights["data"] = {
        "folders": [{"name": "faces", "manifest_sha256": manifest_hash(read_manifest(tmp_path))}]
    }
    assert evaluate("w", tmp_path, bootstrap=0).warnings == []
    (warning,) = evaluate("w", tmp_path, split="val", bootstrap=0).warnings
    assert "validation split" in warning
    assert "trained on this very folder" in warning
    both = evaluate("w", tmp_path, split="all", bootstrap=0)
    assert both.counts["videos"] == 9
    assert [word in " ".join(both.warnings) for word in ("training split", "validation split")] == [
        True,
        True,
    ]
    weights["data"] = {"folders": [{"name": "else", "manifest_sha256": "1" * 64}]}
    (warning,) = evaluate("w", tmp_path, split="train", bootstrap=0).warnings
    assert "for weights trained on this folder" in warning


def test_leaks_between_the_splits_are_said(tmp_path, weights):
    train = videos_of([10], {"Deepfakes": [200]}, split="train")
    df = make_folder(tmp_path, train + videos_of([20], {"Deepfakes": [210]}))
    assert evaluate("w", tmp_path, bootstrap=0).warnings == []
    df.loc[df["split"] == "test", "video_id"] = df.loc[df["split"] == "train", "video_id"].to_numpy()
    df.loc[df["split"] == "test", "source_ids"] = df.loc[df["split"] == "train", "source_ids"].to_numpy()
    write_manifest(tmp_path, df)
    text = " ".join(evaluate("w", tmp_path, bootstrap=0).warnings)
    assert "2 videos are in more than one split" in text
    assert "2 source identities are in more than one split" in text


def test_videos_and_crops_named_in_the_card_are_said(folder, weights):
    df = read_manifest(folder)
    weights["data"] = {
        "train": {"videos": [df["video_id"][0], "ffpp/c23/real/999"], "crops": [df["sha256"][5]]}
    }
    text = " ".join(evaluate("w", folder, bootstrap=0).warnings)
    assert (
        f"1 of 9 evaluated videos, such as {df['video_id'][0]}, are in the model card under data.train.videos"
        in text
    )
    assert "1 of 18 evaluated crops" in text


def test_a_card_without_its_data_is_said(folder, weights):
    del weights["data"]
    assert "overlap was not checked" in evaluate("w", folder, bootstrap=0).warnings[0]


# Bad usage


def test_an_empty_split_names_those_that_are_there(folder, weights):
    with pytest.raises(DataError, match="no face crops in split 'val'.*test: 18.*'all'"):
        evaluate("w", folder, split="val")


def test_arguments_are_checked(folder, weights):
    with pytest.raises(ValueError, match="split must be one of"):
        evaluate("w", folder, split="dev")
    with pytest.raises(ValueError, match="either data"):
        evaluate("w")
    with pytest.raises(ValueError, match="either data"):
        evaluate("w", folder, predictions="scores.csv")


def test_missing_weights_are_named(folder):
    with pytest.raises(WeightsError, match="nowhere"):
        evaluate("nowhere.safetensors", folder)


def test_end_to_end_with_weights_on_disk(folder, tmp_path):
    path = save_weights(tmp_path / "lite", create_model("efficientnet_lite0"), {})
    result = evaluate(path, folder, bootstrap=5, device="cpu")
    assert result.model == "efficientnet_lite0"
    assert 0 <= result.video["auc"].value <= 1
    again = evaluate(path, folder, bootstrap=5, device="cpu")
    assert again.to_json() == result.to_json()
    assert again.predictions.equals(result.predictions)


# Anybody's scores


def write_csv(file: Path, **columns: list) -> Path:
    pd.DataFrame(columns).to_csv(file, index=False)
    return file


def test_scores_of_another_detector(tmp_path):
    path = write_csv(
        tmp_path / "scores.csv", label=[0, 0, 0, 1, 1], p_fake=[0.1, 0.5, 0.4, 0.3, 0.9],
        video_id=["000", "000", "001", "002", "003"], method=["real", "real", "real", "DF", "NT"],
    )  # fmt: skip
    result = evaluate(predictions=path, bootstrap=10, out=tmp_path / "out")
    assert result.video["auc"].value == pytest.approx(2.5 / 4)
    assert result.frame["auc"].value == pytest.approx(4 / 6)
    assert sorted(result.predictions["video_id"].unique()) == ["000", "001", "002", "003"]
    assert result.per_method["method"].tolist() == ["DF", "NT"]
    assert result.weights is None
    assert (tmp_path / "out" / "predictions.parquet").is_file()


def test_scores_without_video_ids_say_so(tmp_path):
    result = evaluate(predictions=write_csv(tmp_path / "s.csv", label=[0, 1], p_fake=[0.1, 0.9]), bootstrap=5)
    assert result.counts["videos"] == 2
    assert "no column video_id" in result.warnings[0]
    assert result.per_method["method"].tolist() == ["fake"]


def test_repeated_rows_are_left_out_and_counted(tmp_path):
    path = write_csv(tmp_path / "s.csv", path=list("abbc"), label=[0, 1, 1, 1], p_fake=[0.1, 0.9, 0.9, 0.7])
    result = evaluate(predictions=path, bootstrap=0)
    assert result.counts["frames"] == 3  # another face of the same frame is not a repetition
    assert "1 rows repeat" in result.warnings[0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0, 1, 1], "p_fake": [0.1, None, 0.3]}, "row 1: p_fake must be a number"),
        ({"label": [0, 1], "p_fake": [0.1, 7.5]}, "row 1: p_fake must be a probability"),
        ({"label": [0, 3], "p_fake": [0.1, 0.5]}, "row 1: label must be 0"),
        ({"label": ["real", "fake"], "p_fake": [0.1, 0.5]}, "column label must hold numbers"),
        ({"label": [0, 1], "score": [0.1, 0.5]}, "no column p_fake; it has label, score"),
        ({"label": [], "p_fake": []}, "nothing to judge"),
        (
            {"label": [0, 1], "p_fake": [0.1, 0.5], "video_id": ["a", "a"]},
            "video 'a' has frames labelled real",
        ),
        ({"path": ["x.png", "y.png"], "label": [0, 1], "p_fake": [0.1, None]}, "row y.png: p_fake"),
    ],
)
def test_unusable_scores_are_named(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        evaluate(predictions=write_csv(tmp_path / "scores.csv", **columns))


def test_unusable_files_of_scores_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        score_file(tmp_path / "none.csv")
    for name in ("broken.parquet", "empty.csv", "scores.txt"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(DataError, match=name):
            score_file(tmp_path / name)


def test_a_model_that_answers_with_nan_is_not_left_out_silently(folder):
    model = Brightness()
    model.gain.data.fill_(math.nan)
    df = read_manifest(folder)
    with pytest.raises(DataError, match=r"crops/000_0\.png: p_fake must be a number"):
        judge(predict(model, df, folder))
