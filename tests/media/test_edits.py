"""Harmless edits: what they keep and what they change."""

import numpy as np
import pytest
from skimage.data import astronaut

from sficonv.media.edits import EDITS, edit

PHOTO = astronaut()[:201, 150:350]


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_mild_and_repeatable(name):
    before = PHOTO.copy()
    after = edit(PHOTO, name)
    assert np.array_equal(PHOTO, before)
    assert np.array_equal(after, edit(PHOTO, name))
    assert after.dtype == np.uint8
    assert after.shape[2] == 3
    assert abs(after.mean() - PHOTO.mean()) < 8
    assert min(after.shape[:2]) >= 100


def test_sizes():
    assert edit(PHOTO, "half size").shape == (100, 100, 3)
    assert edit(PHOTO, "cropped").shape == (181, 180, 3)
    assert edit(PHOTO, "screenshot").shape == (151, 150, 3)
    assert np.array_equal(edit(edit(PHOTO, "mirrored"), "mirrored"), PHOTO)


def test_what_is_no_edit_and_no_image():
    with pytest.raises(ValueError, match="no edit 'x'; there are mirrored"):
        edit(PHOTO, "x")
    with pytest.raises(ValueError, match="uint8"):
        edit(PHOTO / 255, "cropped")
