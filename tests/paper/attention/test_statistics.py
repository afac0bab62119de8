import math

import numpy as np
import pytest
import torch

from sficonv.attention.maps import attention_numbers, average_attention
from sficonv.paper.attention.statistics import Estimate, average_numbers, mean_interval, middle, other_groups


def test_the_interval_is_that_of_the_textbook():
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = mean_interval(values, np.arange(400), resamples=4000)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.02)
    assert mean_interval(values, np.arange(400), resamples=4000) == found


def test_faces_of_one_person_count_as_one():
    values = np.random.default_rng(0).normal(0, 1, 20)
    alone = mean_interval(values, np.arange(20))
    repeated = mean_interval(np.repeat(values, 10), np.repeat(np.arange(20), 10))
    assert repeated == pytest.approx(alone)


def test_what_is_undefined_is_left_out_or_nan():
    assert mean_interval([1, 3, math.nan], list("abc")).value == 2
    assert math.isnan(mean_interval([math.nan], ["a"]).value)
    assert str(mean_interval([math.nan], ["a"])) == "n/a"
    assert str(mean_interval([1.0, 2.0], ["a", "a"])) == "1.500"
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def test_groups_hold_different_faces():
    groups = other_groups(10, 4, count=50)
    assert groups.shape == (50, 4)
    assert all(len(set(group)) == 4 for group in groups)
    assert set(groups.ravel()) == set(range(10))
    assert len(other_groups(4, 4)) == 0


def test_numbers_of_averages_are_those_of_the_average_map():
    maps = torch.rand(5, 1, 8, 8)
    found = average_numbers(maps, np.array([[0, 2], [1, 4]]))
    expected = attention_numbers(average_attention(maps[[1, 4]]))
    assert {name: values[1] for name, values in found.items()} == pytest.approx(expected)
    assert average_numbers(maps, other_groups(5, 5)) == {}


def test_middle():
    assert middle(np.arange(1001.0)) == (25.0, 975.0)
    assert np.isnan(middle(None)).all()
