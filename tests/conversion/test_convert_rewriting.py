"""convert() on hand-written networks: one oddity each, at beta = 1 and below."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, BlurPool2d, DropPath, ScaledStdConv2d, StdConv2dSame
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import sficonv.conversion.branches
import sficonv.nn.sficonv
from sficonv.conversion.convert import convert
from sficonv.conversion.layout import Layout
from sficonv.nn import SFIConv2d


def conv(c_in: int, c_out: int, k: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, k, padding=options.pop("padding", k // 2), **options)


class Net(nn.Module):
    """Head, a convolution, the oddity, a convolution, global pooling, and a classifier."""

    def __init__(self, between=None, channels: int = 8, after: int = 8) -> None:
        super().__init__()
        self.head, self.first, self.last = conv(3, 6), conv(6, channels), conv(after, 8)
        self.body = conv(8, 8)
        self.between, self.classifier = between, nn.Linear(8, 2)

    def middle(self, x):
        return self.between(x)

    def forward(self, x):
        x = self.middle(F.relu(self.first(F.relu(self.head(x)))))
        return self.classifier(self.body(self.last(x)).mean((2, 3)))


def middle(function, **options):
    """A `Net` whose oddity is a function of the network and the value."""

    class Odd(Net):
        def middle(self, x):
            return function(self, x)

    return Odd(**options)


class ControlFlow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = conv(8, 8)

    def forward(self, x):
        return self.inner(x) if x.mean() > 0 else x


class Cached(nn.Module):
    def forward(self, x):
        return x + 1 if self.training else x + torch.ones(x.shape[1:], device=x.device)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        return x * self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()


def shuffle(net, x):
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def scaled(net, x):
    return x * net.scale + net.scale.view(1, -1, 1, 1)


def with_scale():
    net = middle(scaled)
    net.scale = nn.Parameter(torch.randn(8, 1, 1))
    return net


def in_place(net, x):
    y = net.between(x)
    y.mul_(0.3)  # nobody reads the result
    return y


def unread(change):
    """A change in place whose result nobody reads."""

    def oddity(net, x):
        y = x - 0.5
        change(net, y)
        return y

    return middle(oddity, between=nn.ReLU(inplace=True))


class OwnNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(8))
        self.register_buffer("var", torch.rand(8) + 0.5)

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.var, training=self.training)


class PoolAndBack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x):
        y, where = self.pool(x)
        return self.back(y, where, x.shape[-2:])


class OwnIdentity(nn.Identity):
    def forward(self, x):
        return 2 * x if x.sum() > 0 else 3 * x


NETS = {
    "in-place function": lambda: unread(lambda net, y: F.relu(y, inplace=True)),
    "in-place function by position": lambda: unread(lambda net, y: F.leaky_relu(y, 0.3, True)),
    "in-place function by name": lambda: unread(lambda net, y: torch.relu_(y)),
    "in-place module": lambda: unread(lambda net, y: net.between(y)),
    "constant that depends on the mode": lambda: middle(lambda net, x: x * (0.5 if net.training else 2)),
    "dropout without a module": lambda: middle(lambda net, x: F.alpha_dropout(x, 0.5, net.training)),
    "functional norm": lambda: Net(OwnNorm()),
    "tensor made by the code": lambda: middle(lambda net, x: x * torch.arange(8.0).view(1, 8, 1, 1)),
    "constant map": lambda: middle(
        lambda net, x: F.interpolate(x, (8, 8)) * torch.arange(64.0).view(8, 1, 8)
    ),
    "comparison": lambda: middle(lambda net, x: x * (x > 0.1)),
    "pooling with indices": lambda: Net(PoolAndBack()),
    "identity that is none": lambda: Net(OwnIdentity()),
    "shuffle": lambda: middle(shuffle),
    "chunk and cat": lambda: middle(lambda net, x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "cat": lambda: middle(lambda net, x: torch.cat([x, net.between(x)], 1), between=conv(8, 6), after=14),
    "cat, norm, depthwise": lambda: middle(
        lambda net, x: net.more(torch.cat([x, net.between(x)], 1)), between=conv(8, 6), after=14
    ),
    "cat with an image-like plain value": lambda: middle(
        lambda net, x: torch.cat([x, F.avg_pool2d(x, 3, 1, 1)], dim=-3), after=16
    ),
    "sum of two layouts": lambda: middle(
        lambda net, x: torch.cat([x, x], 1) + net.between(x), between=conv(8, 16), after=16
    ),
    "gate": lambda: Net(Gate()),
    "spatial attention": lambda: middle(lambda net, x: x * x.mean(1, keepdim=True).sigmoid()),
    "attention along one axis": lambda: middle(lambda net, x: x * x.mean(3, keepdim=True).sigmoid()),
    "layer scale": with_scale,
    "norm over channels": lambda: Net(nn.GroupNorm(2, 8)),
    "instance norm": lambda: Net(nn.InstanceNorm2d(8, affine=True)),
    "parametric activation": lambda: Net(nn.PReLU(8)),
    "norm with activation": lambda: Net(BatchNormAct2d(8)),
    "groups across the border": lambda: Net(conv(8, 12, groups=4), after=12),
    "two groups": lambda: Net(conv(8, 8, groups=2)),
    "unpadded": lambda: Net(conv(8, 8, 7, padding=0)),
    "one-sided kernel": lambda: Net(nn.Conv2d(8, 8, (1, 5), padding=(0, 2))),
    "padding given by name": lambda: Net(nn.Conv2d(8, 8, 3, padding="same")),
    "reflected padding": lambda: Net(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")),
    "padding by TensorFlow's rule": lambda: Net(Conv2dSame(8, 8, 3, stride=2)),
    "standardised weights": lambda: Net(StdConv2dSame(8, 8, 3, stride=2)),
    "standardised and scaled weights": lambda: Net(ScaledStdConv2d(8, 8, 3)),
    "standardised weights behind cat": lambda: middle(
        lambda net, x: net.between(torch.cat([x, x], 1)), between=ScaledStdConv2d(16, 8, 3)
    ),
    "weight normalisation": lambda: Net(weight_norm(conv(8, 8))),
    "blurred pooling": lambda: Net(BlurPool2d(8)),
    "pooling": lambda: Net(nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    "upsampling": lambda: Net(nn.Upsample(scale_factor=2, mode="nearest")),
    "interpolation to a size": lambda: middle(lambda net, x: F.interpolate(x, x.shape[-1] + 3)),
    "padding": lambda: middle(lambda net, x: F.pad(x, (0, 1, 0, 1))),
    "in-place operation": lambda: middle(in_place, between=conv(8, 8)),
    "control flow": lambda: Net(ControlFlow()),
    "another path in evaluation": lambda: Net(Cached()),
    "one norm called twice": lambda: middle(
        lambda net, x: torch.cat([net.between(x), net.between(x[:, [1, 0, 3, 2, 5, 4, 7, 6]])], 1),
        between=nn.Sequential(nn.BatchNorm2d(8), DropPath(0.1)),
        after=16,
    ),
    "one layer called twice": lambda: middle(lambda net, x: net.between(net.between(x)), between=conv(8, 8)),
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[name]()
    if name == "cat, norm, depthwise":
        net.more = nn.Sequential(nn.BatchNorm2d(14), conv(14, 14, groups=14), nn.BatchNorm2d(14))
        nn.init.normal_(net.more[0].running_mean)
        nn.init.uniform_(net.more[2].weight, 0.5, 2)
    return net


SIZE = (3, 20, 20)


@pytest.mark.parametrize("name", NETS)
def test_beta_1_is_the_original(name):
    net = build(name).eval()
    converted = convert(net, 0.5, 1, mcs_mode="none", input_size=SIZE)
    x = torch.randn(2, *SIZE)
    assert torch.allclose(converted(x), net(x), rtol=1e-4, atol=1e-6)
    assert converted.state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("alpha", [0.5, 0.3, 1])
def test_two_branches_of_one_resolution_are_the_original(name, alpha, monkeypatch):
    """With the resizing taken out, the two-branch graph has to compute what the vanilla one does."""
    for module in (sficonv.nn.sficonv, sficonv.conversion.branches):
        monkeypatch.setattr(module, "frequency_size", lambda size, beta: size)
    net = build(name).eval()
    converted = convert(net, alpha, 0.5, mcs_mode="none", input_size=SIZE)
    x = torch.randn(2, *SIZE)
    assert torch.allclose(converted(x), net(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_below_1_it_trains(name):
    net = build(name)
    converted = convert(net, 0.5, 0.3, input_size=SIZE)
    out = converted(torch.randn(2, 3, 19, 23))
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is not None for p in converted.parameters())
    assert any(r.stage == "Stage 2" for r in converted.report.layers)


@pytest.mark.parametrize(
    ("name", "layer", "stage", "note"),
    [
        ("shuffle", "last", "Stage 2", ""),
        ("cat", "last", "Stage 2", ""),
        ("standardised weights", "between", "Stage 2", ""),
        (
            "weight normalisation",
            "between",
            "vanilla",
            "ParametrizedConv2d computes in its own way",
        ),
        ("reflected padding", "between", "vanilla", "pads with padding_mode='reflect'"),
        ("one layer called twice", "between", "vanilla", "is called several times"),
        ("gate", "between.squeeze", "vanilla", "reads a pooled value"),
        ("control flow", "between.inner", "vanilla", "inside a module that cannot be traced"),
    ],
)
@pytest.mark.parametrize("beta", [1, 0.5])
def test_stages_and_notes(name, layer, stage, note, beta):
    report = convert(build(name), 0.5, beta, input_size=SIZE).report
    found = next(r for r in report.layers if r.layer == layer)
    assert (found.stage, found.note) == (stage, note)


def test_what_needs_all_channels_is_named():
    joined = convert(build("norm over channels"), 0.5, 0.5, input_size=SIZE).report.joined
    assert joined == ("between (GroupNorm)",)
    assert not convert(build("cat, norm, depthwise"), 0.5, 0.5, input_size=SIZE).report.joined


def test_columns_follow_a_concatenation():
    converted = convert(build("cat"), 0.5, 0.5, input_size=SIZE)
    last = converted.get_submodule("last")
    assert isinstance(last, SFIConv2d)
    assert last.columns.tolist() == [0, 1, 2, 3, 8, 9, 10, 4, 5, 6, 7, 11, 12, 13]


@pytest.mark.parametrize("name", ["cat, norm, depthwise", "standardised weights behind cat"])
def test_loading_before_is_loading_after(name):
    trained = build(name)
    with torch.no_grad():
        for p in trained.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    before = convert(trained, 0.5, 0.5, mcs_mode="none", input_size=SIZE).eval()
    after = convert(build(name), 0.5, 0.5, mcs_mode="none", input_size=SIZE).eval()
    after.load_state_dict(trained.state_dict())
    x = torch.randn(2, *SIZE)
    assert torch.equal(before(x), after(x))


def test_scattered_norm_learns_the_statistics_of_the_vanilla_one(monkeypatch):
    for module in (sficonv.nn.sficonv, sficonv.conversion.branches):
        monkeypatch.setattr(module, "frequency_size", lambda size, beta: size)
    net = build("cat, norm, depthwise")
    converted = convert(net, 0.5, 0.5, mcs_mode="none", input_size=SIZE)
    x = torch.randn(4, *SIZE)
    net(x), converted(x)
    for key, value in net.state_dict().items():
        assert torch.allclose(converted.state_dict()[key], value, rtol=1e-4, atol=1e-6), key


def test_drop_path_drops_both_branches_of_a_sample():
    net = middle(lambda net, x: net.between(x), between=DropPath(0.5))
    converted = convert(net, 0.5, 0.5, input_size=SIZE)
    seen = []
    converted.between.register_forward_hook(lambda module, args, out: seen.append(out))
    converted(torch.randn(64, *SIZE))
    spa, fre = (branch.flatten(1).abs().sum(1) == 0 for branch in seen[0])
    assert torch.equal(spa, fre)
    assert 0 < spa.sum() < 64
    converted.eval()(torch.randn(2, *SIZE))
    assert not (seen[1].spa.flatten(1).abs().sum(1) == 0).any()


def test_average_pooling_instead_of_a_stride_with_tensorflow_padding():
    net = build("padding by TensorFlow's rule")
    converted = convert(net, 0.5, 0.5, downsample="avgpool", input_size=SIZE)
    seen = []
    converted.between.register_forward_hook(lambda module, args, out: seen.append(out.spa.shape))
    converted(torch.randn(2, 3, 21, 20))
    assert seen == [(2, 4, 11, 10)]


class TwoHeads(Net):
    def __init__(self) -> None:
        super().__init__(conv(8, 8))
        self.auxiliary = conv(8, 2)

    def forward(self, x):
        x = self.between(self.first(self.head(x)))
        out = self.classifier(self.body(self.last(x)).mean((2, 3)))
        return (out, self.auxiliary(x).mean((2, 3))) if self.training else out


@pytest.mark.parametrize("training", [True, False])
def test_auxiliary_outputs_follow_the_mode(training):
    net = TwoHeads().train(training)
    converted = convert(net, 0.5, 0.5, input_size=SIZE)
    assert converted.state_dict().keys() - {"first.mcs.weight"} == net.state_dict().keys()
    x = torch.randn(2, *SIZE)
    assert len(converted.train()(x)) == 2
    assert isinstance(converted.train()(x), tuple)
    assert converted.eval()(x).shape == (2, 2)


def test_a_share_below_half_is_said():
    class Wide(Net):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.head = conv(3, 6, 31)

    with pytest.warns(UserWarning, match="of Wide's convolutions run as SFIConv"):
        convert(Wide(), input_size=SIZE)


def test_control_flow_of_the_model_itself_names_the_reason():
    class Odd(Net):
        def forward(self, x):
            return super().forward(x) if x.mean() > 0 else super().forward(-x)

    net = Odd(nn.Identity())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ValueError, match="Odd cannot be traced: symbolically traced variables"):
        convert(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(isinstance(m, SFIConv2d) for m in net.modules())


@pytest.mark.parametrize(
    "layout", [Layout.split(7, 3) + Layout.split(4, 1), Layout.split(5, 0), Layout.split(3, 3)]
)
def test_layout_orders_are_inverse(layout):
    assert [layout.order[i] for i in layout.inverse] == list(range(layout.channels))
    assert sorted(layout.order[layout.channels - layout.fre_channels :]) == [
        c for c in range(layout.channels) if layout.fre[c]
    ]


def test_groups_go_to_the_branch_of_most_of_their_channels():
    layout = Layout.split(12, 5)
    assert layout.of_groups(4) == (False, False, True, True)
    assert Layout.from_groups((False, True), 4).fre == (False, False, True, True)
