"""How long the trainings of a plan may take.

Their operations are counted, and one small network is timed: to time each network of a table takes minutes.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from sficonv.models import create_model
from sficonv.models.losses import training_losses
from sficonv.nn import complexity
from sficonv.paper.tables.plan import Plan, Training

TIMED = "resnet26"
STEP = 3
"""A training step costs as much as so many forward passes: one onward and two back."""


def estimate(plan: Plan, device: str) -> Plan:
    """The plan with a rough time of each training that is not finished.

    Args:
        plan: The plan.
        device: `"cpu"`, `"cuda"`, ...
    """
    left = [t for t in plan.trainings if any((t.folder, seed) not in plan.finished for seed in plan.seeds)]
    if not left:
        return plan
    speed = macs_per_second(device)
    return replace(plan, seconds={training.folder: macs(training) / speed for training in left})


def macs(training: Training) -> float:
    """Multiply-accumulates of a training with its validations and tests."""
    recipe = training.budget.recipe
    trained = training.steps * recipe.batch_size * training.network.frames
    judged = recipe.epochs * int((training.data.rows["split"] == "val").sum())
    judged += sum(len(test.rows) for _, test in training.tests)
    return training.network.macs * (STEP * trained + judged)


def macs_per_second(device: str) -> float:
    """What a device does in training steps of one small network, counted as in `macs`."""
    images, side, rounds = (4, 64, 3) if device == "cpu" else (32, 256, 6)
    model = create_model(TIMED).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    x = torch.randn(images, 3, side, side, device=device)
    labels = torch.arange(images, device=device) % 2
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.stack(list(training_losses(model, x, labels).values())).sum().backward()
        optimizer.step()
        if device != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
    return STEP * images * complexity(model, side).macs / min(times[1:])
