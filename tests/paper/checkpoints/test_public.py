"""Public checkpoints: each against a second computation that shares no code with the models."""

import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sficonv.errors import WeightsError
from sficonv.models import create_model, load_weights, save_weights
from sficonv.paper.checkpoints.public import import_meso, import_multitask

h5py = pytest.importorskip("h5py")


def keras_conv(x, kernel, bias, dilation=1):
    """Keras' Conv2D, padding "same", ReLU: `x` (h, w, in), `kernel` (kh, kw, in, out), in float64."""
    height, width, _ = x.shape
    kh, kw = kernel.shape[:2]
    pad = dilation * (kh // 2)
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    out = np.zeros((height, width, kernel.shape[3])) + bias
    for i in range(kh):
        for j in range(kw):
            out += x[i * dilation :, j * dilation :][:height, :width] @ kernel[i, j].astype(np.float64)
    return np.maximum(out, 0)


def keras_meso(weights, image):
    """The sigmoid's argument, from the layers of `MesoInception4` in the authors' classifiers.py."""
    w = {name: {k.split("/")[-1][:-2]: v for k, v in layer.items()} for name, layer in weights.items()}

    def conv(x, number, dilation=1):
        layer = w[f"conv2d_{number}"]
        return keras_conv(x, layer["kernel"], layer["bias"], dilation)

    def norm(x, number):
        n = w[f"batch_normalization_{number}"]
        return (x - n["moving_mean"]) / np.sqrt(n["moving_variance"] + 1e-3) * n["gamma"] + n["beta"]

    def pool(x, size):
        h, width, c = x.shape
        return x.reshape(h // size, size, width // size, size, c).max((1, 3))

    def inception(x, first):
        branches = [conv(x, first)]
        for i, dilation in enumerate((1, 2, 3)):
            branches.append(conv(conv(x, first + 2 * i + 1), first + 2 * i + 2, dilation))
        return np.concatenate(branches, axis=-1)

    x = image.astype(np.float64) / 255
    x = pool(norm(inception(x, 1), 1), 2)
    x = pool(norm(inception(x, 8), 2), 2)
    x = pool(norm(conv(x, 15), 3), 2)
    x = pool(norm(conv(x, 16), 4), 4)
    x = x.reshape(-1) @ w["dense_1"]["kernel"] + w["dense_1"]["bias"]
    x = np.where(x > 0, x, 0.1 * x)
    return (x @ w["dense_2"]["kernel"] + w["dense_2"]["bias"])[0]


def write_keras(path, side=256):
    """A file in the layout of the authors' weights, with random values."""
    rng = np.random.default_rng(0)
    shapes = {"conv2d_15": (5, 5, 12, 16), "conv2d_16": (5, 5, 16, 16), "dense_2": (16, 1)}
    shapes["dense_1"] = (16 * (side // 32) ** 2, 16)
    for first, c, (a, b, d, e) in ((1, 3, (1, 4, 4, 2)), (8, 11, (2, 4, 4, 2))):
        shapes[f"conv2d_{first}"] = (1, 1, c, a)
        for i, width in enumerate((b, d, e)):
            shapes[f"conv2d_{first + 2 * i + 1}"] = (1, 1, c, width)
            shapes[f"conv2d_{first + 2 * i + 2}"] = (3, 3, width, width)
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            file[f"{name}/{name}/kernel:0"] = rng.normal(0, 0.4, shape).astype(np.float32)
            file[f"{name}/{name}/bias:0"] = rng.normal(0, 0.2, shape[-1]).astype(np.float32)
        for number, width in enumerate((11, 12, 16, 16), start=1):
            name = f"batch_normalization_{number}"
            for kind in ("gamma", "beta", "moving_mean", "moving_variance"):
                low = 0.5 if kind in ("gamma", "moving_variance") else -0.5
                file[f"{name}/{name}/{kind}:0"] = rng.uniform(low, low + 1, width).astype(np.float32)
    return path


def read_keras(path):
    with h5py.File(path) as file:
        found = {name: {} for name in file}
        file.visititems(
            lambda key, item: (
                found[key.split("/")[0]].update({key: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def p_fake(model, images):
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.config.mean, model.config.std))
    with torch.no_grad():
        return model((x - mean) / std).softmax(1)[:, 1].double().numpy()


def noise(count, side=256):
    return list(np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def crops(shared):
    """Real and generated faces that lie beside the project."""
    cv2 = pytest.importorskip("cv2")
    found = sorted((shared / "data" / "ffhq_stylegan").rglob("*.jpg"))
    if not found:
        pytest.skip("no face crops in the shared data")
    images = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in (found[0], found[-1])]
    return [cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA) for image in images]


def test_keras_weights_give_what_the_layers_give(tmp_path):
    path = write_keras(tmp_path / "meso.h5")
    model, card = import_meso(path)
    assert model.config.options == {"variant": "keras"}
    assert "'real' as the higher class" in card["translated"][0]
    images = noise(2)
    wanted = [1 / (1 + np.exp(keras_meso(read_keras(path), image))) for image in images]  # 1 - sigmoid
    np.testing.assert_allclose(p_fake(model, images), wanted, rtol=1e-4)


@pytest.mark.shared
def test_published_keras_weights_on_real_crops(shared):
    path = shared / "golden" / "mesonet" / "MesoInception_DF.h5"
    images = crops(shared)
    z = np.array([keras_meso(read_keras(path), image) for image in images])
    model, _ = import_meso(path)
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits = model(x)
    np.testing.assert_allclose((logits[:, 0] - logits[:, 1]).numpy(), z, rtol=1e-3, atol=1e-3)


def port_forward(state, x):
    """Logits of the PyTorch port in its own class order, from its state dict alone."""

    def conv(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], **options)

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    for block in ("Incption1", "Incption2"):
        parts = [conv(x, f"{block}_conv1")]
        for i, dilation in ((2, 1), (3, 2), (4, 3)):
            y = conv(x, f"{block}_conv{i}_1")
            parts.append(conv(y, f"{block}_conv{i}_2", padding=dilation, dilation=dilation))
        x = F.max_pool2d(norm(torch.cat(parts, 1), f"{block}_bn"), 2)
    x = F.max_pool2d(norm(F.relu(conv(x, "conv1", padding=2)), "bn1"), 2)
    x = F.max_pool2d(norm(F.relu(conv(x, "conv2", padding=2)), "bn1"), 4)
    x = F.leaky_relu(F.linear(x.flatten(1), state["fc1.weight"], state["fc1.bias"]), 0.1)
    return F.linear(x, state["fc2.weight"], state["fc2.bias"])


def as_port(model):
    """Our port's state dict under the port's own names, for files made here."""
    names = {}
    for block in (1, 2):
        names[f"norm{block}"] = f"Incption{block}_bn"
        names[f"inception{block}.branches.0.0"] = f"Incption{block}_conv1"
        for branch in (1, 2, 3):
            for layer in (0, 1):
                names[f"inception{block}.branches.{branch}.{layer}"] = (
                    f"Incption{block}_conv{branch + 1}_{layer + 1}"
                )
    names["norm"] = "bn1"
    made = {}
    for key, value in model.state_dict().items():
        name, _, rest = key.rpartition(".")
        made[f"{names.get(name, name)}.{rest}"] = value
    return made


def test_port_checkpoint_keeps_its_function_and_swaps_its_classes(tmp_path):
    torch.manual_seed(0)
    source = create_model("meso_inception4")
    for module in source.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(as_port(source), tmp_path / "port.pth")
    model, card = import_meso(tmp_path / "port.pth")
    x = torch.randn(2, 3, 256, 256)
    with torch.no_grad():
        theirs = port_forward(as_port(source), x)
        torch.testing.assert_close(model(x), theirs.flip(1), rtol=1e-4, atol=1e-5)
    assert "1 = real" in card["translated"][0]


@pytest.mark.shared
def test_published_port_checkpoint_on_real_crops(shared):
    path = shared / "golden" / "mesonet" / "mesoinception.pth"
    model, _ = import_meso(path)
    images = crops(shared)
    x = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        theirs = port_forward(torch.load(path, weights_only=True, map_location="cpu"), x)
        torch.testing.assert_close(model(x), theirs.flip(1), rtol=1e-3, atol=1e-3)


def multitask_activity(state, x):
    """Activity of the latent's halves in the checkpoint's own order: altered, original."""
    for i, stride in zip(range(0, 27, 3), (1, 2, 1, 2, 1, 2, 1, 2, 1), strict=True):
        name = f"encoder.{i}"
        x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, 1)
        norm = [state[f"encoder.{i + 1}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        x = F.relu(F.batch_norm(x, *norm))
    return x.reshape(len(x), 2, -1).abs().mean(2), x


def multitask_decode(state, latent):
    for i, stride in zip(range(0, 12, 3), (1, 2, 1, 2), strict=True):
        latent = up(state, "shared", latent, i, stride)
    segmented = latent
    for i, stride in zip(range(0, 12, 3), (1, 2, 1, 2), strict=True):
        segmented = up(state, "segmenter", segmented, i, stride)
    return F.conv_transpose2d(segmented, state["segmenter.12.weight"], state["segmenter.12.bias"], 1, 1)


def up(state, part, x, i, stride):
    weight, bias = state[f"{part}.{i}.weight"], state[f"{part}.{i}.bias"]
    x = F.conv_transpose2d(x, weight, bias, stride, 1, stride - 1)
    norm = [state[f"{part}.{i + 1}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
    return F.relu(F.batch_norm(x, *norm))


def check_multitask(encoder, decoder, x):
    model, card = import_multitask(encoder, decoder)
    e, d = (torch.load(p, weights_only=True, map_location="cpu") for p in (encoder, decoder))
    with torch.no_grad():
        theirs, latent = multitask_activity(e, x)
        torch.testing.assert_close(model(x), theirs.flip(1), rtol=1e-3, atol=1e-5)
        altered = latent * (torch.arange(128) < 64).view(1, 128, 1, 1)  # what is decoded of a fake
        mine, _ = model.decode(model.encode(x), torch.ones(len(x), dtype=torch.int64), x.shape[-2:])
        torch.testing.assert_close(mine, multitask_decode(d, altered), rtol=1e-3, atol=1e-4)
    assert "1 = original" in card["translated"][0]


def test_multitask_checkpoint_keeps_its_function_and_swaps_its_halves(tmp_path):
    torch.manual_seed(0)
    source = create_model("multitask")
    state = source.state_dict()
    for part, keep in (("encoder", True), ("decoder", False)):
        chosen = {k: v for k, v in state.items() if k.startswith("encoder.") == keep}
        torch.save(chosen, tmp_path / f"{part}.pt")
    check_multitask(tmp_path / "encoder.pt", tmp_path / "decoder.pt", torch.randn(2, 3, 64, 64))


@pytest.mark.shared
def test_published_multitask_checkpoint_on_real_crops(shared):
    folder = shared / "golden" / "multitask"
    x = torch.from_numpy(np.stack(crops(shared))).permute(0, 3, 1, 2).float() / 255
    mean, std = create_model("multitask").config.mean, create_model("multitask").config.std
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    check_multitask(folder / "encoder_46.pt", folder / "decoder_46.pt", x)


def test_what_was_imported_can_be_saved_as_any_other(tmp_path):
    model, card = import_meso(write_keras(tmp_path / "meso.h5"))
    loaded, saved = load_weights(save_weights(tmp_path / "w", model, card))
    assert saved["translated"] == card["translated"]
    x = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


class Bomb:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.mkdir, (str(self.flag),)


def test_refusals(tmp_path):
    with pytest.raises(WeightsError, match="no such checkpoint"):
        import_meso(tmp_path / "none.h5")
    with pytest.raises(WeightsError, match="no such checkpoint"):
        import_multitask(tmp_path / "none.pt")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(WeightsError, match=r"text\.h5: not a readable file of Keras weights"):
        import_meso(tmp_path / "text.h5")
    write_keras(tmp_path / "small.h5", side=128)
    with pytest.raises(WeightsError, match="of another shape, such as classifier.2.weight"):
        import_meso(tmp_path / "small.h5")
    with h5py.File(write_keras(tmp_path / "more.h5"), "a") as file:
        file["conv2d_17/conv2d_17/kernel:0"] = np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(WeightsError, match="holds conv2d_17/kernel, which Meso-Inception-4 does not have"):
        import_meso(tmp_path / "more.h5")
    torch.save(create_model("meso_inception4").state_dict(), tmp_path / "encoder.pt")
    with pytest.raises(WeightsError, match="not weights of 'multitask'"):
        import_multitask(tmp_path / "encoder.pt")


@pytest.mark.parametrize("load", [import_meso, import_multitask])
def test_a_pickle_runs_no_code(load, tmp_path):
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "the-code-ran")))
    with pytest.raises(WeightsError, match="refused"):
        load(tmp_path / "bomb.pth")
    assert not (tmp_path / "the-code-ran").exists()
