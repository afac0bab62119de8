"""Near-duplicates: crops that show the same picture although their files differ.

A 64-bit perceptual hash, the signs of the low frequencies of a cosine transform (Zauner, "Implementation
and Benchmarking of Perceptual Image Hash Functions", 2010), finds candidates without comparing all pairs;
then the pictures themselves decide. Faces cut alike resemble each other, so neither step would do alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, count
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from sficonv.datasets.identity_split import components
from sficonv.datasets.manifest import Protocol, identities
from sficonv.errors import first_few
from sficonv.splits.leaks import Finding

MAX_DISTANCE = 4  # of 64 bits; two frames of one video, or one re-encoded, are mostly within
MIN_CORRELATION = 0.95  # of the grey pictures at 32 x 32
_CANDIDATES = 100_000  # pairs looked at; more would only say the same leak more often
_ENOUGH = 1_000  # confirmed crops
_ROUNDS = 20


def perceptual_hash(crop: np.ndarray) -> str:
    """Hash of a picture that changes little when it is re-encoded or resized.

    Args:
        crop: RGB uint8 `(H, W, 3)`, or grey `(H, W)`.

    Returns:
        16 hexadecimal digits; the Hamming distance of two hashes tells how alike the pictures are.

    Example:
        >>> ramp = np.linspace(0, 255, 1024).astype(np.uint8).reshape(32, 32)
        >>> perceptual_hash(ramp) == perceptual_hash(ramp + 0)
        True
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) if crop.ndim == 3 else crop
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    return np.packbits(low > np.median(low[1:])).tobytes().hex()


def find_near_duplicates(df: pd.DataFrame, root: str | Path) -> Finding | None:
    """Look for crops in different splits that show the same picture.

    Pairs of one video, of the same target identity or with equal files are left out: `find_leaks` tells of
    them. Hashes at most `MAX_DISTANCE` bits apart agree in at least two of `MAX_DISTANCE + 2` bands of bits,
    so only crops equal in two bands are compared: time grows with the sizes of these groups, memory with the
    number of rows. Candidates count where the pictures correlate by `MIN_CORRELATION`.

    Args:
        df: A manifest with the column `phash`; rows without a hash or a split are left out.
        root: Folder that `path` is relative to.

    Example:
        >>> from sficonv.datasets.manifest import COLUMNS
        >>> find_near_duplicates(pd.DataFrame(columns=[*COLUMNS, "phash"]), ".") is None
        True
    """
    found, all_of_them = _crossing(df, Path(root))
    if not found:
        return None
    examples = [f"{one} = {other}" for one, other in sorted(found.items())]
    at_least = "" if all_of_them else "at least "
    text = f"{at_least}{len(found)} crops are nearly the same as one in another split: {first_few(examples)}"
    return Finding("near_duplicate_in_several_splits", True, text, len(found), examples[:10])


def with_near_duplicates_together(df: pd.DataFrame, root: str | Path) -> tuple[pd.DataFrame, int]:
    """Splits in which no crop is nearly the same as one in another split.

    The videos (and people) that near duplicates link are put into the split that most of their crops are in.

    Args:
        df: As of `find_near_duplicates`, with splits that were drawn and may be changed.
        root: Folder that `path` is relative to.

    Returns:
        The table with its new splits, and how many videos changed theirs.

    Example:
        >>> from sficonv.datasets.manifest import COLUMNS
        >>> with_near_duplicates_together(pd.DataFrame(columns=[*COLUMNS, "phash"]), ".")[1]
        0
    """
    before = df["split"]
    for _ in range(_ROUNDS):  # what is together now may be near to what it was apart from
        pairs, _ = _crossing(df, Path(root))
        if not pairs:
            break
        video_of = dict(zip(df["path"], df["video_id"], strict=True))
        links = [[f"video {video_of[one]}", f"video {video_of[other]}"] for one, other in pairs.items()]
        rows = [[*who, f"video {video}"] for who, video in zip(identities(df), df["video_id"], strict=True)]
        groups = pd.Series(components([*rows, *links])[: len(df)], index=df.index)
        linked = groups[df["path"].isin({*pairs, *pairs.values()})].unique()
        most = df["split"].groupby(groups).agg(lambda splits: splits.value_counts().index[0])
        df = df.assign(split=df["split"].where(~groups.isin(linked), groups.map(most)))
    return df, int(df.loc[df["split"] != before, "video_id"].nunique())


def protocol_with_leaks(protocol: Protocol, near: Finding | None) -> Protocol:
    """The protocol of splits in which near duplicates were found says so wherever it is repeated."""
    if near is None:
        return protocol
    statement = (
        f"{protocol.statement}. {near.text}. Figures on these splits are too good: say which files show the "
        "same footage (video_pattern, --video-pattern, or the column source_ids of a list) and prepare "
        "again, or divide it anew with `sficonv split --protocol identity`"
    )
    return replace(protocol, statement=statement, leaky=True)


def _crossing(df: pd.DataFrame, root: Path) -> tuple[dict[str, str], bool]:
    """Crops with one in another split that they are near to, and whether these are all."""
    rows = df[(df["split"] != "") & (df["phash"].fillna("") != "")].reset_index(drop=True)
    if rows["split"].nunique() < 2:
        return {}, True
    paths = rows["path"].tolist()
    found: dict[str, str] = {}
    for looked_at, (one, other) in enumerate(_candidates(rows)):
        if looked_at >= _CANDIDATES or len(found) >= _ENOUGH:
            return found, False
        if paths[one] not in found and _alike(root / paths[one], root / paths[other]):
            found[paths[one]] = paths[other]
    return found, True


def _candidates(rows: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """Pairs of rows in different splits whose hashes are near each other; a pair may come more than once."""
    hashes = np.frombuffer(bytes.fromhex("".join(rows["phash"])), np.uint8).reshape(-1, 8)
    split = pd.factorize(rows["split"])[0]
    apart = [  # rows that agree in one of these are known to belong together
        pd.factorize(rows["video_id"])[0],
        pd.factorize(rows["dataset"] + "/" + rows["source_ids"].str.split(",").str[0])[0],
        pd.factorize(rows["sha256"])[0],
    ]
    bits = np.unpackbits(hashes, axis=1)
    # A band is every sixth bit: neighbouring frequencies go together in faces, and groups would be large.
    bands = [
        np.packbits(bits[:, i :: MAX_DISTANCE + 2], axis=1).astype(np.int64) @ (256, 1)
        for i in range(MAX_DISTANCE + 2)
    ]
    for first, second in combinations(bands, 2):
        key = first << 16 | second
        order = np.argsort(key, kind="stable")
        key = key[order]
        place = np.arange(len(order))
        for step in count(1):  # each row with the step-th after it in its group
            place = place[place + step < len(order)]
            place = place[key[place] == key[place + step]]
            if not len(place):
                break
            one, other = order[place], order[place + step]
            wanted = split[one] != split[other]
            for code in apart:
                wanted &= code[one] != code[other]
            one, other = one[wanted], other[wanted]
            near = np.bitwise_count(hashes[one] ^ hashes[other]).sum(axis=1) <= MAX_DISTANCE
            yield from zip(one[near].tolist(), other[near].tolist(), strict=True)


def _alike(one: Path, other: Path) -> bool:
    first, second = _small(one), _small(other)
    if first is None or second is None:  # a file that is gone is another finding
        return False
    return float(first @ second) >= MIN_CORRELATION


def _small(path: Path) -> np.ndarray | None:
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        return None
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    # Flat pictures are equal to each other and like nothing else.
    return small / norm if norm > 1 else np.full_like(small, 1 / 32)
