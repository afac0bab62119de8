"""What a run may read: splits, labels, bad rows and the two loaders."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.errors import DataError
from sficonv.training import TrainResult
from sficonv.training.data import load_training_data, train_loader, val_loader
from sficonv.training.recipes import Recipe

Make = Callable[..., Path]


def test_missing_crops_are_counted_before_anything_is_trained(
    run: Callable[..., TrainResult], make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared()
    for name in ("train_0_0_0", "val_1_0_0", "test_0_0_0"):
        (data / f"{name}.png").unlink()
    with pytest.raises(DataError, match=r"2 of the 16 crops .*train_0_0_0\.png, \S*val_1_0_0\.png"):
        run(data)
    assert not (tmp_path / "run").exists()


def test_crops_that_would_count_twice_are_refused(
    run: Callable[..., TrainResult], make_prepared: Make
) -> None:
    data = make_prepared()
    for given in ({"data": [data, data]}, {"data": data, "extra_data": data}):
        with pytest.raises(DataError, match=r"crops are in several of the folders"):
            run(**given)


def test_manifests_with_holes_or_repeated_rows_are_refused(
    run: Callable[..., TrainResult], make_prepared: Make
) -> None:
    data = make_prepared()
    table = pq.read_table(data / "manifest.parquet")
    labels = table["label"].to_pylist()
    for label, words in ((None, "empty cells in label"), (3, "label must be 0")):
        column = pa.array([label, *labels[1:]], pa.int8())
        pq.write_table(table.set_column(1, "label", column), data / "manifest.parquet")
        with pytest.raises(DataError, match=words):
            run(data)
    pq.write_table(pa.concat_tables([table, table[:1]]), data / "manifest.parquet")
    with pytest.raises(DataError, match="duplicate paths"):
        run(data)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"splits": ("train", "test"), "videos": 1}, "no validation set can be taken"),
        ({"splits": ("train", "val"), "labels": (0,)}, "'val' has only real crops"),
        ({"splits": ("train", "val"), "labels": (1,)}, "'val' has only fake crops"),
        ({"splits": ("val", "test")}, "split 'train'"),
    ],
)
def test_unusable_splits_are_refused(
    run: Callable[..., TrainResult], make_prepared: Make, made: dict, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        run(make_prepared(**made))
    assert not (tmp_path / "run").exists()


def test_training_rows_of_one_label_need_self_blending(
    run: Callable[..., TrainResult], make_prepared: Make
) -> None:
    data = make_prepared()
    rows = read_manifest(data)
    write_manifest(data, rows[(rows["split"] != "train") | (rows["label"] == 0)])
    with pytest.raises(DataError, match="one label"):
        run(data, recipe="paper")
    run(data, "blended", recipe="finetune", epochs=1)


def test_extra_data_gives_real_training_rows_only(make_prepared: Make) -> None:
    extra = [make_prepared("extra"), make_prepared("plain", splits=("",), videos=3)]
    data = load_training_data([make_prepared()], extra)
    assert set(data.extra["label"]) == {0}
    assert set(data.extra["split"]) == {"train", ""}
    assert len(data.extra) == 4 + 6
    assert data.summary["extra"]["real_crops"] == 10
    with pytest.raises(DataError, match="extra data"):
        load_training_data([make_prepared("b")], [make_prepared("fakes", labels=(1,))])


def test_validation_keeps_the_order_of_its_rows(make_prepared: Make) -> None:
    data = load_training_data([make_prepared()])
    labels, indices = [], []
    for _, some_labels, some_indices in val_loader(
        data, Recipe.named("paper", batch_size=3, image_size=32), workers=0
    ):
        labels += some_labels.tolist()
        indices += some_indices.tolist()
    assert labels == data.val["label"].tolist()
    assert indices == list(range(len(data.val)))


def test_leaks_between_splits_are_reported(run: Callable[..., TrainResult], make_prepared: Make) -> None:
    data = make_prepared()
    rows = read_manifest(data)
    write_manifest(data, rows.assign(source_ids="same"))
    card = run(data, epochs=1).card
    assert any("identities" in warning for warning in card["training"]["warnings"])


def test_mask_files_are_found_from_any_folder(make_prepared: Make) -> None:
    folder = make_prepared()
    rows = read_manifest(folder)
    write_manifest(folder, rows.assign(mask=["" if label == 0 else "masks/m.png" for label in rows["label"]]))
    data = load_training_data([folder])
    assert set(data.train["mask"]) == {"", str(folder / "masks" / "m.png")}
    loader = train_loader(data, Recipe.named("paper", image_size=32, batch_size=4), masks=True)
    with pytest.raises(DataError, match=r"masks/m\.png: this mask of a face crop is missing"):
        list(loader)


def test_loaders_need_a_size(make_prepared: Make) -> None:
    with pytest.raises(ValueError, match="image_size"):
        val_loader(load_training_data([make_prepared()]), Recipe.named("paper"), workers=0)
