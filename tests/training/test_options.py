"""What a run may be told: options as objects or keywords, and what is chosen where nothing is said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sficonv.datasets.manifest import read_manifest, read_protocol, write_manifest
from sficonv.models import read_card
from sficonv.splits.split import drawn_splits
from sficonv.training import Hardware, Recipe, TrainOptions, TrainResult
from sficonv.training.choice import choose_start, ensure_splits
from sficonv.training.data import load_training_data
from sficonv.training.options import sort_changes
from sficonv.training.train import train

Make = Callable[..., Path]
FINETUNE, PAPER = Recipe.named("finetune"), Recipe.named("paper")


def test_keywords_go_to_the_object_that_has_them() -> None:
    recipe, options, hardware = sort_changes(
        {"lr": 0.5, "epochs": None, "patience": 3, "workers": 0}, PAPER, TrainOptions(), Hardware()
    )
    assert (recipe.lr, recipe.epochs, options.patience, hardware.workers) == (0.5, 20, 3, 0)


def test_a_misspelt_option_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(TypeError, match="no option 'epoch'; did you mean 'epochs'"):
        train("faces", epoch=3)


@pytest.mark.parametrize("name", ["steps_per_epoch", "patience", "save_every"])
def test_counts_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        TrainOptions(**{name: 0})


def test_weights_fix_the_model() -> None:
    with pytest.raises(ValueError, match="weights fix the model"):
        TrainOptions(weights="default", alpha=0.5)
    with pytest.raises(ValueError, match="not of 'resnet26'"):
        choose_start("resnet26", FINETUNE, TrainOptions(weights="default"))


def test_without_a_model_the_shipped_detector_is_fine_tuned_and_that_is_said() -> None:
    model, options, said = choose_start(None, FINETUNE, TrainOptions())
    assert (model, options.weights) == (read_card("default")["model"], "default")
    assert "the shipped detector" in said[0]
    assert choose_start(None, PAPER, TrainOptions())[0] == "sfic_resnet26"
    model, options, _ = choose_start(None, FINETUNE, TrainOptions(pretrained=True))
    assert (model, options.weights) == ("sfic_efficientnet_lite0", None)
    assert "--pretrained" in choose_start("resnet26", FINETUNE, TrainOptions())[2][1]


def test_data_without_splits_is_split_by_identity_and_the_new_manifest_named(make_prepared: Make) -> None:
    folder = make_prepared(splits=("",), videos=20)
    assert drawn_splits(folder) == folder
    (manifest,), said = ensure_splits([folder])
    protocol = read_protocol(manifest)
    assert protocol is not None and protocol.name == "identity"
    assert set(read_manifest(manifest)["split"]) == {"train", "val", "test"}
    assert any(str(manifest) in line for line in said)
    assert ensure_splits([manifest]) == ([manifest], [])
    assert drawn_splits(folder) == drawn_splits(manifest) == manifest
    write_manifest(folder, read_manifest(folder).iloc[1:])
    assert drawn_splits(folder) == folder, "drawn before the folder was prepared anew"


def test_training_data_without_validation_gives_some_of_its_people_for_it(make_prepared: Make) -> None:
    folder = make_prepared(splits=("train", "test"), videos=20)
    assert drawn_splits(folder) == folder
    (manifest,), said = ensure_splits([folder])
    rows, before = read_manifest(manifest), read_manifest(folder)
    assert "has no validation set" in said[0] and str(manifest) in said[1]
    assert drawn_splits(folder) == manifest
    data = load_training_data([manifest])
    assert not set(data.train["source_ids"]) & set(data.val["source_ids"])
    assert set(data.train["label"]) == set(data.val["label"]) == {0, 1}
    kept, tested = (set(table.loc[table["split"] == "test", "path"]) for table in (rows, before))
    assert kept == tested


def test_a_second_folder_may_bring_the_validation_set(make_prepared: Make) -> None:
    train_only, complete = make_prepared("a", splits=("train",)), make_prepared("b")
    assert ensure_splits([train_only, complete]) == ([train_only, complete], [])


def test_a_training_without_splits_runs_and_follows_the_same_ones(
    run: Callable[..., TrainResult], make_prepared: Make
) -> None:
    folder = make_prepared(splits=("",), videos=20, frames=1)
    first = run(folder, epochs=1)
    assert run(folder, epochs=1).card == first.card
    assert first.card["data"]["folders"][0]["protocol"]["name"] == "identity"


def test_a_small_validation_set_and_leaks_are_said(make_prepared: Make) -> None:
    folder = make_prepared(videos=1)
    data = load_training_data([folder])
    assert any("validation has 1 real and 1 fake videos" in text for text in data.warnings)
    assert data.summary["leaky"] is False
    assert load_training_data([make_prepared("big", videos=10)]).warnings == []
    rows = read_manifest(folder)
    write_manifest(folder, rows.assign(source_ids="1"))
    assert load_training_data([folder]).summary["leaky"] is True


def test_a_rate_that_vanishes_is_said() -> None:
    assert not PAPER.warnings()
    assert "from epoch 18 of 50 on it is below 1e-09" in Recipe.named("paper", epochs=50).warnings()[0]
