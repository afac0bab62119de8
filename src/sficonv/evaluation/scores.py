"""Scores as arrays: what is left of a table of any length once its texts are counted off.

A row takes 21 bytes (label 1, score 8, video 4, fingerprint of its path 8), a video its names once. Ten
million rows are 210 MB, where a table of texts would take gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sficonv.errors import DataError
from sficonv.evaluation.metrics import check_scores
from sficonv.evaluation.score_table import (
    ROW_KEYS,
    VIDEO_KEYS,
    ScoreTable,
    has_text,
    numbers,
    table_in_memory,
)

GROUPS = ("dataset", "method", "compression")
"""What fakes are told apart by, where the figures are split up."""


@dataclass(frozen=True)
class Scores:
    """Judged rows and the videos that they belong to.

    Args:
        label: `(N,)`, int8, 0 = real, 1 = fake.
        p_fake: `(N,)`, float64, P(fake) in [0, 1].
        video: `(N,)`, int32, index of the row's video.
        videos: `(V,)` rows with what tells the videos apart, in the order of their index; without columns
            where every row is a video of its own.
        group: `(V,)`, int32, index into `groups`.
        groups: `method`, `compression` and, where known, `dataset`: one row per combination. An empty method
            is "real" or "fake".
        key: `(N,)`, uint64, fingerprint of what names the row; empty where the table has no paths. Two of ten
            million rows share one by accident with a chance of 3 in a million.
    """

    label: NDArray[np.int8]
    p_fake: NDArray[np.float64]
    video: NDArray[np.int32]
    videos: pd.DataFrame
    group: NDArray[np.int32]
    groups: pd.DataFrame
    key: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.label)

    def select(self, rows: NDArray[Any]) -> Scores:
        """Some of the rows (a mask or indices), with the videos that still have one."""
        video = self.video[rows]
        there = np.zeros(len(self.videos), dtype=bool)
        there[video] = True
        return Scores(
            self.label[rows],
            self.p_fake[rows],
            (np.cumsum(there, dtype=np.int32) - 1)[video].astype(np.int32),
            self.videos[there].reset_index(drop=True),
            self.group[there],
            self.groups,
            self.key[rows] if len(self.key) else self.key,
        )

    def frames_per_video(self) -> NDArray[np.int64]:
        """How many rows each video has, `(V,)`."""
        return np.bincount(self.video, minlength=len(self.videos))

    def per_video(self) -> Scores:
        """One row per video: the mean score of its rows."""
        frames = self.frames_per_video()
        label = np.zeros(len(frames), dtype=np.int8)
        label[self.video] = self.label
        mean = np.bincount(self.video, weights=self.p_fake, minlength=len(frames)) / frames
        video = np.arange(len(frames), dtype=np.int32)
        return replace(self, label=label, p_fake=mean, video=video, key=np.empty(0, dtype=np.uint64))


@dataclass(frozen=True)
class LeftOut:
    """What of a table was not judged.

    Args:
        rows: All rows of the table.
        unreadable: Rows with a text in `error`.
        first_error: The first such text.
        repeated: Rows that say the same as an earlier one.
        empty_videos: Videos of which no row is left, by name.
    """

    rows: int = 0
    unreadable: int = 0
    first_error: str = ""
    repeated: int = 0
    empty_videos: list[str] = field(default_factory=list)


def read_scores(
    table: ScoreTable, *, video_keys: Sequence[str] = VIDEO_KEYS, row_keys: Sequence[str] = ROW_KEYS
) -> tuple[Scores, LeftOut]:
    """Go through a table once and keep its scores.

    Videos are told apart by `video_id`, and where rows of one id differ in `method`, `compression` or
    `dataset`, by those too: the four manipulations of FaceForensics++ use the same folder names, and
    averaging over them gives another, easier task. Without `video_id` every row is a video of its own.

    Args:
        table: The rows.
        video_keys: Columns that tell videos apart, where the table has them.
        row_keys: Columns that tell rows apart, where the table has them and `path` is among them.

    Returns:
        The scores in the order of the table, and what was left out.

    Raises:
        DataError: If a label is not 0 or 1, a score is not a number in [0, 1], a video has two labels or no
            name.
    """
    keys = [name for name in video_keys if name in table.columns] if "video_id" in table.columns else []
    row_keys = [name for name in row_keys if name in table.columns] if "path" in table.columns else []
    index: dict[tuple[Any, ...], int] = {}
    groups: dict[tuple[str, ...], int] = {}
    parts: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("label", "p_fake", "video", "failed", "key", "group")
    }
    rows, first_error = 0, ""
    for batch in table.batches():
        label = numbers(batch["label"], table.name)
        failed = has_text(batch["error"]) if "error" in batch else pd.Series(False, batch.index)
        if not first_error and failed.any():
            first_error = str(batch["error"][failed].iloc[0])
        named = batch.assign(**_names(batch, label))
        if keys:
            if (nameless := batch["video_id"].isna()).any():
                raise DataError(f"row {rows + int(np.argmax(nameless))}: video_id is empty")
            video = _counted(named, keys, index)
        else:
            video = np.arange(rows, rows + len(batch), dtype=np.int32)
        parts["label"].append(label.to_numpy(np.float32))
        parts["p_fake"].append(numbers(batch["p_fake"], table.name).to_numpy(np.float64))
        parts["video"].append(video)
        parts["failed"].append(failed.to_numpy(bool))
        parts["group"].append(_counted(named, [name for name in GROUPS if name in named], groups))
        if row_keys:
            parts["key"].append(fingerprints(named, row_keys, table.name))
        rows += len(batch)

    of_groups = [name for name in GROUPS if name in table.columns or name != "dataset"]

    def joined(name: str, kind: Any) -> NDArray[Any]:  # one column at a time, its parts freed
        return np.concatenate([*parts.pop(name), np.empty(0, kind)])

    scores = Scores(
        label=joined("label", np.float32),  # what else it may hold is refused below
        p_fake=joined("p_fake", np.float64),
        video=joined("video", np.int32),
        videos=pd.DataFrame(list(index), columns=keys) if keys else pd.DataFrame(index=range(rows)),
        group=joined("group", np.int32),
        groups=pd.DataFrame(list(groups), columns=of_groups),
        key=joined("key", np.uint64),
    )
    return _checked(scores, joined("failed", bool), _repeated(scores), table, first_error)


def frame_to_video(df: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of each video's frames.

    Args:
        df: One row per face crop: `label`, `video_id`, `p_fake`, and optionally `method`, `compression`,
            `dataset`. What tells videos apart is said at `read_scores`.

    Returns:
        One row per video with the same columns, `p_fake` the mean, and `frames`, how many it is the mean of.

    Raises:
        DataError: If a column is missing, a score is unusable, or a video has two labels.

    Example:
        >>> frames = pd.DataFrame({"video_id": list("aab"), "label": [0, 0, 1], "p_fake": [0.1, 0.3, 0.8]})
        >>> frame_to_video(frames)[["video_id", "p_fake", "frames"]].values.tolist()
        [['a', 0.2, 2], ['b', 0.8, 1]]
    """
    scores = scores_of(df)
    videos = scores.per_video()
    return videos.videos.assign(
        label=videos.label.astype(int), p_fake=videos.p_fake, frames=scores.frames_per_video()
    )


def scores_of(df: pd.DataFrame) -> Scores:
    """The scores of a table that has videos and no row that cannot be judged (`DataError` otherwise)."""
    if missing := [column for column in ("label", "video_id", "p_fake") if column not in df.columns]:
        raise DataError(f"the scores have no column {', '.join(missing)}")
    columns = [
        name for name in ("label", "p_fake", *VIDEO_KEYS) if name in df.columns
    ]  # paths: repetitions stay
    return read_scores(table_in_memory(df[columns]))[0]


def _names(batch: pd.DataFrame, label: pd.Series) -> dict[str, pd.Series]:
    """What tells videos apart, without empty cells."""
    default = label.map({0: "real", 1: "fake"}).fillna("").astype(str)
    method = batch["method"].where(has_text(batch["method"]), default) if "method" in batch else default
    names = {"method": method.astype(str)}
    if "video_id" in batch:  # 7 in one table and "7" in another are one video
        names["video_id"] = batch["video_id"].astype(str)
    for name in ("compression", "dataset"):
        if name in batch:
            names[name] = batch[name].astype(object).where(batch[name].notna(), "").astype(str)
        elif name == "compression":
            names[name] = pd.Series("", batch.index, dtype=str)
    return names


def _counted(batch: pd.DataFrame, keys: list[str], index: dict[tuple[Any, ...], int]) -> NDArray[np.int32]:
    """The number of each row's combination of `keys`, counted on in `index` from batch to batch."""
    local = batch.groupby(keys, sort=False, observed=True).ngroup().to_numpy()
    first = np.unique(local, return_index=True)[1]
    combinations = batch[keys].iloc[first].itertuples(index=False, name=None)
    numbered = [index.setdefault(combination, len(index)) for combination in combinations]
    return np.array(numbered, dtype=np.int32)[local]


def fingerprints(batch: pd.DataFrame, keys: Sequence[str], table: str) -> NDArray[np.uint64]:
    """A hash of what names each row: the same for the same row of another table, whatever its types."""
    texts = {"path": batch["path"].astype(object)}
    named = pd.DataFrame(texts | {k: numbers(batch[k], table) for k in keys if k != "path"})
    return pd.util.hash_pandas_object(named, index=False, categorize=False).to_numpy().astype(np.uint64)


def first_paths(table: ScoreTable, keys: NDArray[np.uint64], row_keys: Sequence[str]) -> list[str]:
    """What rows of some fingerprints are called, read from the table again."""
    found: list[str] = []
    for batch in table.batches():
        at = np.isin(fingerprints(batch, row_keys, table.name), keys)
        found += batch["path"][at].astype(str).tolist()
        if len(found) >= len(keys):
            break
    return found[: len(keys)]


def _repeated(scores: Scores) -> NDArray[np.bool_]:
    """Rows that say the same as an earlier one."""
    repeated = np.zeros(len(scores), dtype=bool)
    ordered = np.sort(scores.key)
    if len(twice := np.unique(ordered[1:][ordered[1:] == ordered[:-1]])):
        rows = np.flatnonzero(np.isin(scores.key, twice))
        names = ("key", "label", "p_fake", *(["video"] if len(scores.videos.columns) else []))
        columns = {name: getattr(scores, name)[rows] for name in names}
        repeated[rows] = pd.DataFrame(columns).duplicated().to_numpy()
    return repeated


def _checked(
    scores: Scores, failed: NDArray[Any], repeated: NDArray[Any], table: ScoreTable, first_error: str
) -> tuple[Scores, LeftOut]:
    """The rows that can be judged, with their videos in the order of their names."""
    left = ~failed & ~repeated
    where = np.flatnonzero(left) if not left.all() else None
    label = scores.label if where is None else scores.label[where]
    p_fake = scores.p_fake if where is None else scores.p_fake[where]
    check_scores(label, p_fake, lambda row: _name_of(table, row if where is None else int(where[row])))

    # Read from the end, so that the first row of each video gives its label and group.
    first = np.zeros(len(scores.videos), dtype=np.int64)
    first[scores.video[::-1]] = np.arange(len(scores) - 1, -1, -1)
    scores = replace(scores, label=scores.label.astype(np.int8), group=scores.group[first])
    if "video_id" in scores.videos:
        _refuse_two_labels(scores, left)
        names = scores.videos["video_id"].astype(str)
        there = np.bincount(scores.video[left], minlength=len(names)) > 0
        empty = names[~there].tolist()
        order = scores.videos.sort_values(list(scores.videos.columns), kind="stable").index.to_numpy()
        place = np.empty(len(order), dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        videos = scores.videos.iloc[order].reset_index(drop=True)
        scores = replace(scores, video=place[scores.video], videos=videos, group=scores.group[order])
    else:
        empty = []
    out = LeftOut(len(scores), int((failed & ~repeated).sum()), first_error, int(repeated.sum()), empty)
    return scores if where is None else scores.select(where), out


def _refuse_two_labels(scores: Scores, left: NDArray[Any]) -> None:
    ids, names = pd.factorize(scores.videos["video_id"])
    counts = [
        np.bincount(ids[scores.video[left & (scores.label == label)]], minlength=len(names))
        for label in (0, 1)
    ]
    if (both := (counts[0] > 0) & (counts[1] > 0)).any():
        raise DataError(
            f"video {names[int(np.argmax(both))]!r} has frames labelled real and frames labelled fake: "
            "video_id must name one source video of one class"
        )


def _name_of(table: ScoreTable, row: int) -> Any:
    """The path of a row, or its number."""
    if "path" in table.columns:
        start = 0
        for batch in table.batches():
            if row < start + len(batch):
                return batch["path"].iloc[row - start]
            start += len(batch)
    return row
