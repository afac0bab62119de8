"""fold(): the same outputs from fewer layers."""

import operator

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sficonv.conversion.convert import convert
from sficonv.conversion.fold import fold
from sficonv.models import create_model
from sficonv.nn import MCSConv, SFIBatchNorm2d, SFIConv2d, constrain


@torch.no_grad()
def lived_in(model: nn.Module) -> nn.Module:
    """Norms with statistics, scales and shifts as after training: a fold that ignores one of them shows."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.3
            if module.affine:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    model.train()
    model(torch.randn(4, 3, 64, 64))
    return model.eval()


def relative_difference(model: nn.Module, folded: nn.Module, height: int = 64, width: int = 64) -> float:
    torch.manual_seed(1)
    x = torch.randn(2, 3, height, width).to(next(model.parameters()).dtype)
    with torch.inference_mode():
        expected, given = model(x), folded(x)
    assert expected.abs().max() > 1e-3
    return float((expected - given).abs().max() / expected.abs().max())


def norms_of(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize(
    ("name", "alpha", "beta"),
    [
        ("resnet26", 0.5, 1.0), ("resnet26", 0.5, 0.5), ("resnet26", 0.25, 0.75), ("resnet26", 1.0, 1.0),
        ("mobilenetv1", 0.5, 1.0), ("mobilenetv1", 0.25, 0.5), ("mobilenetv1", 1.0, 0.75),
        ("efficientnet_lite0", 0.25, 1.0), ("efficientnet_lite0", 1.0, 0.5),
        ("efficientnet_lite0", 0.5, 0.75), ("vgg13", 0.5, 1.0), ("vgg13", 0.5, 0.5), ("vgg13", 0.25, 0.75),
    ],
)  # fmt: skip
def test_same_outputs_without_norms(name, alpha, beta):
    torch.manual_seed(0)
    model = lived_in(create_model(f"sfic_{name}", alpha=alpha, beta=beta))
    folded = fold(model)
    assert relative_difference(model, folded) < 1e-4
    assert relative_difference(model, folded, 63, 49) < 1e-4
    assert not norms_of(folded)
    assert folded.folding.norms == len(norms_of(model))
    assert folded.folding.norms_kept == ()
    assert folded.folding.mcs == 1


@pytest.mark.parametrize("name", ["resnet26", "vgg13", "mobilenetv1", "efficientnet_lite0"])
def test_vanilla_models_fold_too(name):
    torch.manual_seed(0)
    model = lived_in(create_model(name))
    folded = fold(model)
    assert relative_difference(model, folded) < 1e-4
    assert not norms_of(folded)
    assert folded.folding.mcs == 0


@pytest.mark.parametrize("name", ["dla34", "efficientnet_b0", "regnetx_002", "nfnet_l0"])
def test_converted_timm_models(name):
    """Concatenations (reordered kernels), gates, groups and standardised kernels."""
    torch.manual_seed(0)
    vanilla = timm.create_model(name, num_classes=2)
    nn.init.normal_(vanilla.get_classifier().weight, std=0.1)
    model = lived_in(convert(vanilla, 0.25, 0.75, input_size=(3, 64, 64)))
    assert relative_difference(model, fold(model)) < 1e-4
    model = model.double()
    assert relative_difference(model, fold(model)) < 1e-9


def test_the_norms_that_read_a_concatenation_stay():
    model = lived_in(timm.create_model("densenet121", num_classes=2))
    folded = fold(model)
    assert relative_difference(model, folded) < 1e-4
    assert folded.folding.norms + len(folded.folding.norms_kept) == len(norms_of(model))
    assert "features.denseblock1.denselayer1.norm1" in folded.folding.norms_kept
    assert len(norms_of(folded)) == len(folded.folding.norms_kept)


def test_the_original_is_left_alone():
    model = lived_in(create_model("sfic_resnet26", beta=0.5)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    folded = fold(model)
    assert model.training and not folded.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert any(isinstance(m, SFIBatchNorm2d) for m in model.modules())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in folded.parameters()}


def test_nothing_of_training_is_left():
    folded = fold(create_model("sfic_efficientnet_lite0", beta=0.5))
    assert not any(p.requires_grad for p in folded.parameters())
    assert folded.folding.dropped > 0
    assert not any(isinstance(m, nn.Identity | nn.Dropout) for m in folded.modules())
    (mcs,) = [m for m in folded.modules() if isinstance(m, MCSConv)]
    assert mcs.mode == "fixed"
    assert torch.allclose(constrain(mcs.weight), mcs.weight, atol=1e-6)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(folded.train()(x), folded.eval()(x))


def test_config_and_report_survive_a_copy():
    import copy

    folded = fold(create_model("sfic_resnet26", alpha=0.25, beta=0.5))
    again = copy.deepcopy(folded)
    assert again.config == folded.config
    assert again.config.options["alpha"] == 0.25
    assert again.folding == folded.folding
    twice = fold(folded)
    assert twice.folding.norms == 0
    assert relative_difference(folded, twice) < 1e-6


class Corners(nn.Module):
    """Convolutions whose norm must not be folded, and one whose must."""

    def __init__(self) -> None:
        super().__init__()
        self.good, self.good_norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.read_twice, self.read_twice_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.shared, self.shared_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.derived, self.derived_norm = weight_norm(nn.Conv2d(8, 8, 1)), nn.BatchNorm2d(8)
        self.batch, self.batch_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, track_running_stats=False)
        self.plain, self.plain_norm = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8, affine=False)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.good_norm(self.good(x))
        y = self.read_twice(x)
        x = self.read_twice_norm(y) + y
        x = self.shared(self.shared_norm(self.shared(x)))
        x = self.derived_norm(self.derived(x))
        x = self.batch_norm(self.batch(x))
        x = self.plain_norm(self.plain(x))
        return self.fc(x.mean((2, 3)))


def test_only_what_is_exact_is_folded():
    model = lived_in(Corners())
    folded = fold(model, input_size=(3, 64, 64))
    assert relative_difference(model, folded) < 1e-4
    assert folded.folding.norms == 2
    assert set(folded.folding.norms_kept) == {
        "read_twice_norm",
        "shared_norm",
        "derived_norm",
        "batch_norm",
    }


def test_branches_reach_the_next_layer_without_a_detour():
    """Below beta = 1 a folded norm without an activation leaves the branches of its convolution."""
    folded = fold(create_model("sfic_vgg13", beta=0.5))
    layers = [n for n in folded.graph.nodes if n.op == "call_module"]
    assert sum(isinstance(folded.get_submodule(n.target), SFIConv2d) for n in layers) > 5
    assert all(
        user.target in (operator.getitem, "output") or user.op == "call_module" or callable(user.target)
        for n in layers
        for user in n.users
    )
    folded.graph.lint()


def test_half_precision_stays_half():
    folded = fold(lived_in(create_model("sfic_resnet26")).bfloat16())
    assert {p.dtype for p in folded.parameters()} == {torch.bfloat16}
    assert folded(torch.randn(1, 3, 64, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_model_that_cannot_be_traced_says_so():
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="Odd cannot be traced"):
        fold(Odd())


def test_the_parts_of_a_folded_kernel_are_not_copied_at_every_call():
    """On the CPU branches travel channels-last, and a convolution copies a kernel that does not."""
    folded = fold(create_model("sfic_resnet26", alpha=0.5, beta=0.5).eval())
    layers = [m for m in folded.modules() if isinstance(m, SFIConv2d) and m.stage == 2]
    kernels = [p for layer in layers for p in layer.parts() if p is not None and p.ndim == 4]
    assert len(kernels) > 20
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
