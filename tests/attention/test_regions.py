import numpy as np
import pytest

from sficonv.attention.regions import REGIONS, face_regions, region_shares

POINTS = np.array([[90, 100], [166, 100], [128, 140], [100, 180], [156, 180]], float)


def test_points_lie_in_their_regions():
    regions = face_regions(POINTS, 256, 256)
    found = [REGIONS[regions[int(y), int(x)]] for x, y in POINTS]
    assert found == ["eyes", "eyes", "nose", "mouth", "mouth"]
    assert REGIONS[regions[50, 128]] == "forehead"
    assert REGIONS[regions[150, 75]] == "cheeks"
    assert REGIONS[regions[2, 2]] == "background"


def test_regions_turn_with_the_face():
    turned = np.stack([255 - POINTS[:, 1], POINTS[:, 0]], axis=1)  # a quarter turn clockwise
    expected = np.rot90(face_regions(POINTS, 256, 256), k=-1)
    agreement = (face_regions(turned, 256, 256) == expected).mean()
    assert agreement > 0.99


def test_shares_follow_the_attention():
    attention = np.zeros((128, 128))
    attention[46:54, 40:50] = 1  # the eye on the left, at half the resolution
    shares = region_shares(attention, POINTS / 256)
    assert shares["eyes"] == pytest.approx(1)
    assert tuple(shares) == REGIONS
    assert sum(region_shares(np.ones((64, 64)), POINTS / 256).values()) == pytest.approx(1)
    assert set(region_shares(np.zeros((8, 8)), POINTS / 256).values()) == {0.0}


@pytest.mark.parametrize(
    "points", [np.zeros((4, 2)), np.full((5, 2), np.nan), np.zeros((5, 2))], ids=["four", "nan", "one spot"]
)
def test_unusable_points(points):
    with pytest.raises(ValueError, match="point"):
        face_regions(points, 64, 64)


@pytest.mark.parametrize("attention", [np.ones((1, 8, 8)), -np.ones((8, 8)), np.full((8, 8), np.inf)])
def test_unusable_attention(attention):
    with pytest.raises(ValueError, match="attention"):
        region_shares(attention, POINTS / 256)
