"""S-MIL: the sharp bag, its gradient, instances of several widths, any trunk."""

import pytest
import torch

from sficonv.models import create_model
from sficonv.models.rivals.smil import TemporalInstances, sharp_bag


def mask(*counts, size):
    return torch.arange(size) < torch.tensor(counts)[:, None]


def test_a_bag_is_fake_as_soon_as_one_instance_is():
    z = torch.full((1, 30), -20.0)
    assert sharp_bag(z, mask(30, size=30)).sigmoid() < 1e-6
    z[0, 17] = 40
    assert sharp_bag(z, mask(30, size=30)).sigmoid() > 1 - 1e-6


def test_equal_instances_are_a_bag_of_the_same_logit_however_many_they_are():
    z = torch.full((3, 8), 0.7)
    assert torch.allclose(sharp_bag(z, mask(1, 3, 8, size=8)), torch.tensor(0.7))


def test_missing_instances_do_not_count():
    z = torch.tensor([[1.0, 2.0, 50.0]])
    assert torch.allclose(sharp_bag(z, mask(2, size=3)), sharp_bag(z[:, :2], mask(2, size=2)))


def test_the_gradient_does_not_vanish_where_an_instance_is_sure():
    """Of a wrongly sure instance the noisy-or of probabilities passes on nothing, the sharp bag all."""
    z = torch.tensor([[30.0, -5.0]], requires_grad=True)
    torch.nn.functional.softplus(sharp_bag(z, mask(2, size=2))).sum().backward()  # its label is real
    assert z.grad[0, 0] > 0.99
    p = torch.tensor([[30.0, -5.0]], requires_grad=True)
    (1 - (1 - p.sigmoid()).prod(1)).sum().backward()
    assert p.grad.abs().max() < 1e-6


def test_windows_reach_as_far_as_they_say():
    torch.manual_seed(0)
    layer, x = TemporalInstances(2, 5, (1, 3)), torch.randn(1, 4, 2)
    before, complete = layer(x, mask(4, size=4))
    assert before.shape == (1, 8, 5)
    assert complete.tolist() == [[True] * 4 + [True, True, False, False]]
    x[0, 2] += 1
    changed = (layer(x, mask(4, size=4))[0] != before).any(2)[0]
    assert not changed[[0, 1, 3, 7]].any()
    assert changed[[2, 4, 5, 6]].all()


def test_a_still_image_has_one_instance():
    _, complete = TemporalInstances(2, 5)(torch.randn(1, 1, 2), mask(1, size=1))
    assert complete.sum() == 1


@pytest.mark.parametrize("trunk", ["sfic_resnet26", "mobilenetv1"])
def test_any_backbone_can_be_the_trunk(trunk):
    model = create_model("smil", trunk=trunk, frames=3).eval()
    assert model.config.options["trunk"] == trunk
    assert model(torch.randn(2, 3, 3, 32, 32)).shape == (2, 2)


def test_a_temporal_sfic_detector_keeps_its_ratio():
    model = create_model("smil", trunk="sfic_resnet26", alpha=0.25)
    assert model.encoder.config.options["alpha"] == 0.25


def test_what_is_no_trunk_is_refused():
    with pytest.raises(ValueError, match="srm cannot be a trunk"):
        create_model("smil", trunk="srm")
    with pytest.raises(ValueError, match="no option alpha"):
        create_model("smil", trunk="resnet26", alpha=0.5)
    with pytest.raises(ValueError, match="frames must be at least 2"):
        create_model("smil", frames=1)
