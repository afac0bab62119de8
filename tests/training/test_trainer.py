"""How a run computes and what it logs: precision, TensorBoard, speed."""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sficonv.datasets.crops import FaceCrops
from sficonv.errors import SficonvError
from sficonv.training import TrainResult

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    with pytest.raises(ValueError, match="accelerator 'gpu' with devices 1 cannot be used here"):
        run(make_prepared(), accelerator="gpu")


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
    if importlib.util.find_spec("tensorboard") is not None:
        pytest.skip("it is installed")
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
