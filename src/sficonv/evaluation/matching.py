"""The same rows of two tables of scores: matched, and what only one of them has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sficonv.errors import DataError, first_few
from sficonv.evaluation.score_table import ROW_KEYS, ScoreTable
from sficonv.evaluation.scores import Scores, first_paths

_NAMED = 3


@dataclass(frozen=True)
class Matched:
    """The same rows on both sides, in the same order and with the same videos.

    Args:
        pair: The scores of both.
        only: How many rows (or videos) only the first and only the second has.
        ambiguous: How many rows cannot be told from another row of their side.
        warnings: What was left out, with the first names.
    """

    pair: list[Scores]
    only: list[int]
    ambiguous: int
    warnings: list[str]


def by_path(sides: Sequence[Scores], tables: Sequence[ScoreTable]) -> Matched:
    """Match crops by path, frame and face, as far as both tables have them.

    Raises:
        DataError: If nothing matches, or a crop has two labels.
    """
    only, warnings, ambiguous, single = [], [], 0, []
    for side in sides:
        keys, first, times = np.unique(side.key, return_index=True, return_counts=True)
        single.append((keys[times == 1], first[times == 1]))
        ambiguous += int(times[times > 1].sum())
    common, at_a, at_b = np.intersect1d(single[0][0], single[1][0], assume_unique=True, return_indices=True)
    row_keys = [k for k in ROW_KEYS if all(k in table.columns for table in tables)]
    for name, side, table in zip("AB", sides, tables, strict=True):
        other = sides[1] if side is sides[0] else sides[0]
        missing = side.key[~np.isin(side.key, other.key)]
        only.append(len(missing))
        if len(missing):
            named = first_paths(table, missing[:_NAMED], row_keys)
            warnings.append(f"only in {name}, left out: {len(missing)} crops, such as {first_few(named)}")
    if ambiguous:
        warnings.append(f"{ambiguous} crops were left out: several of one side have the same path")
    if not len(common):
        raise DataError(
            f"{tables[0].name} and {tables[1].name} have no crop in common ({'; '.join(warnings)})"
        )
    order = np.argsort(single[0][1][at_a])
    rows = [single[0][1][at_a][order], single[1][1][at_b][order]]
    differ = sides[0].label[rows[0]] != sides[1].label[rows[1]]
    if differ.any():
        named = first_paths(tables[0], sides[0].key[rows[0]][differ][:_NAMED], row_keys)
        raise DataError(f"the two sides give {int(differ.sum())} crops different labels: {first_few(named)}")
    chosen = [side.select(at) for side, at in zip(sides, rows, strict=True)]
    whose = 0 if "video_id" in tables[0].columns else 1
    both = all("video_id" in table.columns for table in tables)
    pairs = np.unique(chosen[0].video.astype(np.int64) * len(chosen[1].videos) + chosen[1].video)
    if both and not len(pairs) == len(chosen[0].videos) == len(chosen[1].videos):
        warnings.append("the two sides do not put the same crops into the same videos: those of A are used")
    pair = [replace(chosen[whose], p_fake=one.p_fake) for one in chosen]
    return Matched(pair, only, ambiguous, warnings)


def by_video(sides: Sequence[Scores], tables: Sequence[ScoreTable]) -> Matched:
    """Match videos by the columns that tell them apart.

    Raises:
        DataError: If nothing matches, or a video has two labels.
    """
    videos = [side.per_video() for side in sides]
    keys = list(videos[0].videos.columns)
    names = [side.videos.assign(at=np.arange(len(side.videos))) for side in videos]
    joined = names[0].merge(names[1], on=keys, how="outer", indicator=True, suffixes=("_a", "_b"))
    only, warnings = [], []
    for side, where in (("A", "left_only"), ("B", "right_only")):
        missing = joined[joined["_merge"] == where]
        only.append(len(missing))
        if len(missing):
            named = first_few(
                [" ".join(filter(None, map(str, key))) for key in missing[keys].itertuples(index=False)]
            )
            warnings.append(f"only in {side}, left out: {len(missing)} videos, such as {named}")
    both = joined[joined["_merge"] == "both"].sort_values("at_a")
    if both.empty:
        raise DataError(
            f"{tables[0].name} and {tables[1].name} have no video in common ({'; '.join(warnings)})"
        )
    rows = [both[at].to_numpy(np.int64) for at in ("at_a", "at_b")]
    differ = videos[0].label[rows[0]] != videos[1].label[rows[1]]
    if differ.any():
        named = first_few(both["video_id"][differ].astype(str).tolist())
        raise DataError(f"the two sides give {int(differ.sum())} videos different labels: {named}")
    chosen = videos[0].select(rows[0])
    return Matched([chosen, replace(chosen, p_fake=videos[1].p_fake[rows[1]])], only, 0, warnings)
