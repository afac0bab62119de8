import numpy as np
import pytest

from sficonv.detect.deletion import Deletion, deletion_test


class Corner:
    """P(fake) is the contrast in the upper left quarter."""

    def scores(self, crops):
        return np.array([min(1.0, float(crop[:32, :32].std()) / 128) for crop in crops])


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_a_map_that_marks_what_the_score_depends_on_matters(noise):
    attention = np.zeros((16, 16))
    attention[:8, :8] = 1
    found = deletion_test(Corner(), noise, attention)
    assert found.whole > 0.5 > found.marked
    assert found.matters
    assert "the score depends on what the map marks" in found.sentence


def test_a_map_that_marks_something_else_is_said_to_explain_little(noise):
    attention = np.zeros((16, 16))
    attention[8:, 8:] = 1
    found = deletion_test(Corner(), noise, attention)
    assert not found.matters
    assert "the map explains little" in found.sentence


@pytest.mark.parametrize(
    ("deletion", "matters"),
    [
        (Deletion(0.9, 0.3, 0.8), True),
        (Deletion(0.9, 0.3, 0.4), False),
        (Deletion(0.9, 0.88, 0.9), False),
        (Deletion(0.2, 0.6, 0.2), True),
    ],
)
def test_the_change_has_to_be_clear_and_more_than_elsewhere(deletion, matters):
    assert deletion.matters is matters
