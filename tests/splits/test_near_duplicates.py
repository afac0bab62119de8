"""Near duplicates never lie on two sides of a split that we draw, and others are remembered."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sficonv.datasets.manifest import Protocol, read_manifest, read_protocol, write_manifest
from sficonv.media.images import write_png
from sficonv.splits.near_duplicates import (
    find_near_duplicates,
    perceptual_hash,
    protocol_with_leaks,
    with_near_duplicates_together,
)
from sficonv.splits.split import split

Prepared = Callable[[dict[str, tuple[int, str]]], Path]


@pytest.fixture
def prepared(tmp_path: Path, crop_row: Callable[..., dict[str, object]]) -> Prepared:
    """A prepared folder: video -> which picture it shows, and its split."""

    def make(videos: dict[str, tuple[int, str]]) -> Path:
        rows = []
        for number, (video, (picture, split_name)) in enumerate(videos.items()):
            rng = np.random.default_rng(picture)
            rough = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            image = np.kron(rough, np.ones((8, 8, 1), np.uint8)).astype(np.int16)
            image = np.clip(image + np.random.default_rng(number).integers(-3, 4, image.shape), 0, 255)
            crop = image.astype(np.uint8)
            digest = write_png(tmp_path / f"crops/{number}.png", crop)
            told = {"video_id": f"set/{video}", "source_ids": video, "split": split_name, "sha256": digest}
            rows.append(crop_row(number, **told, phash=perceptual_hash(crop)))
        write_manifest(tmp_path, pd.DataFrame(rows), protocol=Protocol("own", "drawn"))
        return tmp_path

    return make


def test_what_shows_the_same_is_put_into_one_split(prepared: Prepared) -> None:
    folder = prepared(
        {"a": (1, "train"), "b": (1, "train"), "c": (1, "test"), "d": (2, "val"), "e": (3, "test")}
    )
    df = read_manifest(folder)
    assert find_near_duplicates(df, folder) is not None
    together, moved = with_near_duplicates_together(df, folder)
    assert together["split"].tolist() == ["train", "train", "train", "val", "test"] and moved == 1
    assert find_near_duplicates(together, folder) is None


def test_chains_of_near_duplicates_are_followed(prepared: Prepared) -> None:
    videos = {"a": (1, "train"), "b": (1, "val"), "c": (2, "val"), "d": (2, "test"), "e": (3, "test")}
    folder = prepared(videos)
    df = read_manifest(folder)
    df.loc[df["video_id"].isin(["set/b", "set/c"]), "source_ids"] = "one person"
    together, _ = with_near_duplicates_together(df, folder)
    assert together["split"].iloc[:4].nunique() == 1


def test_an_identity_split_keeps_near_duplicates_together(prepared: Prepared) -> None:
    videos = {f"v{i}": (i // 2, "train") for i in range(16)}
    folder = prepared(videos)
    report = split(folder, protocol="identity", fractions=(0.5, 0.25, 0.25))
    df = read_manifest(report.manifest)
    assert df.groupby(df["video_id"].str[5:].astype(int) // 2)["split"].nunique().max() == 1
    assert df["split"].nunique() == 3 and not report.protocol.leaky
    assert "near duplicates" in report.protocol.statement


def test_near_duplicates_that_stay_are_remembered_by_the_manifest(prepared: Prepared) -> None:
    folder = prepared({"a": (1, "train"), "b": (1, "test")})
    df = read_manifest(folder)
    told = protocol_with_leaks(Protocol("official", "the published splits"), find_near_duplicates(df, folder))
    write_manifest(folder, df, protocol=told)
    protocol = read_protocol(folder)
    assert protocol is not None and protocol.leaky and str(protocol).startswith("LEAKY")
    assert "crops/0.png = crops/1.png" in protocol.statement and "--video-pattern" in protocol.statement
    assert protocol_with_leaks(Protocol("own", "drawn"), None).leaky is False
