"""The part of a model card that turns the network's answer into a score and the score into a verdict."""

import math

import numpy as np
import pytest
import torch

from sficonv.card import DEFAULT_BAND, Calibration, read_calibration
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
