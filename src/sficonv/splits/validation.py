"""A validation set out of the training set, where a dataset has none: nobody is seen on both sides."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import pandas as pd

from sficonv.datasets.identity_split import split_by_identity
from sficonv.datasets.manifest import identities
from sficonv.errors import DataError

SHARE = 0.15
"""Of the people, or of the groups that cannot be parted, that validation gets at least."""
BOTH = {0, 1}


def lacks_validation(df: pd.DataFrame) -> bool:
    """Whether rows give something to train on, real and fake, and no such validation set."""
    return set(df.loc[df["split"] == "val", "label"]) != BOTH == set(df.loc[df["split"] == "train", "label"])


def take_validation(df: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, str]:
    """Divide training and validation rows anew by identity; test rows stay as they are.

    Whole groups of people who are seen together go to one side where both sides then have real and fake
    videos. Where the forgeries link everybody with everybody, as in Celeb-DF, people are divided one by one,
    and a forgery of two people from different sides is used on neither.

    Args:
        df: Rows of a manifest.
        seed: Another one takes other people.

    Returns:
        The rows that are used, and how they were divided.

    Raises:
        DataError: If there is no way to have real and fake videos of different people on both sides.

    Example:
        >>> ids = ["a", "b", "c", "d", "a,b", "b,c", "c,d", "d,a"]
        >>> columns = {"source_ids": ids, "video_id": ids, "label": [0] * 4 + [1] * 4}
        >>> rows, told = take_validation(pd.DataFrame(columns).assign(split="train", dataset="x"))
        >>> sorted(rows["split"]), told.partition("; ")[2]
        (['train', 'train', 'train', 'val', 'val', 'val'], '2 videos that mix both are used on neither')
    """
    videos = df[df["split"].isin(("train", "val"))].drop_duplicates("video_id")
    people, labels = identities(videos), videos["label"].tolist()
    splits = split_by_identity([sorted(who) for who in people], labels, (1 - SHARE, SHARE, 0), seed=seed)
    if not _usable(splits, labels):
        splits = _person_by_person(people, labels, seed)
    split_of = dict(zip(videos["video_id"], splits, strict=True))
    chosen = df["split"].where(df["split"] == "test", df["video_id"].map(split_of).fillna(""))
    told = f"{splits.count('val')} of {len(splits)} training videos became the validation set, by identity"
    if lost := splits.count(""):
        told += f"; {lost} videos that mix both are used on neither"
    return df.assign(split=chosen)[chosen != ""], told


def _usable(splits: list[str], labels: list[int]) -> bool:
    sides: dict[str, set[int]] = defaultdict(set)
    for split, label in zip(splits, labels, strict=True):
        sides[split].add(label)
    return sides["train"] == sides["val"] == BOTH


def _person_by_person(people: list[frozenset[str]], labels: list[int], seed: int) -> list[str]:
    """The fewest people, of those in forgeries and of the others the same share, that give both labels."""
    forged = frozenset().union(*(who for who, label in zip(people, labels, strict=True) if label))
    kinds = [sorted(forged), sorted(frozenset().union(*people) - forged)]
    for kind in kinds:
        kind.sort(key=lambda name: hashlib.sha256(f"{seed}\t{name}".encode()).hexdigest())
    fewest = [round(SHARE * len(kind)) for kind in kinds]
    for more in range(len(kinds[0]) // 2 - fewest[0] + 1):
        held = {name for kind, few in zip(kinds, fewest, strict=True) for name in kind[: few + more]}
        splits = ["val" if who <= held else "" if who & held else "train" for who in people]
        if _usable(splits, labels):
            return splits
    raise DataError(
        "no validation set can be taken out of the training set: there is no way to have real and "
        "fake videos of different people on both sides. Name a folder with validation videos as well"
    )
