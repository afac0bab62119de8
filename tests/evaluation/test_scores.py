"""Rows counted off to arrays: which are one video, and which cannot be used."""

import math

import numpy as np
import pandas as pd
import pytest

from sficonv.errors import DataError
from sficonv.evaluation import bootstrap_intervals, evaluate, judge
from sficonv.evaluation.score_table import score_file, table_in_memory
from sficonv.evaluation.scores import frame_to_video, read_scores


def test_video_score_is_the_mean_of_its_frames():
    df = pd.DataFrame(
        {
            "video_id": ["b", "a", "b"],
            "label": [1, 0, 1],
            "p_fake": [0.2, 0.4, 0.6],
            "method": ["DF", "real", "DF"],
        }
    )
    videos = frame_to_video(df).set_index("video_id")
    assert videos.loc["b", "p_fake"] == pytest.approx(0.4)
    assert videos.loc["b", ["label", "frames", "method"]].tolist() == [1, 2, "DF"]
    assert len(videos) == 2


@pytest.mark.parametrize("column", ["method", "compression", "dataset"])
def test_videos_of_one_folder_name_are_never_collapsed(column):
    df = pd.DataFrame({"video_id": "033_097", "label": 1, "p_fake": [0.2, 0.4, 0.9], column: ["x", "x", "y"]})
    assert sorted(frame_to_video(df)["p_fake"]) == pytest.approx([0.3, 0.9])


def test_rows_without_a_method_are_not_lost():
    df = pd.DataFrame({"video_id": ["a", "b"], "label": [0, 1], "p_fake": [0.2, 0.9], "method": [None, "DF"]})
    assert len(frame_to_video(df)) == 2


def test_video_with_two_labels_is_refused():
    df = pd.DataFrame(
        {"video_id": ["a", "b", "b"], "label": [0, 0, 1], "p_fake": 0.5, "method": ["real", "real", "DF"]}
    )
    with pytest.raises(DataError, match="video 'b'"):
        frame_to_video(df)


def test_missing_columns_and_ids_are_named():
    with pytest.raises(DataError, match="no column video_id"):
        frame_to_video(pd.DataFrame({"label": [0], "p_fake": [0.1]}))
    with pytest.raises(DataError, match="row 1: video_id is empty"):
        frame_to_video(pd.DataFrame({"label": [0, 1], "p_fake": [0.1, 0.2], "video_id": ["a", None]}))


def test_no_frames_give_no_videos():
    df = pd.DataFrame({"video_id": [], "label": [], "p_fake": []})
    assert frame_to_video(df).empty
    assert all(math.isnan(low) for low, _ in bootstrap_intervals(df).values())


# Batches


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr("sficonv.evaluation.score_table.BATCH", 7)


def rows(videos: int = 9, frames: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(videos), frames)
    return pd.DataFrame(
        {
            "path": [f"{v}/{k}.png" for k, v in enumerate(video)],
            "video_id": [f"{v:03}" for v in video],
            "label": video % 2,
            "p_fake": rng.random(len(video)),
            "method": np.where(video % 2, np.where(video % 3, "DF", "FS"), "real"),
        }
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_read_in_batches_is_judged_as_the_table_it_holds(tmp_path, small_batches, suffix):
    df = rows().sample(frac=1, random_state=1)
    file = tmp_path / f"scores{suffix}"
    df.to_csv(file, index=False) if suffix == ".csv" else df.to_parquet(file)
    assert max(map(len, score_file(file).batches())) == 7
    read, whole = judge(score_file(file), bootstrap=20), judge(df, bootstrap=20)
    assert (read.video, read.frame, read.counts) == (whole.video, whole.frame, whole.counts)
    pd.testing.assert_frame_equal(read.per_method, whole.per_method)
    assert judge(rows(), bootstrap=20).video == whole.video  # the order of the rows does not matter


def test_repetitions_and_faults_are_found_across_batches(tmp_path, small_batches):
    df = rows()
    scores, left_out = read_scores(table_in_memory(pd.concat([df, df.iloc[[3]]])))
    assert (left_out.repeated, len(scores)) == (1, 45)
    with pytest.raises(DataError, match="1 crops have several scores"):
        judge(table_in_memory(pd.concat([df, df.iloc[[4]].assign(p_fake=0.5)])), bootstrap=0)
    faces = pd.concat([df.assign(face=0), df.iloc[[4]].assign(p_fake=0.5, face=1)])
    assert len(read_scores(table_in_memory(faces))[0]) == 46  # two faces of one frame are two
    df.to_csv(tmp_path / "scores.csv", index=False)
    for column, value, message in [
        ("p_fake", math.nan, r"row 7/38\.png: p_fake must be a number"),
        ("p_fake", "high", "column p_fake must hold numbers"),
        ("label", math.nan, r"row 7/38\.png: label must be 0"),
        ("label", 2, r"row 7/38\.png: label must be 0"),
        ("label", "fake", "column label must hold numbers"),
        ("video_id", None, "row 38: video_id is empty"),
        ("video_id", "000", "video '000' has frames labelled real"),
    ]:
        bad = df.astype({column: object})
        bad.loc[38, column] = value
        bad.to_csv(tmp_path / "bad.csv", index=False)
        with pytest.raises(DataError, match=message):
            read_scores(score_file(tmp_path / "bad.csv"))


def test_what_is_kept_of_a_row_does_not_grow_with_its_texts():
    df = rows(50, 200)
    scores, _ = read_scores(table_in_memory(df.assign(path="a long folder/" * 20 + df["path"])))
    arrays = (scores.label, scores.p_fake, scores.video, scores.key)
    assert sum(array.nbytes for array in arrays) == 21 * len(df)


def test_videos_without_a_readable_crop_are_named():
    df = rows().assign(error="")
    df.loc[df["video_id"].isin(["002", "005"]), ["p_fake", "error"]] = [math.nan, "is missing"]
    scores, left_out = read_scores(table_in_memory(df))
    assert left_out.empty_videos == ["002", "005"]
    assert left_out.unreadable == 10
    assert len(scores.videos) == 7


def test_labels_of_another_convention(tmp_path):
    df = rows()
    df.assign(label=1 - df["label"]).to_parquet(tmp_path / "scores.parquet")
    result = evaluate(
        predictions=tmp_path / "scores.parquet", real_label=1, bootstrap=5, out=tmp_path / "out"
    )
    assert result.video == judge(df, bootstrap=5).video
    assert any("real_label=1" in note for note in result.notes)
    # what is written is of this library's convention
    assert evaluate(predictions=tmp_path / "out", bootstrap=5).video == result.video
    with pytest.raises(ValueError, match="real_label"):
        score_file(tmp_path / "scores.parquet", real_label=2)


def test_scores_that_are_upside_down_are_suspected():
    df = rows(40)
    good = df.assign(p_fake=0.2 + 0.6 * df["label"] + 0.1 * df["p_fake"])
    assert any("swap them" in n for n in judge(good.assign(p_fake=1 - good["p_fake"]), bootstrap=20).notes)
    assert not any("swap them" in note for note in judge(good, bootstrap=20).notes)


def test_a_damaged_file_is_named(tmp_path):
    df = pd.concat([rows(20, 100)] * 5)
    df.to_parquet(tmp_path / "scores.parquet")
    content = bytearray((tmp_path / "scores.parquet").read_bytes())
    content[100:4000] = bytes(3900)
    (tmp_path / "scores.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"scores\.parquet: not a readable table"):
        judge(score_file(tmp_path / "scores.parquet"), bootstrap=0)


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(tmp_path, separator, word):
    rows().to_csv(tmp_path / "scores.csv", index=False, sep=separator)
    with pytest.raises(DataError, match=f"separated by {word}; save it with commas"):
        score_file(tmp_path / "scores.csv")


def test_a_crop_with_two_scores_is_refused(tmp_path):
    rows = pd.DataFrame(
        {"path": ["a.png", "b.png", "a.png"], "label": [0, 1, 0], "p_fake": [0.1, 0.9, 0.4], "video_id": "x"}
    ).assign(video_id=["a", "b", "a"])
    with pytest.raises(DataError, match="1 crops have several scores: a.png; keep one.*frame and face"):
        judge(rows)
    assert judge(rows.assign(face=[0, 0, 1]), bootstrap=0).counts["frames"] == 3
    assert judge(rows.assign(p_fake=[0.1, 0.9, 0.1]), bootstrap=0).counts["frames"] == 2  # says the same


def test_the_case_of_a_path_with_two_scores(shared):
    file = shared / "cases" / "scores" / "dup_conflict.csv"
    with pytest.raises(DataError, match="several scores"):
        evaluate(predictions=file, bootstrap=0)
