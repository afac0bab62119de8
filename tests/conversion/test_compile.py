"""`torch.compile` on converted models: one graph, equal outputs, one compilation for all batch sizes."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from sficonv.conversion.convert import convert
from sficonv.conversion.fold import fold

POINTS = [(0.5, 1.0), (0.5, 0.5), (0.75, 0.25), (0.5, 0.75)]


def converted(alpha: float, beta: float) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16),
        nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1),
        nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    return convert(body, alpha, beta, input_size=(3, 32, 32))


def images(batch: int) -> torch.Tensor:
    x = torch.randn(batch, 3, 32, 32)
    torch._dynamo.mark_dynamic(x, 0)
    return x


@pytest.mark.parametrize(("alpha", "beta"), POINTS)
def test_inference_is_one_graph_for_all_batch_sizes(alpha, beta):
    torch._dynamo.reset()
    model = fold(converted(alpha, beta).eval())
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for batch in (2, 3, 7):
        x = images(batch)
        with torch.no_grad():
            assert torch.allclose(compiled(x), model(x), atol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.parametrize(("alpha", "beta"), POINTS)
def test_training_is_one_graph_with_the_same_gradients(alpha, beta):
    torch._dynamo.reset()
    model = converted(alpha, beta).train()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for batch in (2, 5):
        x = images(batch)
        found = []
        for run in (compiled, model):
            model.zero_grad()
            run(x).square().sum().backward()
            found.append([p.grad.clone() for p in model.parameters()])
        for a, b in zip(*found, strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)
    assert counter.frame_count == 1


@pytest.mark.slow
def test_inductor_gives_the_same_numbers():
    torch._dynamo.reset()
    model = fold(converted(0.5, 0.5).eval())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(torch.compile(model, fullgraph=True)(x), model(x), atol=1e-4)
