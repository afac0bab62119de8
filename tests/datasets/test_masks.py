import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from skimage.data import astronaut
from torchvision.transforms import v2

from sficonv.datasets.masks import MaskedCrops, read_mask
from sficonv.errors import DataError
from sficonv.training.transforms import finetune_train, paper_train

LANDMARKS = np.float32([[48, 57], [80, 60], [60, 77], [46, 89], [75, 91]])


@pytest.fixture
def rows(tmp_path):
    """A real crop, a fake one with a mask, and a fake one without, of 128 px."""
    face = cv2.resize(astronaut()[30:190, 144:304, ::-1], (128, 128), interpolation=cv2.INTER_AREA)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.add(face, np.full_like(face, 10 * i)))
    mask = np.zeros((128, 128), np.uint8)
    mask[:, :40] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    return pd.DataFrame(
        {
            "path": ["0.png", "1.png", "2.png"],
            "label": [0, 1, 1],
            "mask": ["", "mask.png", None],
            "dataset": "set",
            "compression": "",
            "video_id": list("abc"),
            "source_ids": ["1", "1", "2"],
            "time": np.zeros(3, np.float32),
            "landmarks": [LANDMARKS.ravel()] * 3,
        }
    )


def test_a_real_face_is_forged_nowhere_and_a_fake_without_mask_everywhere(rows, tmp_path):
    masks = [MaskedCrops(rows, tmp_path)[i][3] for i in range(3)]
    assert [tuple(mask.shape) for mask in masks] == [(1, 128, 128)] * 3
    assert all(mask.dtype == torch.uint8 for mask in masks)
    assert masks[0].max() == 0
    assert masks[2].min() == 255
    assert (masks[1][0, :, :40] == 255).all()
    assert (masks[1][0, :, 40:] == 0).all()


def test_without_the_column_the_rule_decides(rows, tmp_path):
    masks = [MaskedCrops(rows.drop(columns="mask"), tmp_path)[i][3].unique().tolist() for i in range(3)]
    assert masks == [[0], [255], [255]]


@pytest.mark.parametrize("make", [paper_train, finetune_train])
def test_the_mask_moves_with_the_crop_and_keeps_its_values(rows, tmp_path, make):
    crops = MaskedCrops(rows, tmp_path, make(64))
    plain = MaskedCrops(rows, tmp_path, v2.Compose(make(64).transforms[:2]))  # size and flip
    flipped = 0
    for draw in range(12):
        image, label, index, mask = crops[(1, draw)]
        assert (image.shape, mask.shape, label, index) == ((3, 64, 64), (1, 64, 64), 1, 1)
        assert set(mask.unique().tolist()) <= {0, 255}
        assert type(mask) is torch.Tensor
        left = plain[(1, draw)][3][0, :, :20].float().mean() > 200
        flipped += not left
        assert (mask[0, :, :20] if left else mask[0, :, -20:]).float().mean() > 150
    assert 1 < flipped < 11


def test_bad_mask_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: this mask of a face crop is missing"):
        read_mask(tmp_path / "none.png", (8, 8))
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(DataError, match=r"text\.png.*cannot be decoded"):
        read_mask(tmp_path / "text.png", (8, 8))


def test_a_mask_of_another_size_is_brought_to_the_crops(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.uint8([[0, 255], [0, 255]]))
    assert read_mask(tmp_path / "m.png", (4, 6)).tolist() == [[0, 0, 0, 255, 255, 255]] * 4
