"""Timing networks side by side: order, ratios, memory, and the `bench` verb. No test here judges a speed."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from torch import nn

from sficonv.paper import timing
from sficonv.paper.bench import bench
from sficonv.paper.timing import Ratio, Setting, interleave, matmul_ceiling, training_memory, work_of


def tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


class Clock:
    """A clock that only works move on, each by seconds of its own."""

    def __init__(self) -> None:
        self.now, self.order = 0.0, []

    def perf_counter(self) -> float:
        return self.now

    def work(self, name: str, seconds: float):
        def run() -> None:
            self.order.append(name)
            self.now += seconds

        return run


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_every_round_runs_every_work_in_turning_order(clock):
    times = interleave({"a": clock.work("a", 1.0), "b": clock.work("b", 2.0)}, rounds=3)
    assert times == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert "".join(clock.order) == "aabb" + "ab" + "ba" + "ab"  # once to warm up, once to see how long


def test_short_works_are_called_several_times_and_timed_per_call(clock):
    (seconds,) = interleave({"short": clock.work("short", 1e-3)}, rounds=1)["short"]
    assert seconds == pytest.approx(1e-3)
    assert len(clock.order) == 2 + 20  # 20 ms at least
    interleave({"shorter": clock.work("shorter", 0.0)}, rounds=1)
    assert clock.order.count("shorter") == 2 + 1000


def test_ratio_is_taken_within_rounds():
    noisy = Ratio.of([1.0, 20.0, 3.0, 40.0], [2.0, 40.0, 6.0, 80.0])
    assert (noisy.low, noisy.median, noisy.high) == (0.5, 0.5, 0.5)
    assert str(Ratio.of([1.0], [4.0])) == "0.25 [0.25, 0.25]"


def test_work_of_training_trains_and_of_inference_does_not():
    images = Setting().images(2, 8)
    for mode in ("inference", "training"):
        model = tiny()
        before = model[0].weight.clone()
        work_of(model, images, mode, Setting())()
        assert model.training is (mode == "training")
        assert torch.equal(model[0].weight, before) is (mode == "inference")


def test_setting_places_images_and_weights():
    setting = Setting(dtype="bf16", channels_last=True)
    images, model = setting.images(2, 8), setting.place(nn.Conv2d(3, 4, 3))
    assert torch.equal(images, setting.images(2, 8))
    for t in (images, model.weight):
        assert t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()
    with setting.precision():
        assert model(images).dtype == torch.bfloat16


def test_training_memory_counts_what_lives_at_once():
    def wide() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 1000, bias=False), nn.Linear(1000, 2))

    def deep() -> nn.Module:
        return nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(10)), tiny())

    parameters = sum(p.numel() * 4 for p in wide().parameters())
    # weights, gradients, two moments of Adam, and at most two more while it computes
    assert 4 * parameters <= training_memory(wide, 1, 8, Setting()) < 6.5 * parameters
    image = 4 * 3 * 32 * 32  # the input, and what each of ten convolutions keeps for its gradient
    more = training_memory(deep, 6, 32, Setting()) - training_memory(deep, 2, 32, Setting())
    assert 4 * 10 * image <= more <= 4 * 14 * image


def test_matmul_ceiling_is_two_operations_per_product_in_the_fastest_round(monkeypatch):
    def rounds(works, *, rounds, device):
        assert works["product"]().shape == (64, 64)
        return {"product": [0.5, 0.25, 1.0]}

    monkeypatch.setattr(timing, "interleave", rounds)
    assert matmul_ceiling("cpu", side=64) == 2 * 64**3 / 0.25


def test_bench_compares_with_the_same_downsampling():
    result = bench("mobilenetv1", alpha=0.5, beta=[1.0, 0.5], batch=[2], image_size=64, rounds=1, train=True)
    assert (result.model, result.downsample) == ("mobilenetv1", "avgpool")
    keys = [(r.beta, r.mode, r.batch) for r in result.rows]
    assert keys == [(1.0, "inference", 2), (0.5, "inference", 2), (1.0, "training", 2), (0.5, "training", 2)]
    for row in result.rows:
        assert row.ratio.median == pytest.approx(row.milliseconds / row.vanilla_milliseconds)
        assert row.images_per_second == pytest.approx(2000 / row.milliseconds)
        assert row.ceiling_fraction is None
        assert (row.memory_ratio is None) is (row.mode == "inference")
    assert 0.9 < result.rows[2].memory_ratio < 1.1
    console = Console(record=True, width=150, file=io.StringIO())
    console.print(result.summary())
    shown = console.export_text()
    assert "sfic_mobilenetv1 beside mobilenetv1, both downsampling by avgpool" in shown
    assert f"{result.rows[3].memory_ratio:.3f}" in shown and "64 px, fp32" in shown


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("has no sfic_ form", {"model": "resnet999"}),
        ("beta must be numbers", {"beta": "1,half"}),
        ("beta must lie", {"beta": "2"}),
        ("alpha must lie", {"alpha": 1.5}),
        ("batch must be positive", {"batch": "0"}),
        ("batch is empty", {"batch": []}),
        ("rounds must be positive", {"rounds": 0}),
        ("device='nowhere' is not there", {"device": "nowhere"}),
    ],
)
def test_errors_name_the_argument(argument, options):
    with pytest.raises(ValueError, match=argument):
        bench(**options)


def test_command_line_prints_json():
    command = [
        sys.executable, "-m", "sficonv", "bench", "--model", "mobilenetv1", "--beta", "0.5", "--batch", "1",
        "--image-size", "32", "--rounds", "1", "--channels-last", "--dtype", "bf16", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [r["beta"] for r in answer["rows"]] == [0.5]
    assert answer["setting"] == {"device": "cpu", "dtype": "bf16", "channels_last": True, "compile": False}
