"""Every registered model, by one set of tests; what is expected of each stands in every_model.yaml."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from sficonv.models import create_model, list_models, load_weights, save_weights
from sficonv.models.losses import training_losses
from sficonv.nn import complexity

EXPECTED = yaml.safe_load(Path(__file__).with_name("every_model.yaml").read_text())
NAMES = sorted(EXPECTED)
LONG = [pytest.param(n, marks=pytest.mark.slow) if "like" in EXPECTED[n] else n for n in NAMES]


def small(name):
    """The model at its test size, and eight images or clips whose labels can be seen in their brightness."""
    torch.manual_seed(0)
    side = EXPECTED[name].get("test_size", 32)
    labels = torch.arange(8) % 2
    model = create_model(name, image_size=side, **EXPECTED[name].get("options", {}))
    frames = (model.config.frames,) if model.config.frames > 1 else ()
    x = torch.randn(8, *frames, 3, side, side)
    return model, x + labels.view(8, *[1] * (x.ndim - 1)), labels


def test_each_registered_model_has_an_entry():
    assert list_models() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_complexity_is_as_stated(name):
    with torch.device("meta"):
        model = create_model(name)
    assert (model.config.name, model.config.num_classes) == (name, 2)
    assert model.config.image_size == EXPECTED[name].get("image_size", 256)
    cost = complexity(model, model.config.image_size)
    assert (cost.params, cost.paper_macs) == (EXPECTED[name]["params"], EXPECTED[name]["paper_macs"])


@pytest.mark.parametrize("name", LONG)
def test_learns_eight_images_and_survives_saving(name, tmp_path):
    model, x, labels = small(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    history = []
    for _ in range(5):
        torch.manual_seed(
            1
        )  # the same features are dropped in every step, or their noise hides what is learnt
        loss = torch.stack(list(training_losses(model, x, labels).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        without = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, "distributed training needs a gradient for every parameter"
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0]

    loaded, card = load_weights(save_weights(tmp_path / "w", model))
    assert (card["model"], card["labels"]) == (name, ["real", "fake"])
    assert loaded.config == model.config
    with torch.no_grad():
        logits = model.eval()(x)
        assert torch.equal(loaded(x), logits)
        if model.config.frames > 1:  # a single image is a clip of one frame
            torch.testing.assert_close(model(x[:, 0]), model(x[:, :1]))
    assert logits.shape == (8, 2)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_is_refused_by_name(name):
    side = EXPECTED[name].get("test_size", 32)
    with torch.device("meta"):
        model = create_model(name, image_size=side)
        wrong = [torch.empty(1, 1, side, side), torch.empty(3, side, side), torch.empty(1, 3, side, 16)]
        if model.config.fixed_size:
            wrong.append(torch.empty(1, 3, 2 * side, 2 * side))
    for x in wrong:
        with pytest.raises(ValueError, match=rf"^{name} takes images \(B, 3, .*got \({len(x)}, "):
            model(x)


@pytest.mark.parametrize("name", LONG)
def test_onnx_gives_the_same_logits(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x, _ = small(name)
    model.eval()
    inputs = [x]
    if model.config.frames > 1:
        inputs.append(torch.arange(x.shape[1]) <= torch.arange(8)[:, None])  # from one frame to all
    batch, file = torch.export.Dim("batch"), tmp_path / "model.onnx"
    torch.onnx.export(
        model, tuple(i[:2] for i in inputs), file, dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=tuple({0: batch} for _ in inputs),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = model(*(i[:3] for i in inputs)).numpy()
    names = [i.name for i in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (i[:3].numpy() for i in inputs), strict=True)))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
