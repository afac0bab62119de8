"""How a run computes and what it logs: precision, TensorBoard, speed."""

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from lightning.fabric.loggers import tensorboard
from safetensors.torch import load_file

from sficonv.datasets.crops import FaceCrops
from sficonv.errors import SficonvError
from sficonv.training import TrainResult, speed

Make = Callable[..., Path]


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


class Clock(pl.Callback):
    """A clock that only training steps and reading crops move on, by seconds of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, step: float, crop: float) -> None:
        self.now, self.step = 0.0, step
        read = FaceCrops.__getitem__

        def slow(crops: FaceCrops, key: int) -> object:
            self.now += crop
            return read(crops, key)

        monkeypatch.setattr(FaceCrops, "__getitem__", slow)
        monkeypatch.setattr(speed, "time", self)

    def perf_counter(self) -> float:
        return self.now

    def on_train_batch_start(self, *args: object) -> None:
        self.now += self.step


@pytest.mark.parametrize(
    ("step", "crop", "waiting", "speed_"),
    [(0.2, 0.0, 0.0, 10.0), (0.0, 0.1, 1.0, 10.0), (0.6, 0.1, 0.25, 2.5)],
)
def test_the_card_says_how_long_the_device_waited(
    run: Callable[..., TrainResult],
    make_prepared: Make,
    monkeypatch: pytest.MonkeyPatch,
    step: float,
    crop: float,
    waiting: float,
    speed_: float,
) -> None:
    """Four steps of two crops, of which the first is not counted."""
    clock = Clock(monkeypatch, step=step, crop=crop)
    found = run(make_prepared(), callbacks=[clock], batch_size=2, epochs=1).card["training"]["speed"]
    assert found == {
        "samples_per_second": speed_, "waiting_for_data": waiting, "devices": 1, "device": "cpu",
    }  # fmt: skip


def test_a_single_step_has_no_speed(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    data = make_prepared()
    one_step = run(data, "one", batch_size=8, epochs=1).card["training"]["speed"]
    assert one_step["samples_per_second"] is None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_compiled_model_trains_as_the_model_does(
    run: Callable[..., TrainResult], make_prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)  # its draws would be others
    data = make_prepared()
    plain, compiled = run(data, "plain"), run(data, "compiled", compile=True)
    pd.testing.assert_frame_equal(plain.history, compiled.history, rtol=1e-3)
    assert load_file(plain.weights).keys() == load_file(compiled.weights).keys()


def test_hardware_that_is_not_there_is_named(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    with pytest.raises(ValueError, match="accelerator 'gpu' with devices 1000 cannot be used here"):
        run(make_prepared(), accelerator="gpu", devices=1000)


def test_tensorboard_holds_the_history(
    run: Callable[..., TrainResult],
    make_prepared: Make,
    stop_at: Callable[[int], pl.Callback],
    tmp_path: Path,
) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra [tensorboard]"
    )
    data = make_prepared()
    with pytest.raises(RuntimeError, match="power cut"):
        run(data, tensorboard=True, callbacks=[stop_at(1)])
    history = run(data, tensorboard=True).history
    written = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    written.Reload()
    for name in ("train_loss", "lr", "val_loss", "val_auc_frame", "val_auc_video"):
        values = [event.value for event in written.Scalars(name)]
        assert values == pytest.approx(history[name].tolist())


def test_tensorboard_that_is_missing_is_named(
    run: Callable[..., TrainResult], make_prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):  # what Lightning asks
        monkeypatch.setattr(tensorboard, name, False)
    with pytest.raises(SficonvError, match=r"sficonv\[tensorboard\]"):
        run(make_prepared(), tensorboard=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience": 0}, "patience must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
    ],
)
def test_options_that_make_no_sense(
    run: Callable[..., TrainResult], make_prepared: Make, options: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        run(make_prepared(), **options)


def test_synchronised_norms_train_on_one_device_too(
    run: Callable[..., TrainResult], make_prepared: Make
) -> None:
    assert run(make_prepared(), sync_batchnorm=True).weights.is_file()
