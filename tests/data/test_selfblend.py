from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from skimage.data import astronaut

from sficonv.data import selfblend
from sficonv.data.selfblend import (
    REGIONS,
    SelfBlended,
    blend_mask,
    collate_pairs,
    cross_blend,
    face_outline,
    self_blend,
    shift_statistics,
)
from sficonv.data.transforms import finetune_train
from sficonv.errors import DataError

# The face in scikit-image's photograph of Eileen Collins, in a crop of 160 px at (144, 30), enlarged to 256.
LANDMARKS = np.float32([[96, 114], [159, 120], [120, 154], [91, 178], [150, 182]])
UNKNOWN = np.full((5, 2), np.nan, np.float32)


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


@pytest.mark.parametrize("region", REGIONS)
def test_outline_lies_around_its_part_of_the_face(region: str) -> None:
    outlines = [face_outline(LANDMARKS, region, np.random.default_rng(seed)) for seed in range(20)]
    masks = np.mean([selfblend._fill(outline, (256, 256)) > 0 for outline in outlines], axis=0)
    eyes, mouth = LANDMARKS[:2].mean(axis=0).astype(int), LANDMARKS[3:].mean(axis=0).astype(int)
    at_eyes, at_mouth = masks[eyes[1], eyes[0]], masks[mouth[1], mouth[0]]
    assert (at_eyes > 0.9) == (region in ("face", "inner", "eyes"))
    assert (at_mouth > 0.9) == (region in ("face", "inner", "lower", "mouth"))
    assert masks[5].max() < 0.5  # the upper border of the crop is hair or background


def test_turned_head_moves_the_outline_away_from_the_nose() -> None:
    def middle(landmarks: np.ndarray) -> float:
        return face_outline(landmarks, "face", np.random.default_rng(1))[:, 0].mean()

    right = LANDMARKS.copy()
    right[2, 0] += 15
    assert middle(right) < middle(LANDMARKS)


@pytest.mark.parametrize("landmarks", [LANDMARKS, UNKNOWN, LANDMARKS + 2000, np.zeros((5, 2), np.float32)])
def test_mask_is_soft_inside_the_range_and_never_empty(landmarks: np.ndarray) -> None:
    for seed in range(20):
        mask = blend_mask(landmarks, (256, 256), np.random.default_rng(seed))
        assert mask.shape == (256, 256)
        assert mask.dtype == np.float32
        assert 0.5 < mask.max() <= 1
        assert mask.min() == 0
        assert ((mask > 0) & (mask < 1)).any()


@pytest.mark.parametrize("landmarks", [LANDMARKS, UNKNOWN])
def test_only_the_masked_area_differs_from_the_target(
    face: np.ndarray, landmarks: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    blended: list[tuple[np.ndarray, ...]] = []
    blend = selfblend._blend

    def spy(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
        blended.append((source, target, mask))
        return blend(source, target, mask)

    monkeypatch.setattr(selfblend, "_blend", spy)
    changed = 0
    for seed in range(20):
        fake = self_blend(face, landmarks, np.random.default_rng(seed))
        assert fake.shape == face.shape
        assert fake.dtype == np.uint8
        source, target, mask = blended.pop()
        assert np.array_equal(fake[mask == 0], target[mask == 0])
        assert (fake != target).any()
        full = mask == 1
        assert np.array_equal(fake[full], source[full])
        changed += not np.array_equal(target, face)
    assert 3 < changed < 17  # the copy whose statistics change is the source or the target


def test_same_generator_same_forgery(face: np.ndarray) -> None:
    first, again, other = (self_blend(face, LANDMARKS, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_forgery_is_subtle(face: np.ndarray) -> None:
    distance = [
        np.abs(self_blend(face, LANDMARKS, np.random.default_rng(seed)).astype(int) - face).mean()
        for seed in range(40)
    ]
    assert 0.05 < np.median(distance) < 20


def test_statistics_change_without_moving_the_image(face: np.ndarray) -> None:
    for seed in range(10):
        shifted = shift_statistics(face, np.random.default_rng(seed))
        a, b = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).ravel() for x in (face, shifted))
        assert np.corrcoef(a, b)[0, 1] > 0.9


def test_cross_blend_aligns_the_donor_and_matches_its_colours(face: np.ndarray) -> None:
    turn = cv2.getRotationMatrix2D((128, 128), 20, 0.8)
    donor = np.clip(cv2.warpAffine(face, turn, (256, 256)) * 0.5, 0, 255).astype(np.uint8)
    donor_landmarks = (LANDMARKS @ turn[:, :2].T + turn[:, 2]).astype(np.float32)
    fake = cross_blend(face, LANDMARKS, donor, donor_landmarks, np.random.default_rng(0))
    assert fake.shape == face.shape
    assert (fake != face).any()
    # It is the same face, turned and darkened: aligned and colour-matched, little of it remains.
    assert np.abs(fake.astype(int) - face).mean() < 5


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
    monkeypatch.setattr(pairs, "forge", lambda index, image, rng: image)
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
