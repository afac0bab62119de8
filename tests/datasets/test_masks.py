import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from skimage.data import astronaut
from torchvision.transforms import v2

from sficonv.datasets.masks import MaskedCrops, read_mask
from sficonv.errors import DataError
from sficonv.training.selfblend import MaskedSelfBlended, SelfBlended, collate_pairs
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


def test_a_pair_brings_the_mask_of_its_forgery(rows, tmp_path):
    pairs = MaskedSelfBlended(rows, tmp_path, cross=0.0, seed=3)
    pair, labels, index, masks = pairs[(0, 5)]
    assert (pair.shape, masks.shape, labels.tolist(), index) == (
        (2, 3, 128, 128),
        (2, 1, 128, 128),
        [0, 1],
        0,
    )
    assert masks[0].max() == 0
    assert 0 < masks[1].float().mean() < 200
    # the same draw makes the same forgery, with masks or without
    assert torch.equal(pair, SelfBlended(rows, tmp_path, cross=0.0, seed=3)[(0, 5)][0])


def test_outside_its_mask_a_forgery_is_one_picture_from_edge_to_edge(rows, tmp_path):
    for draw in range(20):
        pair, _, _, masks = MaskedSelfBlended(rows, tmp_path, cross=0.0)[(0, draw)]
        changed = (pair[0] != pair[1]).any(0)
        outside = masks[1, 0] == 0
        if not changed[outside].any():  # the target is the real crop: only the mask can differ
            assert changed[~outside].any()
            return
    raise AssertionError("no forgery kept the real crop as its target")


def test_a_forgery_of_the_data_brings_its_file(rows, tmp_path):
    pairs = MaskedSelfBlended(rows, tmp_path, real_fakes=1.0)
    pair, _, _, masks = pairs[(0, 0)]
    assert torch.equal(pair[1], MaskedCrops(rows, tmp_path)[1][0])  # the fake of the same identity
    assert torch.equal(masks[1], MaskedCrops(rows, tmp_path)[1][3])


def test_batches_of_pairs_hold_the_masks_in_the_order_of_the_images(rows, tmp_path):
    pairs = MaskedSelfBlended(rows, tmp_path)
    images, labels, indices, masks = collate_pairs([pairs[(0, 1)], pairs[(0, 2)]])
    assert (images.shape, masks.shape) == ((4, 3, 128, 128), (4, 1, 128, 128))
    assert labels.tolist() == [0, 1, 0, 1]
    assert [bool(mask.any()) for mask in masks] == [False, True, False, True]
    assert indices.tolist() == [0, 0, 0, 0]


def test_bad_mask_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: this mask of a face crop is missing"):
        read_mask(tmp_path / "none.png", (8, 8))
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(DataError, match=r"text\.png.*cannot be decoded"):
        read_mask(tmp_path / "text.png", (8, 8))


def test_a_mask_of_another_size_is_brought_to_the_crops(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.uint8([[0, 255], [0, 255]]))
    assert read_mask(tmp_path / "m.png", (4, 6)).tolist() == [[0, 0, 0, 255, 255, 255]] * 4
