"""Training from tar shards, and from a manifest that names its protocol."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
from safetensors.torch import load_file

from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.datasets.shards import write_shards
from sficonv.errors import DataError
from sficonv.splits.split import split
from sficonv.training import train
from sficonv.training.recipes import Recipe

pytest.importorskip("webdataset", reason="needs the extra [shards]")


@pytest.fixture
def prepared(make_prepared: Callable[..., Path]) -> Path:
    """A prepared folder with the true hashes of its crops, as shards need them."""
    folder = make_prepared(frames=4)
    df = read_manifest(folder)
    hashes = [hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in df["path"]]
    write_manifest(folder, df.assign(sha256=hashes))
    return folder


@pytest.fixture
def run(tiny: str, tmp_path: Path) -> Callable[..., object]:
    def start(data: Path, out: str, **options: object) -> object:
        plan = Recipe.named("paper", epochs=3, batch_size=4, image_size=32, lr=0.01, seed=1)
        options = {"workers": 0, "accelerator": "cpu", "devices": 1, **options}
        return train(data, model=tiny, recipe=plan, out=tmp_path / out, **options)  # type: ignore[arg-type]

    return start


class PowerCut(pl.Callback):
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")


def test_a_run_from_shards_learns_what_the_files_teach(run: Callable[..., object], prepared: Path) -> None:
    shards = write_shards(prepared, shards=3)
    for path in prepared.glob("*.png"):
        path.unlink()  # the shards are all there is
    result = run(shards, "run")
    assert len(result.history) == 3  # type: ignore[attr-defined]
    assert result.history["train_loss"].iloc[-1] < result.history["train_loss"].iloc[0]  # type: ignore[attr-defined]
    [folder] = result.card["data"]["folders"]  # type: ignore[attr-defined]
    assert folder["name"] == "shards" and folder["crops"] == 48


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    run: Callable[..., object], prepared: Path, tmp_path: Path
) -> None:
    shards = write_shards(prepared, shards=3)
    run(shards, "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        run(shards, "stopped", callbacks=[PowerCut()])
    run(shards, "stopped")
    whole, stopped = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == stopped.keys() and all((whole[key] == stopped[key]).all() for key in whole)


def test_what_shards_cannot_do(run: Callable[..., object], prepared: Path) -> None:
    shards = write_shards(prepared, shards=2)
    with pytest.raises(DataError, match="train on the prepared folder itself"):
        run(shards, "run", extra_data=prepared)
    with pytest.raises(DataError, match="give either shards or files"):
        run([prepared, shards], "run")
    write_manifest(shards, read_manifest(shards).iloc[:-1])
    with pytest.raises(DataError, match="written for another manifest"):
        run(shards, "run")


def test_the_card_names_the_protocol(run: Callable[..., object], prepared: Path) -> None:
    write_manifest(prepared, read_manifest(prepared).assign(dataset="ffpp", method="Deepfakes"))
    leaky = split(prepared, protocol="paper", val_share=0.2)
    card = run(leaky.manifest, "run").card  # type: ignore[attr-defined]
    [folder] = card["data"]["folders"]
    assert folder["protocol"]["name"] == "paper" and folder["protocol"]["leaky"]
    assert any("LEAKY protocol 'paper'" in warning for warning in card["training"]["warnings"])
