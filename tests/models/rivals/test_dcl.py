"""DCL: what its memory holds, which contrasts count, and the copy that follows."""

import math

import pytest
import torch

from sficonv.models import create_model
from sficonv.models.losses import training_losses
from sficonv.models.rivals.contrast import contrast
from sficonv.models.rivals.dcl import HardQueues, disturbed, intra_instance


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("dcl", trunk="resnet10t", queue=6, image_size=64)


def unit(*angles):
    return torch.tensor([[math.cos(a), math.sin(a)] for a in angles])


def test_the_queue_holds_the_harder_half_of_each_class():
    queues = HardQueues(4, 2)
    queues.push(unit(0.0), torch.tensor([0]))
    queues.push(unit(1.5, 0.1, 2.5, 0.4), torch.tensor([1, 1, 1, 1]))
    assert torch.allclose(queues.vectors[1, :2], unit(0.1, 0.4))  # the fakes nearest to the real face
    assert queues.filled.tolist() == [[True, False, False, False], [True, True, False, False]]


def test_the_oldest_make_room():
    queues, labels = HardQueues(2, 2), torch.tensor([0])
    for angle in (0.1, 0.2, 0.3):
        queues.push(unit(angle), labels)
    assert torch.allclose(queues.vectors[0], unit(0.3, 0.2))
    assert queues.filled.tolist() == [[True, True], [False, False]]


def test_a_batch_larger_than_the_queue_leaves_no_place_twice():
    queues = HardQueues(2, 2)
    queues.push(unit(*(0.1 * i for i in range(10))), torch.zeros(10, dtype=torch.int64))
    assert queues.filled[0].all()
    assert (queues.vectors[0].norm(dim=1) > 0.99).all()


def test_contrast_by_hand():
    similarity = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    positive = torch.tensor([[True, True, False, False]])
    against = math.exp(0.5) + math.exp(-1.0)
    expected = -sum(math.log(math.exp(p) / (math.exp(p) + against)) for p in (1.0, 2.0)) / 2
    assert contrast(similarity, positive, ~positive).item() == pytest.approx(expected)


def test_contrast_of_nothing_is_zero_and_has_a_gradient():
    similarity = torch.zeros(2, 3, requires_grad=True)
    loss = contrast(similarity, torch.ones(2, 3).bool(), torch.zeros(2, 3).bool())
    loss.backward()
    assert loss == 0
    assert torch.equal(similarity.grad, torch.zeros(2, 3))


def test_regions_of_a_fake_are_contrasted_and_those_of_one_kind_are_not():
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., 4:] = 1
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 0, :, 0], maps[0, 1, :, 1] = 1, 1  # the forged half differs from the other
    told_apart = intra_instance(maps, maps, masks)
    assert told_apart < 1e-5
    assert intra_instance(torch.ones_like(maps), torch.ones_like(maps), masks) > 1
    assert intra_instance(maps, maps, torch.ones_like(masks)) == 0


def test_the_copy_follows_slowly_and_only_in_training(model):
    x, labels = torch.randn(2, 3, 64, 64), torch.tensor([0, 1])
    slow, fast = next(model.key_encoder.parameters()), next(model.encoder.parameters())
    before = slow.clone()
    fast.data.add_(1)
    training_losses(model.eval(), x, labels)
    assert torch.equal(slow, before)
    assert model.queues.seen.tolist() == [0, 0]
    training_losses(model.train(), x, labels)
    assert torch.allclose(slow - before, torch.full_like(slow, 0.001), atol=1e-6)
    assert model.queues.seen.tolist() == [1, 1]
    assert not slow.requires_grad


def test_faces_of_both_classes_are_needed_to_contrast(model):
    x = torch.randn(2, 3, 64, 64)
    assert training_losses(model, x, torch.tensor([0, 0]))["inter_instance"] == 0
    assert training_losses(model, x, torch.tensor([0, 1]))["inter_instance"] > 0


def test_a_face_is_pushed_from_hard_ones_of_the_other_class_only(model):
    x, labels = torch.randn(2, 3, 64, 64), torch.tensor([0, 0])
    model.eval()
    model.queues.push(torch.nn.functional.normalize(torch.randn(4, 100), dim=1), torch.tensor([1, 1, 1, 1]))
    losses = training_losses(model, x, labels)
    model.queues.push(torch.nn.functional.normalize(torch.randn(4, 100), dim=1), torch.tensor([0, 0, 0, 0]))
    torch.manual_seed(1)
    first = training_losses(model, x, labels)["inter_instance"]
    model.queues.vectors[0] = 0
    torch.manual_seed(1)
    assert losses["inter_instance"] > 0
    assert torch.equal(training_losses(model, x, labels)["inter_instance"], first)
    model.queues.vectors[1] = 0
    torch.manual_seed(1)
    assert not torch.equal(training_losses(model, x, labels)["inter_instance"], first)


def test_a_view_moves_nothing():
    torch.manual_seed(0)
    x = torch.zeros(1, 3, 32, 32)
    x[..., 16:] = 2
    found = disturbed(x).mean((0, 1, 2))
    assert (found[18:].mean() - found[:14].mean()) > 1
    assert not torch.equal(disturbed(x), disturbed(x))
