from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from sficonv.datasets.crops import (
    DrawSampler,
    FaceCrops,
    RowsInTurn,
    balanced_weights,
    read_crop,
)
from sficonv.datasets.manifest import identities
from sficonv.errors import DataError


@pytest.fixture
def crops(tmp_path: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))
    return pd.DataFrame({"path": [f"{i}.png" for i in range(3)], "label": [0, 1, 1]})


def test_items_are_uint8_rgb_with_label_and_index(crops: pd.DataFrame, tmp_path: Path) -> None:
    image, label, index = FaceCrops(crops, tmp_path)[1]
    assert image.shape == (3, 256, 256)
    assert image.dtype == torch.uint8
    assert (label, index) == (1, 1)
    bgr = cv2.imread(str(tmp_path / "1.png"))
    assert np.array_equal(image.numpy(), bgr[:, :, ::-1].transpose(2, 0, 1))


def test_absolute_paths_ignore_the_root(crops: pd.DataFrame, tmp_path: Path) -> None:
    absolute = crops.assign(path=[str(tmp_path / path) for path in crops["path"]])
    assert torch.equal(FaceCrops(absolute, "/")[0][0], FaceCrops(crops, tmp_path)[0][0])


@pytest.mark.parametrize(
    ("content", "words"), [(None, "is missing"), (b"", "cannot be decoded"), (b"text", "cannot be decoded")]
)
def test_bad_crop_names_the_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.png.*{words}"):
        read_crop(path)


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    dataset = FaceCrops(pd.DataFrame({"path": ["none.png"], "label": [0]}), tmp_path)
    assert len(dataset) == 1
    with pytest.raises(DataError, match=r"none\.png"):
        dataset[0]


def test_transform_follows_the_draw_and_leaves_the_generator_alone(
    crops: pd.DataFrame, tmp_path: Path
) -> None:
    dataset = FaceCrops(crops, tmp_path, lambda image: image + torch.randint(0, 200, (1,), dtype=torch.uint8))
    state = torch.get_rng_state()
    first, again, other = dataset[(0, 5)][0], dataset[(0, 5)][0], dataset[(0, 6)][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_sampler_depends_on_seed_and_epoch_only() -> None:
    def keys(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = DrawSampler(num_rows=20, replacement=False, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert keys(1, 3) == keys(1, 3)
    assert keys(1, 3) != keys(1, 4)
    assert keys(1, 3) != keys(2, 3)
    assert sorted(index for index, _ in keys(1, 3)) == list(range(20))
    sampler = DrawSampler(num_rows=20, replacement=False, seed=1)
    assert [list(sampler), list(sampler)] == [keys(1, 0), keys(1, 1)]


def test_sampler_needs_to_know_the_rows() -> None:
    with pytest.raises(ValueError, match="num_rows"):
        DrawSampler()


def test_balanced_weights_even_out_labels_and_videos() -> None:
    df = pd.DataFrame(
        {"label": [0, 0, 0, 1, 1, 1, 1], "video_id": ["a", "a", "b", "c", "c", "c", "d"]},
        index=[9, 8, 7, 6, 5, 4, 3],
    )
    weights = pd.Series(balanced_weights(df), index=df.index)
    assert weights.groupby(df["label"]).sum().to_list() == pytest.approx([1.0, 1.0])
    assert weights.groupby(df["video_id"]).sum().to_list() == pytest.approx([0.5] * 4)
    drawn = [index for index, _ in DrawSampler(weights.to_numpy(), num_samples=4000, seed=0)]
    share = np.bincount(drawn, minlength=7) / 4000
    assert share[:3].sum() == pytest.approx(0.5, abs=0.03)
    assert share[6] == pytest.approx(0.25, abs=0.03)


def test_identities_are_known_per_dataset() -> None:
    df = pd.DataFrame({"dataset": ["a", "b"], "source_ids": ["1,2", ""], "video_id": ["a/1", "b/x"]})
    assert identities(df) == [frozenset(["a/1", "a/2"]), frozenset(["b/x"])]


def dealt(monkeypatch: pytest.MonkeyPatch, devices: int, make: Callable[[], Iterable]) -> list[list]:
    """What each of the devices gets; `tests/training/test_devices.py` asks real ones."""
    hands = []
    for device in range(devices):
        monkeypatch.setattr("sficonv.datasets.crops.device_number", lambda device=device: device)
        hands.append(list(make()))
    return hands


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("devices", [2, 3])
def test_devices_deal_out_the_draws_of_one(
    monkeypatch: pytest.MonkeyPatch, devices: int, replacement: bool
) -> None:
    options = {"num_rows": 20, "replacement": replacement, "seed": 1}
    whole = list(DrawSampler(**options))
    sampler = DrawSampler(**options, devices=devices)
    hands = dealt(monkeypatch, devices, lambda: DrawSampler(**options, devices=devices))
    assert {len(hand) for hand in hands} == {len(sampler)} == {20 // devices}
    together = [key for keys in zip(*hands, strict=True) for key in keys]
    assert together == whole[: len(together)]


def test_an_epoch_goes_on_where_it_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(skip: int = 0) -> DrawSampler:
        sampler = DrawSampler(num_rows=20, replacement=False, seed=1, devices=2)
        sampler.epoch, sampler.skip = 3, skip
        return sampler

    rest = dealt(monkeypatch, 2, lambda: make(4))
    assert rest == [hand[4:] for hand in dealt(monkeypatch, 2, make)]
    sampler = make(4)
    assert [len(list(sampler)) for _ in range(2)] == [6, 10]  # the next epoch is whole again


def test_rows_are_dealt_out_evenly_and_none_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dealt(monkeypatch, 1, lambda: RowsInTurn(5)) == [[0, 1, 2, 3, 4]]
    assert dealt(monkeypatch, 2, lambda: RowsInTurn(5, 2)) == [[0, 2, 4], [1, 3, 0]]
    assert dealt(monkeypatch, 3, lambda: RowsInTurn(2, 3)) == [[0], [1], [0]]
