"""Synchronised batch norm: two processes compute what one computes on the whole batch."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from sficonv.conversion.convert import convert
from sficonv.conversion.synchronise import synchronise_norms
from sficonv.nn import SFIBatchNorm2d

WORKER = Path(__file__).parent / "gloo_worker.py"


def small_network(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))


def models() -> dict[str, nn.Module]:
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), BatchNormAct2d(8),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8),
    )  # fmt: skip
    return {
        "timm's norm with an activation": small_network(BatchNormAct2d(8)),
        "branches": convert(body, 0.5, 0.5, input_size=(3, 16, 16)),
    }


@pytest.mark.slow
def test_two_processes_compute_what_one_does_on_the_whole_batch(tmp_path):
    torch.manual_seed(1)
    given = {name: (model.train(), torch.randn(8, 3, 16, 16)) for name, model in models().items()}
    torch.save(given, tmp_path / "given.pt")
    run = [[sys.executable, str(WORKER), str(rank), str(tmp_path)] for rank in (0, 1)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in run]
    for worker in workers:
        _, errors = worker.communicate(timeout=280)
        assert worker.returncode == 0, errors
    found = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    for name, (model, x) in given.items():
        alone = copy.deepcopy(model)
        y = alone(x)
        y.square().sum().backward()
        parts = [f[name] for f in found]
        assert torch.allclose(torch.cat([p["y"] for p in parts]), y, atol=1e-4), name
        for part in parts:
            for key, value in alone.state_dict().items():
                assert torch.allclose(part["state"][key], value, atol=1e-5), f"{name}: {key}"
            for key, parameter in alone.named_parameters():
                assert torch.allclose(part["gradients"][key], parameter.grad, rtol=1e-3, atol=1e-3), (
                    f"{name}: {key}"
                )


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_one_process_computes_the_same_and_keeps_its_names(beta):
    for name in ("efficientnet_lite0", "resnet18"):
        model = convert(timm.create_model(name, num_classes=2), 0.5, beta, input_size=(3, 64, 64)).eval()
        x, keys = torch.randn(2, 3, 64, 64), list(model.state_dict())
        with torch.no_grad():
            before = model(x)
            after = synchronise_norms(model)(x)
        assert torch.allclose(after, before, atol=1e-5)
        assert list(model.state_dict()) == keys
        assert not [m for m in model.modules() if type(m) in (nn.BatchNorm2d, timm.layers.BatchNormAct2d)]


def test_a_norm_of_another_kind_is_refused_by_name():
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="1: Own cannot be synchronised"):
        synchronise_norms(nn.Sequential(nn.Conv2d(3, 3, 1), Own(3)))
    assert isinstance(SFIBatchNorm2d.from_norm(nn.BatchNorm2d(3), 0), SFIBatchNorm2d)
