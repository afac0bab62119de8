"""Domains of the training images: which they are, and that a detector which asks for them is given them."""

import pytest
import torch

from sficonv.models.rivals import ltw
from sficonv.training import train
from sficonv.training.data import load_training_data, training_domains
from sficonv.training.recipes import Recipe


@pytest.fixture
def rows(make_prepared):
    return load_training_data([make_prepared()])


def test_domains_are_the_methods_of_the_fakes(rows):
    found = training_domains(rows, Recipe.named("paper"))
    assert found.tolist() == [-1 if label == 0 else 0 for label in rows.train["label"]]
    assert training_domains(rows, Recipe.named("paper", self_blend=0.5)) is None


def test_a_training_hands_them_on(make_prepared, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        ltw,
        "hold_out",
        lambda domains, labels, own=ltw.hold_out: seen.append((domains, labels)) or own(domains, labels),
    )
    small = {"epochs": 1, "batch_size": 4, "image_size": 64, "workers": 0, "accelerator": "cpu", "devices": 1}
    result = train(
        make_prepared(),
        model="ltw",
        recipe="paper",
        model_options={"trunk": "resnet10t"},
        out=tmp_path / "run",
        **small,
    )
    assert result.card["model"] == "ltw"
    assert seen
    for domains, labels in seen:
        assert torch.equal(domains, torch.where(labels == 1, 0, -1))  # one method
