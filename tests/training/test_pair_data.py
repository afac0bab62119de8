"""Where the crops of pairs lie, what is wrong with them, and that the batches depend on the step alone."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.errors import DataError
from sficonv.training.data import load_training_data
from sficonv.training.pair_data import PairData, Steps, pair_data, pair_loader
from sficonv.training.recipes import Recipe

Make = Callable[..., Path]
RECIPE = Recipe.named("finetune", batch_size=8, image_size=32)


def pairs_of(
    folder: Path, recipe: Recipe = RECIPE, memory: float = 1.0, extra: Path | None = None
) -> PairData:
    data = load_training_data([folder], [extra] if extra else ())
    return pair_data(data, recipe, device=torch.device("cpu"), memory=memory)


def edit(folder: Path, **columns: Callable[[pd.Series], object]) -> None:
    rows = read_manifest(folder)
    for name, change in columns.items():
        rows[name] = [change(row) for _, row in rows.iterrows()]
    write_manifest(folder, rows)


def test_more_crops_than_memory_holds_give_the_same_batches(make_prepared: Make) -> None:
    folder = make_prepared()
    held, streamed = pairs_of(folder), pairs_of(folder, memory=1e-9)
    assert "in memory" in held.said[0]
    assert "decoded as they are drawn" in streamed.said[0]
    for step in (0, 5):
        for a, b in zip(held.maker.batch(step), streamed.maker.batch(step), strict=True):
            assert torch.equal(a, b)


def test_a_continued_run_gets_the_batches_that_were_left(make_prepared: Make) -> None:
    maker = pairs_of(make_prepared()).maker
    loader = pair_loader(maker, 3)
    whole = [batch[0] for _ in range(2) for batch in loader]
    continued = pair_loader(maker, 3, first_step=4)
    assert len(continued) == 3
    rest = [batch[0] for batch in continued]
    assert len(rest) == 2
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], rest, strict=True))
    assert not torch.equal(whole[0], whole[3])


def test_steps_go_on_over_the_epochs() -> None:
    steps = Steps(3, 4)
    assert [list(steps), list(steps)] == [[4, 5], [6, 7, 8]]
    steps.set_epoch(1)
    assert list(steps) == [3, 4, 5]


def test_a_batch_holds_images_labels_and_masks(make_prepared: Make) -> None:
    images, labels, numbers, masks = next(iter(pair_loader(pairs_of(make_prepared()).maker, 2)))
    assert (images.shape, images.dtype) == ((8, 3, 32, 32), torch.uint8)
    assert (masks.shape, masks.dtype) == ((8, 1, 32, 32), torch.uint8)
    assert labels.tolist() == [0] * 4 + [1] * 4
    assert numbers.tolist() == list(range(8))
    assert masks[:4].max() == 0
    assert all(mask.max() > 0 for mask in masks[4:])


def test_crops_of_another_size_are_resized_with_their_landmarks(make_prepared: Make) -> None:
    folder = make_prepared()
    before = pairs_of(folder).maker.landmarks
    for path in folder.glob("*.png"):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (80, 80)))
    edit(folder, landmarks=lambda row: np.asarray(row["landmarks"]) * 2.5)
    found = pairs_of(folder)
    assert not found.warnings
    assert found.maker.batch(0).images.shape == (8, 3, 32, 32)
    torch.testing.assert_close(found.maker.landmarks, before)


def test_an_image_size_that_is_no_multiple_of_16_gets_larger_pairs(make_prepared: Make) -> None:
    found = pairs_of(make_prepared(), Recipe.named(RECIPE, image_size=35))
    assert found.maker.batch(0).images.shape[-1] == 48


def test_what_is_odd_is_counted_and_said(make_prepared: Make) -> None:
    folder = make_prepared()
    cv2.imwrite(str(folder / "train_0_0_0.png"), np.full((32, 48, 3), 90, np.uint8))
    nan = [float("nan")] * 10
    edit(
        folder,
        landmarks=lambda row: (
            nan if row["path"] in ("train_0_1_0.png", "train_1_1_0.png") else row["landmarks"]
        ),
        box=lambda row: [50.0, 50.0, 59.0, 59.0] if row["path"] == "train_1_0_1.png" else row["box"],
    )
    found = pairs_of(folder)
    text = " ".join(found.warnings)
    assert "1 real faces have no landmarks" in text
    assert "1 crops are not square" in text
    assert "1 fakes show another place of the frame" in text
    assert len(found.maker.forgery_fake) == 3
    assert found.maker.batch(0).images.isfinite().all()


def test_no_real_faces_and_broken_crops_are_named(make_prepared: Make) -> None:
    folder = make_prepared("fakes")
    edit(folder, label=lambda row: 1 if row["split"] == "train" else row["label"])
    with pytest.raises(DataError, match="made from real faces, and the training rows have none"):
        pairs_of(folder)
    folder = make_prepared("broken")
    (folder / "train_1_0_0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"train_1_0_0\.png: this face crop cannot be decoded"):
        pairs_of(folder)


def test_fakes_without_an_original_keep_their_share(make_prepared: Make) -> None:
    folder = make_prepared()
    edit(folder, source_ids=lambda row: f"{row['label']}-{row['video_id']}")
    counts = pairs_of(folder, Recipe.named(RECIPE, batch_size=20)).maker.counts()
    assert (counts["forgeries"], counts["unrelated"]) == (0, 3)


def test_extra_faces_get_the_share_that_main_share_leaves(make_prepared: Make) -> None:
    folder, extra = make_prepared(), make_prepared("extra", splits=("",), labels=(0,), videos=5)
    maker = pairs_of(folder, Recipe.named(RECIPE, main_share=0.25), extra=extra).maker
    weights = maker.weights / maker.weights.sum()
    assert float(weights[:4].sum()) == pytest.approx(0.25)


def test_the_transform_paper_flips_and_turns_only(make_prepared: Make) -> None:
    change = pairs_of(make_prepared(), Recipe.named(RECIPE, transform="paper")).maker.augmentation
    assert (change.codec, change.noise, change.colour, change.zoom) == (0, 0, 0, 1)
