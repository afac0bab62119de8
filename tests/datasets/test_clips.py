"""Clips: which crops form one, and what a batch of them holds."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from sficonv.datasets.clips import ClipCrops, clips_by_key, cut_into_clips, tracks_of
from sficonv.errors import DataError


def rows(**columns):
    return pd.DataFrame({"face": 0, "frame": 0, **columns})


@pytest.fixture
def crops(tmp_path):
    """Crops whose grey value is ten times the number of their frame: five of video a, two of video b."""
    made = []
    for video, count in (("a", 5), ("b", 2)):
        for frame in range(count):
            cv2.imwrite(str(tmp_path / f"{video}{frame}.png"), np.full((8, 8, 3), 10 * frame, np.uint8))
            made.append(
                {"path": f"{video}{frame}.png", "label": int(video == "b"), "video_id": video, "frame": frame}
            )
    return pd.DataFrame(made).assign(face=0), tmp_path


def test_a_track_is_one_face_of_one_video_in_order_of_time():
    df = rows(video_id=["a", "a", "b", "a"], face=[0, 1, 0, 0], frame=[7, 7, 1, 2])
    assert [t.tolist() for t in tracks_of(df)] == [[3, 0], [1], [2]]


def test_the_tracker_knows_better_than_the_rank_of_a_face():
    df = rows(video_id="a", face=[0, 1, 0, 1], frame=[0, 0, 1, 1], track=[5, 6, 6, 5])
    assert [t.tolist() for t in tracks_of(df)] == [[0, 3], [1, 2]]
    assert [t.tolist() for t in tracks_of(df.assign(track=-1))] == [[0, 2], [1, 3]]


def test_rows_of_any_index_are_counted_by_position():
    df = rows(video_id=["a", "b", "a"]).set_index(pd.Index([70, 5, 9]))
    assert [t.tolist() for t in tracks_of(df)] == [[0, 2], [1]]


def test_clips_cover_each_row_once_and_are_about_equally_long():
    clips = cut_into_clips([np.arange(9), np.arange(9, 12)], 8)
    assert [len(clip) for clip in clips] == [5, 4, 3]
    assert np.concatenate(clips).tolist() == list(range(12))
    assert [clip.tolist() for clip in clips_by_key(["x", "y", "x"], 8)] == [[0, 2], [1]]


def test_a_short_clip_is_padded_and_says_so(crops):
    df, root = crops
    dataset = ClipCrops(df, root, cut_into_clips(tracks_of(df), 3), 3)
    images, labels, indices = next(iter(DataLoader(dataset, batch_size=3)))
    assert images.shape == (3, 3, 3, 8, 8)
    assert labels.tolist() == [0, 0, 1]
    assert indices.tolist() == [[0, 1, 2], [3, 4, -1], [5, 6, -1]]
    assert images[:, :, 0, 0, 0].tolist() == [[0, 10, 20], [30, 40, 0], [0, 10, 0]]


def test_training_draws_a_run_of_frames_that_the_draw_alone_decides(crops):
    df, root = crops
    dataset = ClipCrops(df, root, tracks_of(df), 3)
    seen = {tuple(dataset[0, draw][2].tolist()) for draw in range(20)}
    assert seen == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}
    assert torch.equal(dataset[0, 11][0], dataset[0, 11][0])


def test_all_frames_are_transformed_alike(crops):
    df, root = crops
    dataset = ClipCrops(
        df, root, tracks_of(df), 5, lambda x: x + torch.randint(1, 100, (), dtype=torch.uint8)
    )
    images, _, _ = dataset[0, 3]
    assert images[:, 0, 0, 0].diff().tolist() == [10, 10, 10, 10]


def test_frames_of_other_sizes_are_brought_to_the_first(crops):
    df, root = crops
    cv2.imwrite(str(root / "a1.png"), np.full((16, 12, 3), 10, np.uint8))
    assert ClipCrops(df, root, tracks_of(df), 5)[0][0].shape == (5, 3, 8, 8)


def test_a_missing_frame_is_named(crops):
    df, root = crops
    (root / "a1.png").unlink()
    with pytest.raises(DataError, match=r"a1\.png"):
        ClipCrops(df, root, tracks_of(df), 5)[0]
