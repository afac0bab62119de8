"""What people hand to convert and fold: wrappers, frozen layers, hooks, layers that nobody calls."""

import copy
import pickle
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from sficonv.conversion.convert import convert
from sficonv.conversion.fold import fold

SIZE = (3, 32, 32)


class Net(nn.Module):
    """Four convolutions, one of them under a second name, and a layer and a parameter that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        )
        self.again, self.spare = self.body[1], nn.Conv2d(8, 8, 3)
        self.number = nn.Parameter(torch.ones(3))
        self.between = nn.Identity()
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.between(self.body(x)).mean((2, 3)))


def test_the_state_dict_has_also_what_the_network_never_calls():
    net = Net()
    for beta in (1, 0.5):
        converted = convert(net, 0.5, beta, mcs_mode="none", input_size=SIZE)
        assert converted.state_dict().keys() == net.state_dict().keys()
        converted.load_state_dict(net.state_dict())
        assert converted.again.weight is converted.get_submodule("body.1").weight
        assert pickle.loads(pickle.dumps(converted)).state_dict().keys() == net.state_dict().keys()
    assert "spare.weight" not in fold(net, input_size=SIZE).state_dict()


def test_tensors_that_the_code_makes_are_not_saved_but_move_with_the_model():
    class Scaled(Net):
        def forward(self, x):
            return self.head((self.body(x) * torch.arange(8.0).view(1, 8, 1, 1)).mean((2, 3)))

    converted = convert(Scaled(), 0.5, 0.5, mcs_mode="none", input_size=SIZE)
    assert converted.state_dict().keys() == Net().state_dict().keys()
    assert converted.double()(torch.ones(1, *SIZE, dtype=torch.double)).dtype == torch.double


def test_frozen_layers_stay_frozen_and_in_their_mode():
    net = Net().train().requires_grad_(False)
    net.body[2].eval()
    converted = convert(net, 0.5, 0.5, input_size=SIZE)
    assert not any(p.requires_grad for p in converted.parameters())
    assert converted.training and not converted.get_submodule("body.2").training


@pytest.mark.parametrize("beta", [1, 0.5])
def test_a_hook_sees_the_whole_value_once_or_is_said_to_be_left_out(beta):
    net, seen = Net(), []
    net.body[2].register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(net, 0.5, beta, input_size=SIZE)(torch.ones(2, *SIZE))
    assert seen == [8]
    net.body.register_forward_hook(lambda *_: seen.append("body"))
    with pytest.warns(UserWarning, match="the hook on 'body' is left out"):
        convert(net, 0.5, beta, input_size=SIZE)(torch.ones(2, *SIZE))
    assert "body" not in seen


def test_dropout_that_is_always_on_stays_on():
    class Always(Net):
        def forward(self, x):
            return self.head(F.dropout(self.body(x), 0.5).mean((2, 3)))

    x = torch.ones(2, *SIZE)
    for model in (convert(Always().eval(), 0.5, 0.5, input_size=SIZE), fold(Always(), input_size=SIZE)):
        assert not torch.equal(model(x), model(x))


def test_a_network_that_changes_a_view_in_place_is_refused_not_miscalculated():
    class Odd(Net):
        def forward(self, x):
            x = self.body(x)
            x[:, 0].mul_(3)
            return self.head(x.mean((2, 3)))

    with pytest.raises(ValueError, match="changes in place what is read under another name"):
        convert(Odd(), input_size=SIZE)


def test_sizes_that_are_counted_up_are_no_tensors():
    class Counts(Net):
        def forward(self, x):
            height = before = x.shape[2]
            height += 2
            return super().forward(F.interpolate(x, (height, before)))

    net = Counts().eval()
    x = torch.randn(1, *SIZE)
    torch.testing.assert_close(convert(net, 0.5, 1, mcs_mode="none", input_size=SIZE)(x), net(x))


def test_a_compiled_model_can_be_copied_and_saved():
    model = convert(Net(), 0.5, 0.5, input_size=SIZE).eval()
    model.compile(backend="eager")
    x = torch.randn(1, *SIZE)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        torch.testing.assert_close(again(x), model(x))


def old_weight_norm() -> nn.Module:
    net = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(net.head)
    return net


def keyword() -> nn.Module:
    net = Net()
    net.add_module("class", nn.Identity())
    return net


def taken() -> nn.Module:
    net = Net()
    net.report = nn.Identity()
    return net


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (lambda: "resnet18", TypeError, "not str; create_model"),
        (lambda: None, TypeError, "not NoneType"),
        (lambda: Net, TypeError, "not the class Net"),
        (lambda: nn.DataParallel(Net()), ValueError, "model.module, and wrap the result again"),
        (lambda: torch.compile(Net()), ValueError, "model._orig_mod, and compile the result"),
        (lambda: torch.jit.script(nn.ReLU()), ValueError, "TorchScript has no Python code"),
        (old_weight_norm, ValueError, "cannot be copied .*torch.nn.utils.parametrizations"),
        (keyword, ValueError, "the module 'class' is named like a keyword"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_give_instead(given, error, said):
    for function in (convert, fold):
        with pytest.raises(error, match=f"{function.__name__}.*{said}"):
            function(given())


@pytest.mark.parametrize("size", [5, (256, 256), "3,64,64", (3.0, 64.0, 64.0), (3, -1, 64), (3, 0, 64)])
def test_an_example_of_no_size_is_refused(size):
    for function in (convert, fold):
        with pytest.raises(ValueError, match=r"input_size must be \(C, H, W\) in whole numbers"):
            function(Net(), input_size=size)


def test_names_that_a_converted_model_needs_and_converted_parts_are_refused():
    with pytest.raises(ValueError, match="Net.report needs another name"):
        convert(taken(), input_size=SIZE)
    converted = convert(Net(), 0.5, 0.5, input_size=SIZE)
    with pytest.raises(ValueError, match=r"Sequential holds SFIConv already \(0.body.1\)"):
        convert(nn.Sequential(converted, nn.Identity()))
    with pytest.raises(ValueError, match="fuse_at must be the name of a module"):
        convert(Net(), fuse_at=5)


def test_a_timm_model_still_says_how_its_input_is_made_and_takes_timms_calls():
    original = timm.create_model("resnet10t", num_classes=2)
    model = convert(original, 0.5, 0.5, input_size=(3, 64, 64)).eval()
    assert timm.data.resolve_model_data_config(model) == timm.data.resolve_model_data_config(original)
    assert (model.num_classes, model.num_features) == (2, 512)
    x = torch.randn(1, 3, 64, 64)
    model.reset_classifier(0)
    assert model(x).shape == (1, 512)
    model.reset_classifier(5, "avg")
    assert model(x).shape == (1, model.num_classes) == (1, 5)
    assert pickle.loads(pickle.dumps(model)).num_classes == 5
    for wrong in ((-1,), (2.5,), ("5",), (True,), (0, "")):
        with pytest.raises(ValueError, match="reset_classifier"):
            model.reset_classifier(*wrong)
    with pytest.raises(AttributeError, match="forward_head"):
        _ = model.forward_head
