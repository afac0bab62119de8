"""Splitting prepared data again, by a named protocol, without decoding anything.

Each protocol is a function from the manifest of a prepared folder to the rows it uses, with their splits, and
to the statement of what it did. The result is one more manifest beside the crops; training, evaluation and
checks take it as `data`, in place of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sficonv.datasets.identity_split import split_by_identity
from sficonv.datasets.manifest import (
    MANIFEST_NAME,
    Protocol,
    identities,
    manifest_file,
    manifest_hash,
    prepared_folder,
    read_manifest,
    read_protocol,
    write_manifest,
)
from sficonv.errors import DataError, first_few
from sficonv.splits.leaks import check_manifest, find_leaks
from sficonv.splits.near_duplicates import (
    find_near_duplicates,
    protocol_with_leaks,
    with_near_duplicates_together,
)
from sficonv.splits.paper_protocol import paper_split
from sficonv.splits.validation import lacks_validation, take_validation


@dataclass(frozen=True)
class SplitReport:
    """What `split` wrote.

    Attributes:
        manifest: The new file; give it as `data` to train and evaluate.
        protocol: What its split column means.
        manifest_hash: Fingerprint of its content.
        counts: One row per split and label: videos and crops.
        left_out: Rows of the old manifest that the protocol does not use.
        warnings: Leaks and unusable splits.
    """

    manifest: Path
    protocol: Protocol
    manifest_hash: str
    counts: list[dict[str, Any]]
    left_out: int
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The report for people."""
        lines = [str(self.protocol)]
        for row in self.counts:
            label = "fake" if row["label"] else "real"
            lines.append(f"  {row['split']:8} {label}  {row['videos']:6} videos {row['crops']:7} crops")
        lines.append(f"  {self.left_out} crops are not used by this protocol")
        lines += [f"WARNING: {warning}" for warning in self.warnings]
        return "\n".join([*lines, f"wrote {self.manifest}: use it as --data"])

    def to_dict(self) -> dict[str, Any]:
        """The report for programs."""
        return {**asdict(self), "manifest": str(self.manifest)}


@dataclass(frozen=True)
class SplitOptions:
    """What a protocol may be told; each uses some of it. See `split`."""

    seed: int = 0
    leave_out: tuple[str, ...] = ()
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    val_share: float = 0.1


def split(
    data: str | Path,
    *,
    protocol: Literal["official", "identity", "validation", "leave-one-out", "paper"],
    seed: int = 0,
    leave_out: Sequence[str] | str | None = None,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    val_share: float = 0.1,
) -> SplitReport:
    """Split prepared data again by a named protocol; nothing is decoded, the crops stay as they are.

    Writes one more manifest beside the crops, named after the protocol. It holds the rows that the protocol
    uses and says what its splits mean; training and evaluation repeat that.

    Args:
        data: A prepared folder, or one of its manifests.
        protocol: "official": the published lists of the dataset. "identity": our own split in which no
            person is on two sides. "validation": as `data` says, with a validation set by identity out of its
            training set, as `train` makes it where there is none. "leave-one-out": trained without one
            manipulation and tested on that alone, on the splits that `data` has. "paper": the random draw of
            frames of the SFIConv paper, to compare with its figures only: it is leaky.
        seed: Seed of what is drawn at random ("identity", "validation" and "paper").
        leave_out: For "leave-one-out": the manipulation to test on, for example Deepfakes, or several.
        fractions: For "identity": shares of train, val and test.
        val_share: For "paper", which has no validation set: the share of its training frames to choose the
            epoch with. 0: none.

    Returns:
        The new manifest, its protocol, counts and warnings.

    Raises:
        DataError: No manifest, or the protocol does not fit the data; the message says why.
        ValueError: An argument out of range or missing.

    Example:
        >>> report = split("prepared/ffpp", protocol="paper", seed=7)  # doctest: +SKIP
        >>> train("prepared/ffpp/manifest-paper-seed7.parquet", model="sfic_resnet26")  # doctest: +SKIP
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if (protocol == "leave-one-out") != bool(leave_out):
        raise ValueError("leave_out (--leave-out) belongs to the protocol leave-one-out, which needs it")
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share must be at least 0 and below 1, got {val_share}")
    names = leave_out.split(",") if isinstance(leave_out, str) else leave_out or ()
    df = read_manifest(data)
    options = SplitOptions(seed, tuple(names), fractions, val_share)
    try:
        rows, stated = PROTOCOLS[protocol](df, options)
    except DataError as error:
        raise DataError(f"{manifest_file(data)}: {error}") from error
    rows = rows.sort_values("path", ignore_index=True)
    root = prepared_folder(data)
    if "phash" in rows and not stated.leaky:
        if protocol == "identity":
            rows, moved = with_near_duplicates_together(rows, root)
            if moved:
                told = f"{stated.statement}; {moved} videos moved to where their near duplicates are"
                stated = replace(stated, statement=told)
        stated = protocol_with_leaks(stated, find_near_duplicates(rows, root))
    stated = replace(stated, drawn_from=manifest_hash(df))
    file = write_manifest(root, rows, protocol=stated, name=_file_name(stated, options))
    counts = rows.groupby(["split", "label"], as_index=False).agg(
        videos=("video_id", "nunique"), crops=("path", "size")
    )
    return SplitReport(
        manifest=file,
        protocol=stated,
        manifest_hash=manifest_hash(rows),
        counts=json.loads(counts.to_json(orient="records")),
        left_out=len(df) - len(rows),
        warnings=check_manifest(rows),
    )


def outdated(data: str | Path) -> bool:
    """Whether a manifest was drawn from another manifest than the prepared folder has now."""
    protocol, file = read_protocol(data), prepared_folder(data) / MANIFEST_NAME
    if protocol is None or not protocol.drawn_from or not file.is_file():
        return False
    return protocol.drawn_from != manifest_hash(read_manifest(file))


def drawn_splits(data: str | Path) -> Path:
    """What to judge a detector on: the folder or manifest itself, or the splits that a training has drawn.

    Where a prepared folder has no splits, or no validation set, training draws them by identity and writes
    them beside the crops. Whoever then names the folder means these. Splits drawn before the folder was
    prepared anew do not count.
    """
    by_identity, validation = (prepared_folder(data) / n for n in (IDENTITY_MANIFEST, VALIDATION_MANIFEST))
    if not (by_identity.is_file() or validation.is_file()):
        return Path(data)
    rows = read_manifest(data)
    split_up = bool((rows["split"] != "").any())
    drawn = validation if split_up else by_identity
    if not drawn.is_file() or outdated(drawn) or (split_up and not lacks_validation(rows)):
        return Path(data)
    return drawn


def official_split(df: pd.DataFrame, options: SplitOptions) -> tuple[pd.DataFrame, Protocol]:
    """The published lists; what they do not name is left out."""
    if "official_split" not in df or not (df["official_split"] != "").any():
        raise DataError(
            "nothing here is in a published list of splits. Put the lists of the dataset into its folder "
            "and prepare it again, or use the protocol identity"
        )
    rows = df[df["official_split"] != ""]
    # Where a dataset has no validation list, `prepare` has taken one out of the training list.
    own = (rows["official_split"] == "train") & (rows["split"] == "val")
    rows = rows.assign(split=rows["official_split"].where(~own, "val"))
    statement = f"the published splits of {', '.join(sorted(set(rows['dataset'])))}"
    if own.any():
        statement += "; the validation split was taken out of the published training list by identity"
    return rows, Protocol("official", statement)


def identity_split(df: pd.DataFrame, options: SplitOptions) -> tuple[pd.DataFrame, Protocol]:
    """Our own split by identity: whoever is seen together, over however many videos, stays together."""
    videos = df.drop_duplicates("video_id")
    people = [sorted(who) for who in identities(videos)]
    # Where only some videos exist in a compression, those are shared out by themselves.
    kinds = pd.factorize(pd.MultiIndex.from_frame(videos[["label", "compression"]]))[0].tolist()
    splits = split_by_identity(people, kinds, options.fractions, seed=options.seed)
    split_of = dict(zip(videos["video_id"], splits, strict=True))
    shares = ", ".join(f"{share:g}" for share in options.fractions)
    statement = f"drawn by identity, train, val and test {shares}; no person is on two sides"
    return df.assign(split=df["video_id"].map(split_of)), Protocol("identity", statement, seed=options.seed)


def validation_split(df: pd.DataFrame, options: SplitOptions) -> tuple[pd.DataFrame, Protocol]:
    """The splits that there are, with a validation set out of the training set."""
    rows, told = take_validation(df, seed=options.seed)
    return rows, Protocol("validation", f"the test set as it is; {told}", seed=options.seed)


def leave_one_out(df: pd.DataFrame, options: SplitOptions) -> tuple[pd.DataFrame, Protocol]:
    """Real rows keep their split; train and val lose the manipulation's fakes, test loses all others."""
    methods = sorted(set(df.loc[df["label"] == 1, "method"]))
    if unknown := sorted(set(options.leave_out) - set(methods)):
        raise DataError(f"no fakes by {', '.join(unknown)}; there are: {', '.join(methods) or 'none'}")
    # That a split is our own and not the published one is no leak in it.
    doubts = [f for f in find_leaks(df) if f.serious and f.kind != "official_test_in_training"]
    if leaks := [finding.text for finding in doubts]:
        raise DataError(
            f"its splits leak, so nothing can be left out of them ({leaks[0]}). Split it by the protocol "
            "official or identity first and name the manifest that this writes"
        )
    out = df["method"].isin(options.leave_out)
    fake, test = df["label"] == 1, df["split"] == "test"
    rows = df[(df["split"] != "") & (~fake | (out == test))]
    names = ", ".join(sorted(options.leave_out))
    others = [name for name in methods if name not in options.leave_out]
    if missing := [s for s in ("train", "test") if not ((rows["split"] == s) & (rows["label"] == 1)).any()]:
        raise DataError(f"without {names}, no fake is left in the split {first_few(missing)}")
    return rows, Protocol(
        "leave-one-out",
        f"trained and validated on {', '.join(others)}, without {names}; tested on {names} alone",
    )


PROTOCOLS: dict[str, Callable[[pd.DataFrame, SplitOptions], tuple[pd.DataFrame, Protocol]]] = {
    "official": official_split,
    "identity": identity_split,
    "validation": validation_split,
    "leave-one-out": leave_one_out,
    "paper": lambda df, options: paper_split(df, seed=options.seed, val_share=options.val_share),
}


IDENTITY_MANIFEST = "manifest-identity-seed0.parquet"
VALIDATION_MANIFEST = "manifest-validation-seed0.parquet"
"""What `split` writes for the protocols "identity" and "validation" unless a seed is given."""


def _file_name(protocol: Protocol, options: SplitOptions) -> str:
    words = ["manifest", protocol.name, *sorted(options.leave_out)]
    if protocol.seed is not None:
        words.append(f"seed{protocol.seed}")
    return "-".join("".join(c if c.isalnum() else "_" for c in word) for word in words) + ".parquet"
