import pytest

from sficonv.detect.alarms import read_false_alarms
from sficonv.models.checkpoint import read_card


def test_of_newer_and_older_cards():
    new = {"items": 150, "called_fake": 0.16, "called_fake_95": [0.11, 0.23], "uncertain": 0.38}
    old = {"items": 4, "called_fake": 0.25, "uncertain": 0.5}
    found = read_false_alarms({"false_alarms": {"CelebA": new, "FF++": old}})
    assert [(a.data, a.items, a.called_fake, a.uncertain, a.interval) for a in found] == [
        ("CelebA", 150, 0.16, 0.38, (0.11, 0.23)),
        ("FF++", 4, 0.25, 0.5, None),
    ]


@pytest.mark.parametrize(
    "entry",
    [None, [1], {"a": 3}, {"a": {"items": 3}}, {"a": {"items": 1, "called_fake": "x", "uncertain": 0}}],
)
def test_what_cannot_be_read_is_left_out(entry):
    assert read_false_alarms({"false_alarms": entry}) == ()
    assert read_false_alarms({}) == ()


def test_the_shipped_card_holds_every_set_of_real_faces():
    found = read_false_alarms(read_card("default"))
    for name in ("London", "CelebA", "FFHQ", "UTKFace", "LFW", "FF++", "Celeb-DF"):
        (alarms,) = [a for a in found if name in a.data]
        assert alarms.items > 0
        assert alarms.interval[0] <= alarms.called_fake <= alarms.interval[1]
