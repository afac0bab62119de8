"""Training and judging a detector of clips: whole tracks in, one score for all frames of a clip."""

import pytest
import torch

from sficonv.datasets.manifest import read_manifest
from sficonv.errors import DataError
from sficonv.evaluation import evaluate
from sficonv.evaluation.predict import predict
from sficonv.models import create_model, save_weights
from sficonv.training import train
from sficonv.training.data import load_training_data, train_loader, val_loader
from sficonv.training.recipes import Recipe

OPTIONS = {"trunk": "mobilenetv1", "frames": 3}
SMALL = {"epochs": 1, "batch_size": 4, "image_size": 32, "workers": 0, "accelerator": "cpu", "devices": 1}


@pytest.fixture
def rows(make_prepared):
    return load_training_data([make_prepared(frames=5)])


def test_a_training_item_is_a_track_and_a_validation_item_a_clip(rows):
    recipe = Recipe.named("paper", batch_size=4, image_size=32)
    images, labels, indices = next(iter(train_loader(rows, recipe, frames=3)))
    assert images.shape == (4, 3, 3, 32, 32)
    assert sorted(labels.tolist()) == [0, 0, 1, 1]  # two videos of each label, each once
    assert (indices.diff(dim=1) == 1).all()
    seen = torch.cat([indices.flatten() for _, _, indices in val_loader(rows, recipe, workers=0, frames=3)])
    assert sorted(seen[seen >= 0].tolist()) == list(range(len(rows.val)))


def test_forgeries_made_during_training_are_no_clips(make_prepared, tmp_path):
    with pytest.raises((DataError, ValueError), match="self_blend=0"):
        train(
            make_prepared(),
            model="smil",
            recipe="finetune",
            model_options=OPTIONS,
            out=tmp_path / "run",
            **SMALL,
        )


def test_trains_and_judges_clips(make_prepared, tmp_path):
    folder = make_prepared(frames=5)
    result = train(folder, model="smil", recipe="paper", model_options=OPTIONS, out=tmp_path / "run", **SMALL)
    assert result.card["options"]["frames"] == 3
    assert 0 <= result.card["metrics"]["val_auc_video"] <= 1


def test_each_crop_has_the_score_of_its_clip(make_prepared):
    folder = make_prepared(frames=5, splits=("test",))
    df = read_manifest(folder).sample(frac=1, random_state=0)
    model = create_model("smil", **OPTIONS, image_size=32)
    scored = predict(model, df, folder, batch_size=4)
    assert scored["error"].eq("").all()
    for _, track in scored.sort_values("frame").groupby("video_id"):
        assert track["p_fake"].nunique() == 2
        assert track["p_fake"].iloc[:3].nunique() == 1
    one = predict(model, df, folder, batch_size=100)
    assert one["p_fake"].to_numpy() == pytest.approx(scored["p_fake"].to_numpy(), abs=1e-6)


def test_videos_are_judged_by_the_scores_of_their_clips(make_prepared, tmp_path):
    torch.manual_seed(0)
    folder = make_prepared(frames=5, splits=("test",), videos=4)
    model = create_model("smil", **OPTIONS, image_size=32).eval()
    scored = predict(model, read_manifest(folder), folder)
    weights = save_weights(tmp_path / "clips", model)
    found = evaluate(weights, folder, bootstrap=0, device="cpu")
    assert (found.counts["videos"], found.counts["frames"]) == (8, 40)
    videos = scored.groupby("video_id")[["label", "p_fake"]].mean()
    real, fake = (videos.loc[videos["label"] == label, "p_fake"].to_numpy() for label in (0, 1))
    assert found.video["auc"].value == pytest.approx((fake[:, None] > real).mean())


def test_an_unreadable_frame_costs_no_other(make_prepared):
    folder = make_prepared(frames=5, splits=("test",))
    df = read_manifest(folder)
    (folder / df["path"][1]).write_bytes(b"no image")
    model = create_model("smil", **OPTIONS, image_size=32)
    scored = predict(model, df, folder)
    assert scored["p_fake"].isna().tolist() == [row == 1 for row in range(len(df))]
    assert df["path"][1] in scored["error"][1]
