"""Pairs made in batches: who is paired with whom, and that nothing but the forgery tells the two apart."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sficonv.errors import DataError
from sficonv.faces.alignment import TEMPLATE
from sficonv.training.pairs import CropsInMemory, PairMaker, PairShares

SIDE = 96


def row(label: int, who: str, dataset: str = "a", **more: object) -> dict[str, object]:
    return {
        "label": label, "dataset": dataset, "compression": "", "method": "swap" if label else "",
        "video_id": f"{label}{who}", "source_ids": who, "time": 0.0, "landmarks": (TEMPLATE * SIDE).ravel(),
        "size": SIDE, **more,
    }  # fmt: skip


def numbered(count: int) -> CropsInMemory:
    """Crops whose every pixel is their row's number."""
    return CropsInMemory(torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE))


def textures(count: int, seed: int = 0) -> torch.Tensor:
    """uint8 pictures of many colours and sharpnesses: noise of several scales."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        picture = np.full((SIDE, SIDE, 3), rng.uniform(60, 200, 3), np.float32)
        for scale in (4, 12, 48, 96):
            noise = rng.normal(0, rng.uniform(2, 25), (scale, scale, 3)).astype(np.float32)
            picture += cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        out.append(np.clip(picture, 0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2)


def test_a_forgery_stands_beside_the_frame_it_was_made_from() -> None:
    rows = pd.DataFrame([
        row(0, "1", time=0.0), row(0, "1", time=4.0), row(0, "2", time=4.0),
        row(0, "1", compression="c40", time=4.0),
        row(1, "1,2", time=3.5), row(1, "2,1", time=0.0),
    ])  # fmt: skip
    maker = PairMaker(rows, numbered(6), pairs=4, shares=PairShares(forgeries=1, unrelated=0))
    found = dict(zip(maker.forgery_fake.tolist(), maker.forgery_real.tolist(), strict=True))
    assert found == {4: 1, 5: 2}  # the first identity's video, same compression, the nearest in time


def test_fakes_made_from_no_crop_stand_beside_real_crops_of_their_data_set() -> None:
    rows = pd.DataFrame([row(0, "1"), row(0, "2", "b"), row(1, "x", "b"), row(1, "y", "b"), row(1, "z", "c")])
    maker = PairMaker(rows, numbered(5), pairs=8, shares=PairShares(forgeries=0, unrelated=1))
    assert maker.unrelated_fake.tolist() == [2, 3]  # "c" has no real faces
    assert maker.unrelated_real[maker.unrelated_real_span[:, 0]].tolist() == [1, 1]
    assert maker.counts()["unrelated"] == 8


def test_sources_and_methods_weigh_as_asked() -> None:
    rows = pd.DataFrame(
        [row(0, "1"), row(0, "2", "b")]
        + [row(1, "1", method="one")] * 3
        + [row(1, "1", method="two")]
        + [row(1, "2", "b", method="one")] * 5
    )
    shares = PairShares(
        forgeries=1, unrelated=0, forgery_sources={"a": 3, "b": 1}, real_sources={"a": 1, "b": 4}
    )
    maker = PairMaker(rows, numbered(len(rows)), pairs=2, shares=shares)
    fakes = rows.iloc[maker.forgery_fake.tolist()].assign(weight=maker.forgery_weights.numpy())
    weights = fakes.groupby(["dataset", "method"])["weight"].sum()
    assert weights.to_dict() == pytest.approx({("a", "one"): 1.5, ("a", "two"): 1.5, ("b", "one"): 1.0})
    assert (maker.weights / maker.weights.sum()).tolist() == pytest.approx([0.2, 0.8])


def test_a_batch_is_real_faces_first_and_repeats_with_its_step() -> None:
    rows = pd.DataFrame(
        [row(0, str(i)) for i in range(6)] + [row(1, "0"), row(1, "g", "b"), row(0, "h", "b")]
    )
    maker = PairMaker(rows, CropsInMemory(textures(9)), pairs=8, shares=PairShares(unrelated=0.25))
    images, labels, masks = maker.batch(3)
    assert images.shape == (16, 3, SIDE, SIDE) and masks.shape == (16, 1, SIDE, SIDE)
    assert labels.tolist() == [0] * 8 + [1] * 8
    assert float(masks[:8].abs().max()) == 0 and (masks[8:].amax((1, 2, 3)) > 0.1).all()
    assert torch.equal(images, maker.batch(3).images)
    assert not torch.equal(images, maker.batch(4).images)


def test_kinds_of_forgeries_that_the_data_cannot_give_are_made_instead() -> None:
    alone = PairMaker(pd.DataFrame([row(0, "1")]), numbered(1), pairs=4)
    assert alone.counts() == {"forgeries": 0, "unrelated": 0, "pasted": 0, "self_blended": 4}
    assert alone.batch(0).images.shape == (8, 3, SIDE, SIDE)


def test_a_pasted_face_is_another_persons() -> None:
    rows = pd.DataFrame([row(0, "1"), row(0, "1", video_id="other"), row(0, "2")])
    maker = PairMaker(rows, numbered(3), pairs=4)
    assert maker.people.tolist()[0] == maker.people.tolist()[1] != maker.people.tolist()[2]


def test_no_real_faces() -> None:
    with pytest.raises(DataError, match="no.*real|none"):
        PairMaker(pd.DataFrame([row(1, "1")]), numbered(1), pairs=2)


def test_colours_sharpness_and_file_size_do_not_tell_the_label() -> None:
    """A linear probe on them stays near chance, or a detector would learn them instead of the forgery."""
    rows = pd.DataFrame([row(0, str(i)) for i in range(80)])
    maker = PairMaker(rows, CropsInMemory(textures(80)), pairs=40, shares=PairShares(pasted=0.25))
    images, labels, _ = (torch.cat(x) for x in zip(*(maker.batch(step) for step in range(6)), strict=True))

    def statistics(x: torch.Tensor) -> list[float]:
        pixels = x.permute(1, 2, 0).numpy().astype(np.uint8)
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        size = len(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
        detail = np.log1p(cv2.Laplacian(grey, cv2.CV_32F).var())
        return [*pixels.mean((0, 1)), *pixels.std((0, 1)), detail, np.log(size)]

    features = np.array([statistics(x) for x in images])
    groups = np.tile(np.arange(40).repeat(1), len(labels) // 40) % 5
    folds = [(np.flatnonzero(groups != k), np.flatnonzero(groups == k)) for k in range(5)]
    probe = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(probe, features, labels.numpy(), cv=folds, method="predict_proba")[:, 1]
    assert 0.4 < roc_auc_score(labels.numpy(), scores) < 0.6
