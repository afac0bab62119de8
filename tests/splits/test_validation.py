"""A validation set out of the training set, and the way from Celeb-DF as distributed to a detector."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest

from sficonv.cli.app import main
from sficonv.datasets.manifest import identities, read_manifest
from sficonv.detect.demo import forge, pan, photograph, write_video
from sficonv.errors import DataError
from sficonv.splits.validation import lacks_validation, take_validation


def videos(*ids: tuple[str, int], split: str = "train") -> pd.DataFrame:
    """One row a video: who is seen, and the label."""
    rows = [{"source_ids": who, "video_id": f"{label}/{who}", "label": label} for who, label in ids]
    return pd.DataFrame(rows).assign(split=split, dataset="celebdf")


def celebrities(number: int) -> pd.DataFrame:
    """Everybody for real, and everybody with the face of everybody else."""
    names = [f"id{i}" for i in range(number)]
    pairs = [(f"{a},{b}", 1) for a, b in permutations(names, 2)]
    return videos(*((name, 0) for name in names), *((f"youtube:{i}", 0) for i in range(20)), *pairs)


def sides(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return rows[rows["split"] == "train"], rows[rows["split"] == "val"]


@pytest.mark.parametrize("seed", range(3))
def test_where_forgeries_link_everybody_nobody_is_on_both_sides(seed):
    whole = celebrities(20)
    rows, told = take_validation(whole, seed=seed)
    train, val = sides(rows)
    assert not frozenset().union(*identities(train)) & frozenset().union(*identities(val))
    assert set(train["label"]) == set(val["label"]) == {0, 1}
    lost = len(whole) - len(rows)
    assert 0 < lost < 0.4 * len(whole) and f"{lost} videos that mix both" in told
    assert len(val) < 0.2 * len(whole)


def test_nothing_is_lost_where_people_come_in_groups():
    pairs = [(f"{2 * i},{2 * i + 1}", label) for i in range(20) for label in (0, 1)]
    rows, told = take_validation(videos(*pairs))
    assert len(rows) == 40
    assert told == "6 of 40 training videos became the validation set, by identity"


def test_the_test_set_stays_as_it_is():
    test = videos(("id0", 0), ("id0,id1", 1), split="test")
    test["video_id"] = "test/" + test["video_id"]
    rows, _ = take_validation(pd.concat([celebrities(10), test], ignore_index=True))
    pd.testing.assert_frame_equal(rows[rows["split"] == "test"].reset_index(drop=True), test)


def test_two_people_are_too_few():
    with pytest.raises(DataError, match="no validation set can be taken"):
        take_validation(videos(("a", 0), ("b", 0), ("a,b", 1)))


def test_what_lacks_a_validation_set():
    train = celebrities(4)
    assert lacks_validation(train)
    assert lacks_validation(pd.concat([train, videos(("z", 0), split="val")]))
    assert not lacks_validation(pd.concat([train, videos(("z", 0), ("z", 1), split="val")]))
    assert not lacks_validation(train[train["label"] == 0]), "nothing to train on either"


@pytest.mark.slow
def test_from_celeb_df_as_it_is_distributed_to_a_detector_in_the_printed_lines(
    tmp_path: Path, monkeypatch, capsys
):
    """README: prepare, train, evaluate. The published list names a test set only."""
    monkeypatch.chdir(tmp_path)
    people = [f"id{i}" for i in range(6)]
    photo = photograph()
    for i, name in enumerate(people):
        write(f"Celeb-real/{name}_0000.mp4", pan(photo, frames=2, seed=i))
    for i, (a, b) in enumerate(permutations(people, 2)):
        write(f"Celeb-synthesis/{a}_{b}_0000.mp4", pan(forge(photo, seed=i), frames=2, seed=i))
    listed = ["1 Celeb-real/id0_0000.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4"]
    Path("Celeb-DF/List_of_testing_videos.txt").write_text("\n".join(listed) + "\n")

    assert main(["prepare", "Celeb-DF", "--out", "faces", "--workers", "0"]) == 0
    assert set(read_manifest("faces")["split"]) == {"train", "test"}
    small = ["--model", "meso_inception4", "--recipe", "paper", "--image-size", "64", "--epochs", "1"]
    assert main(["train", "faces", "--out", "run", "--workers", "0", "--steps-per-epoch", "1", *small]) == 0
    said = capsys.readouterr()
    assert "has no validation set with real and fake faces, so one was drawn" in said.out + said.err
    evaluate = ["evaluate", "--weights", "run/weights.safetensors", "--data", "faces", "--split"]
    assert main([*evaluate, "val"]) == 0
    assert main([*evaluate, "test"]) == 0


def write(name: str, frames) -> None:
    path = Path("Celeb-DF", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames)
