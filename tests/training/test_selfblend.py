from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from skimage.data import astronaut

from sficonv.errors import DataError
from sficonv.training.selfblend import Forgery, SelfBlended, collate_pairs
from sficonv.training.transforms import finetune_train

# The face in scikit-image's photograph of Eileen Collins, in a crop of 160 px at (144, 30), enlarged to 256.
LANDMARKS = np.float32([[96, 114], [159, 120], [120, 154], [91, 178], [150, 182]])


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return cv2.resize(astronaut()[30:190, 144:304], (256, 256), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def rows(face: np.ndarray, tmp_path: Path) -> pd.DataFrame:
    """Four real crops of four people and a fake of the first one."""
    tints = (0, 10, 20, 30, 40)
    for i, tint in enumerate(tints):
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.add(face, np.full_like(face, tint)))
    return pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(5)],
            "label": [0, 0, 0, 0, 1],
            "dataset": "set",
            "compression": "",
            "video_id": list("abcde"),
            "source_ids": ["1", "2", "3", "4", "1,2"],
            "time": np.zeros(5, np.float32),
            "landmarks": [(LANDMARKS + shift).ravel() for shift in (0, 2, 4, 6, 0)],
        }
    )


def test_items_are_pairs_of_real_rows(rows: pd.DataFrame, tmp_path: Path, face: np.ndarray) -> None:
    pairs = SelfBlended(rows, tmp_path)
    assert len(pairs) == 4
    pair, labels, index = pairs[(1, 7)]
    assert pair.shape == (2, 3, 256, 256)
    assert pair.dtype == torch.uint8
    assert labels.tolist() == [0, 1]
    assert index == 1
    assert np.array_equal(pair[0].numpy().transpose(1, 2, 0), cv2.imread(str(tmp_path / "1.png"))[:, :, ::-1])
    assert not torch.equal(pair[0], pair[1])


def test_batch_alternates_real_and_fake(rows: pd.DataFrame, tmp_path: Path) -> None:
    pairs = SelfBlended(rows, tmp_path)
    images, labels, indices = collate_pairs([pairs[(2, 1)], pairs[(0, 1)]])
    assert images.shape == (4, 3, 256, 256)
    assert labels.tolist() == [0, 1, 0, 1]
    assert indices.tolist() == [2, 2, 0, 0]
    assert torch.equal(images[2], pairs[(0, 1)][0][0])


def test_pairs_are_decided_by_seed_index_and_draw(rows: pd.DataFrame, tmp_path: Path) -> None:
    def pair(seed: int, draw: int) -> torch.Tensor:
        return SelfBlended(rows, tmp_path, finetune_train(), cross=0.5, seed=seed)[(0, draw)][0]

    assert torch.equal(pair(1, 2), pair(1, 2))
    assert not torch.equal(pair(1, 2), pair(1, 3))
    assert not torch.equal(pair(1, 2), pair(2, 2))


def test_both_images_get_the_same_compression(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = SelfBlended(rows, tmp_path, finetune_train())
    monkeypatch.setattr(pairs, "forge", lambda index, image, rng: Forgery(image, None))
    same = [torch.equal(*pairs[(0, draw)][0]) for draw in range(30)]
    # With nothing forged the two differ in nothing, unless each got its own sensor noise.
    assert np.mean(same) > 0.7


def test_real_fakes_come_from_the_same_source(rows: pd.DataFrame, tmp_path: Path) -> None:
    pairs = SelfBlended(rows, tmp_path, real_fakes=1.0)
    fake = torch.from_numpy(cv2.imread(str(tmp_path / "4.png"))[:, :, ::-1].transpose(2, 0, 1).copy())
    assert torch.equal(pairs[(0, 0)][0][1], fake)


def test_donors_are_other_people(rows: pd.DataFrame, tmp_path: Path) -> None:
    pairs = SelfBlended(rows.assign(source_ids=["1", "1", "1", "4", "1"]), tmp_path, cross=1.0)
    rng = np.random.default_rng(0)
    assert {pairs._donor(0, rng) for _ in range(20)} == {3}
    alone = SelfBlended(rows.assign(source_ids="1"), tmp_path, cross=1.0)
    assert alone._donor(0, rng) is None
    alone[(0, 0)]  # falls back to blending with itself


@pytest.mark.parametrize("missing", [None, np.full(10, np.nan, np.float32)])
def test_unknown_landmarks_still_give_pairs(rows: pd.DataFrame, tmp_path: Path, missing: object) -> None:
    pairs = SelfBlended(rows.assign(landmarks=[missing] * 5), tmp_path, cross=1.0)
    real, fake = pairs[(0, 0)][0]
    assert not torch.equal(real, fake)


def test_no_real_face_is_an_error(rows: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="real faces"):
        SelfBlended(rows[rows["label"] == 1], tmp_path)
