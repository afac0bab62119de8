"""What is wrong with the splits of a manifest: leaks, and splits that cannot be used.

All of it is read from the table alone and takes time in proportion to its rows. Near-duplicates, which need
the crops, are in `near_duplicates.py`; both together, and the state of the files, in `check.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from sficonv.errors import first_few


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: One word for programs, such as "video_in_several_splits".
        serious: Whether figures on these splits, or the data itself, cannot be trusted.
        text: In plain words, with the first examples.
        count: How many.
        examples: The first of them.
    """

    kind: str
    serious: bool
    text: str
    count: int
    examples: list[str] = field(default_factory=list)


def check_manifest(df: pd.DataFrame) -> list[str]:
    """Look for leaks between splits and for splits that cannot be used.

    Args:
        df: A manifest, or several concatenated.

    Returns:
        Findings in plain words; empty if there are none.

    Example:
        >>> from sficonv.datasets.manifest import COLUMNS
        >>> check_manifest(pd.DataFrame(columns=COLUMNS))
        []
    """
    return [finding.text for finding in find_leaks(df)]


def find_leaks(df: pd.DataFrame) -> list[Finding]:
    """`check_manifest` for programs.

    A leak is footage, or a person, on two sides of a split: the same video, the same source identity, a fake
    whose original lies in another split, the same crop (by SHA-256), or a video of the published test list in
    the training or validation split. Rows without a split leak nothing.

    Args:
        df: A manifest, or several concatenated.
    """
    named = df[df["split"] != ""]
    found = [
        _videos(named),
        _identities(named),
        _originals(named),
        _official_test(named),
        *_copies(df),
        *_single_class(named),
    ]
    return [finding for finding in found if finding is not None]


def _finding(kind: str, what: list[str], text: str, *, after: str = "") -> Finding | None:
    if not what:
        return None
    return Finding(kind, True, f"{len(what)} {text}: {first_few(what)}{after}", len(what), what[:10])


def _videos(named: pd.DataFrame) -> Finding | None:
    crossing = _in_several_splits(named["video_id"], named["split"])
    return _finding("video_in_several_splits", crossing, "videos are in more than one split")


def _identities(named: pd.DataFrame) -> Finding | None:
    people = _people(named)
    crossing = _in_several_splits(people["person"], people["split"])
    return _finding(
        "identity_in_several_splits",
        crossing,
        "source identities are in more than one split",
        after="; figures on these splits are too good",
    )


def _originals(named: pd.DataFrame) -> Finding | None:
    """Fakes whose footage, that of their first identity, is seen as real in another split."""
    people = _people(named)
    real = people[people["label"] == 0].drop_duplicates(["person", "split"])
    targets = people[(people["label"] == 1) & people["first"]].drop_duplicates(["video_id", "split"])
    pairs = targets.merge(real[["person", "split"]], on="person", suffixes=("", "_of_real"))
    apart = pairs[pairs["split"] != pairs["split_of_real"]]
    fakes = sorted(set(apart["video_id"]))
    return _finding("fake_apart_from_original", fakes, "fakes have their original in another split")


def _official_test(named: pd.DataFrame) -> Finding | None:
    if "official_split" not in named:
        return None
    wrong = named[(named["official_split"] == "test") & named["split"].isin(["train", "val"])]
    return _finding(
        "official_test_in_training",
        sorted(set(wrong["video_id"])),
        "videos of the published test list are in the training or validation split",
    )


def _copies(df: pd.DataFrame) -> list[Finding | None]:
    copies = df[(df["sha256"] != "") & df.duplicated("sha256", keep=False)]
    groups = copies.groupby("sha256")
    first = groups["path"].first()
    # A crop without a split is in no split: it may be trained on or not, and is compared with nothing.
    splits = (
        copies[copies["split"] != ""].groupby("sha256")["split"].nunique().reindex(first.index, fill_value=0)
    )
    return [
        _finding(
            "crop_in_several_splits",
            first[splits > 1].tolist(),
            "identical crops are in more than one split",
        ),
        _finding(
            "crop_real_and_fake",
            first[groups["label"].nunique() > 1].tolist(),
            "identical crops are both real and fake",
        ),
    ]


def _single_class(named: pd.DataFrame) -> list[Finding]:
    found = []
    for split, labels in named.groupby("split")["label"]:
        if labels.nunique() == 1:
            missing = "fake" if labels.iloc[0] == 0 else "real"
            text = f"split {split!r} has no {missing} crops: AUC is undefined there"
            found.append(Finding("single_class", False, text, 1, [str(split)]))
    return found


def _people(named: pd.DataFrame) -> pd.DataFrame:
    """One row per video, split and identity; `first` marks the identity whose footage was forged."""
    videos = named[["dataset", "source_ids", "split", "label", "video_id"]].drop_duplicates()
    people = videos.assign(one=videos["source_ids"].str.split(",")).explode("one").reset_index()
    people["first"] = ~people["index"].duplicated()
    people = people[people["one"].fillna("") != ""]
    # Person 134 of two datasets is two people.
    return people.assign(person=people["dataset"] + "/" + people["one"])


def _in_several_splits(values: pd.Series, splits: pd.Series) -> list[str]:
    counts = splits.groupby(values).nunique()
    return sorted(counts.index[counts > 1].tolist())
