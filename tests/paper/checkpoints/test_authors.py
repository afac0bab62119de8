"""Import of the authors' SFIC-ResNet checkpoints."""

import json
import pickle
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, fx

from sficonv.errors import WeightsError
from sficonv.models import create_model
from sficonv.paper.checkpoints.authors import import_state_dict, read_checkpoint


def authors_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state of an SFIC-ResNet under the release's names: the import, the other way round."""
    layers = {r.layer: r for r in model.report.layers if r.stage.startswith("Stage")}
    state: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        layer, _, rest = key.rpartition(".")
        conv = layer.removesuffix(".mcs").replace("bn", "conv").replace("downsample.1", "downsample.0")
        if conv not in layers:
            state[key] = value
            continue
        report, there = layers[conv], conv.replace("conv", "SFIC")
        spa, fre = (value[: report.spa_out], value[report.spa_out :]) if value.ndim else (value, value)
        if layer.endswith(".mcs"):
            for name in ("weight", "const_weight"):
                state[f"{there}.conv.MCSConv.{name}"] = value
            state[f"{there}.conv.MCSConv.bias"] = torch.zeros(len(value))
        elif layer != conv:
            state[f"{there}.bn_s.{rest}"] = spa
            if report.fre_out:
                state[f"{there}.bn_f.{rest}"] = fre
        elif report.stage == "Stage 1":
            state |= {f"{there}.conv.s2s.weight": spa, f"{there}.conv.f2f.weight": fre}
        elif report.stage == "Stage 3":
            border = report.spa_in
            state |= {
                f"{there}.conv.s2s.weight": value[:, :border],
                f"{there}.conv.f2f.weight": value[:, border:],
            }
        else:
            border = report.spa_in
            state |= {
                f"{there}.conv.s2s.weight": spa[:, :border],
                f"{there}.conv.f2s.weight": spa[:, border:],
            }
            state |= {
                f"{there}.conv.s2f.weight": fre[:, :border],
                f"{there}.conv.f2f.weight": fre[:, border:],
            }
    return state


@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
@pytest.mark.parametrize("name", ["sfic_resnet26", "sfic_resnet50"])
def test_round_trip(name, prefix):
    model = create_model(name)
    state = {prefix + k: v for k, v in authors_state(model).items()}
    assert any("SFIC2.conv.s2f" in k for k in state)
    back = import_state_dict(state)
    ours = model.state_dict()
    assert set(back) == set(ours)
    assert all(torch.equal(back[k], ours[k]) for k in ours)


def fill(name: str, shape: list[int]) -> np.ndarray:
    """The rule by which the reference state dict was filled (see the reference data's README)."""
    i = np.arange(int(np.prod(shape)) if shape else 1, dtype=np.uint64)
    h = (i * np.uint64(2654435761) + np.uint64(zlib.crc32(name.encode()))) * np.uint64(0x9E3779B97F4A7C15)
    u = (((h >> np.uint64(40)).astype(np.float64) / (1 << 24)) - 0.5).reshape(shape)
    if len(shape) == 4:
        u = u * np.sqrt(12) * np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
    elif len(shape) == 1 and name.endswith("weight"):
        u = 1 + 0.4 * u
    elif name.endswith("running_var"):
        u = 1 + 0.4 * (u + 0.5)
    elif len(shape) == 2:
        u = u * np.sqrt(12 / shape[1])
    else:
        u = 0.2 * u
    if name.endswith("MCSConv.weight"):
        u = u + 0.2
        u[:, :, 2, 2] = 0
        u /= u.sum((2, 3), keepdims=True)
        u[:, :, 2, 2] = -1
    return u


@pytest.mark.shared
def test_outputs_agree_with_the_release_stage_by_stage(shared):
    keys = json.loads((shared / "golden" / "sfic_resnet26.keys.json").read_text())
    reference = load_file(shared / "golden" / "sfic_resnet26.safetensors")
    model = create_model("sfic_resnet26").eval()
    model.load_state_dict(import_state_dict({k: torch.tensor(fill(k, s)).float() for k, s in keys.items()}))
    seen: dict[str, Tensor] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n):
            seen[n.name] = result = super().run_node(n)
            return result

    with torch.no_grad():
        logits = Recorder(model).run(reference["in/x"])
    wanted = {
        "maxpool": reference["out/maxpool"],
        **{
            f"layer{i}_1_act3": torch.cat((reference[f"out/layer{i}.spa"], reference[f"out/layer{i}.fre"]), 1)
            for i in (1, 2, 3)
        },
        "layer4_1_act3": reference["out/layer4"],
    }
    for name, tensor in wanted.items():
        assert float((seen[name] - tensor).norm() / tensor.norm()) < 1e-5, name
    assert float((logits - reference["out/logits"]).norm() / reference["out/logits"].norm()) < 1e-5


def test_reading_files(tmp_path):
    model = create_model("sfic_resnet26")
    for name in ("best.pkl", "best.pth"):
        torch.save({"module." + k: v for k, v in authors_state(model).items()}, tmp_path / name)
        assert torch.equal(read_checkpoint(tmp_path / name)["fc.weight"], model.fc.weight)
        assert torch.equal(
            read_checkpoint(tmp_path / name, fake_is_zero=True)["fc.weight"], model.fc.weight.flip(0)
        )


def test_refusals(tmp_path):
    with pytest.raises(WeightsError, match="not a checkpoint of the authors' SFIC-ResNet"):
        import_state_dict(create_model("resnet26").state_dict())
    (tmp_path / "code.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(WeightsError, match="refused"):
        read_checkpoint(tmp_path / "code.pkl")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_checkpoint(tmp_path / "list.pth")
