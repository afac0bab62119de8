"""The model card: what it may say, and how it turns the network's answer into a score and a verdict."""

import json
import math

import numpy as np
import pytest
import torch

from sficonv.card import DEFAULT_BAND, Calibration, check_card, crop_of, parse_card, read_calibration
from sficonv.errors import WeightsError


def test_the_map_is_the_same_for_numbers_arrays_and_tensors():
    calibration = Calibration(temperature=2.0, shift=1.0)
    assert calibration.apply(5.0) == 2.0
    assert calibration.apply(np.array([5.0])).tolist() == [2.0]
    assert calibration.apply(torch.tensor([5.0])).tolist() == [2.0]


def test_without_calibration_scores_stay_and_the_one_default_band_holds():
    assert read_calibration({}) == Calibration(1.0, 0.0, DEFAULT_BAND, None)
    assert read_calibration({}).apply(3.5) == 3.5


def test_a_card_that_has_only_a_temperature_is_read():
    assert read_calibration({"calibration": {"temperature": 1.6}}) == Calibration(temperature=1.6)


def test_edges_of_the_band_are_uncertain():
    calibration = Calibration(uncertain=(0.2, 0.9))
    found = [calibration.verdict(p) for p in (0.19, 0.2, 0.9, 0.91)]
    assert found == ["real", "uncertain", "uncertain", "fake"]


@pytest.mark.parametrize(
    "entry",
    [
        [1],
        "hot",
        {"temperature": 0},
        {"temperature": "x"},
        {"temperature": True},
        {"temperature": 1e300},
        {"temperature": math.nan},
        {"shift": math.inf},
        {"shift": 1e6},
        {"uncertain": [0.9, 0.1]},
        {"uncertain": [0.5]},
        {"uncertain": 0.5},
        {"uncertain": [0, 0]},
        {"uncertain": [1, 1]},
        {"uncertain": [0.2, 10**400]},
        {"threshold": "0.5"},
        {"threshold": 1.5},
        {"threshold": True},
    ],
)
def test_a_senseless_calibration_is_refused(entry):
    with pytest.raises(WeightsError, match="calibration"):
        read_calibration({"calibration": entry})


@pytest.mark.parametrize("entry", [{"temperature": 10**5000}, {"uncertain": [0, 10**5000]}])
def test_a_number_that_cannot_even_be_printed_is_refused(entry):
    with pytest.raises(WeightsError, match="calibration"):
        read_calibration({"calibration": entry})


GOOD = {
    "format": "sficonv/1", "model": "resnet26", "options": {}, "num_classes": 2, "image_size": 256,
    "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "labels": ["real", "fake"], "limits": ["small data"],
    "calibration": {"temperature": 1.5, "shift": 0.5, "uncertain": [0.4, 0.6], "threshold": 0.6, "notes": []},
    "crop": {"margin": 1.3, "size": 256}, "inference": {"views": ["original", "mirrored"]},
    "false_alarms": {"CelebA": {"items": 4, "called_fake": 0.25, "uncertain": 0.5}},
    "caught": {"a": {"fake": {"items": 9, "called_fake": 1, "called_fake_95": [0.7, 1], "uncertain": 0}}},
    "metrics": {"a": {"auc": [0.5, 0.4, 0.6]}}, "something else": [None],
}  # fmt: skip


def test_a_good_card_is_read_as_it_is():
    assert parse_card(json.dumps(GOOD), "w.json") == GOOD
    assert crop_of(GOOD) == (1.3, 256)
    assert crop_of({}) == (1.3, 256)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "sficonv/2"),
        ("model", 5),
        ("options", []),
        ("num_classes", 10**11),
        ("num_classes", True),
        ("image_size", 256.0),
        ("image_size", None),
        ("mean", [0.5, 0.5]),
        ("mean", [math.nan] * 3),
        ("std", [math.inf, 1, 1]),
        ("std", [-0.2, 0.2, 0.2]),
        ("std", [0, 0.2, 0.2]),
        ("labels", ["fake", "real"]),
        ("limits", 5),
        ("limits", [5]),
        ("calibration", {"uncertain": [0, 0]}),
        ("calibration", {"temperature": 1e300}),
        ("crop", {"margin": 0}),
        ("inference", {"views": ["mirrored"]}),
        ("false_alarms", {"a": {"items": 3}}),
        ("false_alarms", {"a": {"items": 3, "called_fake": 1.5, "uncertain": 0}}),
        ("caught", {"a": {"items": 3, "called_fake": 1, "uncertain": 0}}),
        ("metrics", "good"),
    ],
)
def test_an_entry_that_makes_no_sense_is_named(name, value):
    with pytest.raises(WeightsError, match=f"w.json: the model card's {name} must be"):
        check_card({**GOOD, name: value}, "w.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"format": "sficonv/1", "data": ' + "[" * 100 + "]" * 100 + "}",
        '{"format": "sficonv/1", "data": ' + '{"a": ' * 100_000 + "1" + "}" * 100_001,
        '{"format": "sficonv/1", "num_classes": ' + "9" * 5000 + "}",
        '{"format": "other"}',
    ],
)
def test_hostile_text_is_no_card(text):
    with pytest.raises(WeightsError, match="w.json: not a model card"):
        parse_card(text, "w.json")


def test_a_card_without_end_is_not_parsed(monkeypatch):
    monkeypatch.setattr("sficonv.card.LONGEST", 10)
    with pytest.raises(WeightsError, match=r"not a model card \(\d+ characters\)"):
        parse_card(json.dumps(GOOD), "w.json")
