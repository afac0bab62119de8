"""LTW: what is held out, and that the weights learn what helps there."""

import torch
from torch import nn

from sficonv.models import create_model
from sficonv.models.losses import training_losses, uses_domains
from sficonv.models.rivals.ltw import LTW, hold_out


def test_one_domain_is_held_out_whole():
    domains, labels = torch.tensor([0, 1, 2, 0, 1, 2, -1, -1, -1]), torch.tensor([1, 1, 1, 1, 1, 1, 0, 0, 0])
    seen = set()
    torch.manual_seed(0)
    for _ in range(30):
        held_out = hold_out(domains, labels)
        kinds = set(domains[held_out & (labels == 1)].tolist())
        assert len(kinds) == 1
        assert (held_out[:6] == (domains[:6] == kinds.copy().pop())).all()
        assert held_out[6:].tolist() == [False, True, False]  # real faces on both sides
        seen |= kinds
    assert seen == {0, 1, 2}


def test_without_domains_both_labels_stand_on_both_sides():
    labels = torch.arange(8) % 2
    for domains in (torch.full((8,), -1), torch.where(labels == 1, 3, -1)):
        held_out = hold_out(domains, labels)
        assert sorted(labels[held_out].tolist()) == sorted(labels[~held_out].tolist()) == [0, 0, 1, 1]


def test_weights_move_towards_what_helps_the_held_out_domain():
    """Of two training fakes one looks like those held out, and one like a real face: only the first helps."""
    torch.manual_seed(0)
    model = LTW(nn.Conv2d(3, 4, 1), 4)
    like_real, like_fake = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    like_real[0], like_fake[1] = 1, 1
    # domain 0 is trained on, domain 1 held out (or the other way round: both hold one of each)
    x = torch.stack([like_fake, like_real, like_fake, like_fake, like_real, like_real])
    labels, domains = torch.tensor([1, 1, 1, 1, 0, 0]), torch.tensor([0, 0, 1, 1, -1, -1])
    optimizer = torch.optim.Adam(model.weigh.parameters(), lr=1e-2)
    for _ in range(150):
        loss = training_losses(model, x, labels, domains=domains)["held_out"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        weight = model.weigh(model.trunk(torch.stack([like_fake, like_real])))
    assert weight[0] > weight[1] + 0.1


def test_the_weighted_loss_does_not_teach_the_weights():
    torch.manual_seed(0)
    model, x, labels = LTW(nn.Conv2d(3, 4, 1), 4), torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])
    losses = training_losses(model, x, labels)
    for name, taught in (("weighted", False), ("held_out", True)):
        gradients = torch.autograd.grad(
            losses[name], list(model.weigh.parameters()), allow_unused=True, retain_graph=True
        )
        assert any(g is not None and g.abs().max() > 0 for g in gradients) == taught


def test_the_last_batch_of_an_epoch_may_be_one_image():
    torch.manual_seed(0)
    model = LTW(nn.Conv2d(3, 4, 1), 4)
    for label in (0, 1):
        losses = training_losses(model, torch.randn(1, 3, 8, 8), torch.tensor([label]))
        assert all(loss.isfinite() for loss in losses.values())


def test_real_faces_are_gathered_and_fakes_left_alone():
    model, labels = LTW(nn.Conv2d(3, 2, 1), 2), torch.tensor([0, 1])
    features = torch.tensor([[1.0, 3.0], [9.0, 9.0]])
    loss = model.compactness(features, labels)
    assert torch.allclose(model.centre.mean, torch.tensor([0.05, 0.15]))
    assert torch.allclose(loss, torch.tensor(((0.95**2) + (2.85**2)) / 2))
    assert model.compactness(features, torch.tensor([1, 1])) == 0


def test_it_asks_for_domains():
    assert uses_domains(create_model("ltw", trunk="resnet10t"))
    assert not uses_domains(create_model("resnet26"))
