"""Which prepared crops a cell is trained and tested on, and what of them is missing."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from sficonv.datasets.manifest import (
    MANIFEST_NAME,
    Protocol,
    manifest_hash,
    read_manifest,
    write_manifest,
)
from sficonv.datasets.masks import MASK
from sficonv.errors import DataError
from sficonv.evaluation.judge import FEW_VIDEOS
from sficonv.paper.tables.recipe import DataSet
from sficonv.splits.split import PROTOCOLS, SplitOptions

ProtocolName = Literal["paper", "official", "identity"]
LINK = "prepared"  # in the folder of a derived manifest: a link to the prepared folder


@dataclass(frozen=True)
class Selection:
    """Crops chosen for training (splits train and val) or for a test (split test).

    Args:
        of: The data set.
        folder: The prepared folder they lie in.
        rows: Their manifest; empty where there is a problem.
        protocol: What their splits mean.
        problem: Why nothing can be trained or tested on them, without the path of this machine; "" if it can.
        lacks: What the paper uses, is not there and can be done without.
        cautions: What makes the figures weak.
        hash: Fingerprint of the rows.
        cut_as: The folder that says how the crops were cut; `None`: `folder`.
    """

    of: DataSet
    folder: Path
    rows: pd.DataFrame
    protocol: Protocol
    problem: str = ""
    lacks: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    hash: str = ""
    cut_as: Path | None = None

    def count(self, split: str) -> str:
        """Videos and crops of a split, for people."""
        words = []
        for label, name in enumerate(("real", "fake")):
            rows = self.rows[(self.rows["split"] == split) & (self.rows["label"] == label)]
            words.append(f"{rows['video_id'].nunique()} {name} videos ({len(rows)} crops)")
        return f"{split} {' and '.join(words)}"


@dataclass
class Prepared:
    """A folder of prepared folders, split by a protocol; each is read and split once.

    Args:
        root: Holds the prepared folders by name (`ffpp`, `celebdf`, `dfdc`, `hff`).
        protocol: "paper", "official" or "identity".
        seed: Of what the protocol draws.
        frames: Crops of a video that are validated and tested on at most; `None` for all.
        fractions: For "identity": of train, val and test.
    """

    root: Path
    protocol: ProtocolName
    seed: int
    frames: int | None = None
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    _split: dict[tuple[str, str, bool], tuple[pd.DataFrame, Protocol]] = field(default_factory=dict)
    _chosen: dict[tuple[str, str], Selection] = field(default_factory=dict)

    def training(self, of: DataSet) -> Selection:
        """The crops to train and to validate on."""
        return self._choose(of, ("train", "val"))

    def test(self, of: DataSet) -> Selection:
        """The crops to test on."""
        return self._choose(of, ("test",))

    def _choose(self, of: DataSet, splits: tuple[str, ...]) -> Selection:
        key = (of.name, splits[0])
        if key not in self._chosen:
            self._chosen[key] = self._joined(of, splits) if of.parts else self._made(of, splits)
        return self._chosen[key]

    def _joined(self, of: DataSet, splits: tuple[str, ...]) -> Selection:
        """The parts of a data set together, in the folder that holds theirs."""
        parts = [self._choose(part, splits) for part in of.parts]
        nothing = Selection(of, self.root, pd.DataFrame(), Protocol(self.protocol, ""))
        for part in parts:
            if part.problem:
                return replace(nothing, problem=part.problem)
        rows = pd.concat([_below(part.rows, part.of.folder) for part in parts], ignore_index=True)
        stated = "; ".join(f"{part.of.name}: {part.protocol.statement}" for part in parts)
        protocol = replace(
            parts[0].protocol, statement=stated, leaky=any(part.protocol.leaky for part in parts)
        )
        return Selection(
            of,
            self.root,
            rows,
            protocol,
            lacks=tuple(lack for part in parts for lack in part.lacks),
            cautions=tuple(f"{part.of.folder}: {text}" for part in parts for text in part.cautions),
            hash=manifest_hash(rows),
            cut_as=parts[0].folder,
        )

    def _made(self, of: DataSet, splits: tuple[str, ...]) -> Selection:
        folder = self.root / of.folder
        nothing = Selection(of, folder, pd.DataFrame(), Protocol(self.protocol, ""))
        try:
            rows, protocol = self._rows(of)
        except DataError as error:
            return replace(nothing, problem=str(error).replace(f"{self.root}/", ""))
        if of.compression:
            there = sorted({str(c) for c in rows["compression"] if c})
            rows = rows[rows["compression"] == of.compression]
            if rows.empty:
                have = f"only {', '.join(there)}" if there else "and none is named in its manifest"
                return replace(
                    nothing, problem=f"{of.folder}: no crops of compression {of.compression}, {have}"
                )
        rows = rows[rows["split"].isin(splits)]
        lacks, cautions = [], []
        if of.methods:
            rows = rows[(rows["label"] == 0) | rows["method"].isin(of.methods)]
            found = set(rows["method"])
            lacks += [f"no fakes by {method}" for method in of.methods if method not in found]
        for split in splits:
            counts = rows[rows["split"] == split].groupby("label")["video_id"].nunique()
            gone = [name for label, name in enumerate(("real", "fake")) if label not in counts.index]
            if gone:
                also = f" ({', '.join(lacks)})" if lacks else ""
                problem = f"{of.folder}: no {' and no '.join(gone)} crops in the split {split!r}{also}"
                return replace(nothing, problem=problem)
            if counts.min() < FEW_VIDEOS:
                cautions.append(
                    f"{counts[0]} real and {counts[1]} fake videos in the split {split!r}: too few to rely on"
                )
        rows = self._thinned(rows).sort_values("path", ignore_index=True)
        stated = replace(protocol, drawn_from="")  # not from the folder that it will lie in
        return Selection(
            of, folder, rows, stated, lacks=tuple(lacks), cautions=tuple(cautions), hash=manifest_hash(rows)
        )

    def _rows(self, of: DataSet) -> tuple[pd.DataFrame, Protocol]:
        # The paper draws each compression by itself; by identity both have to fall alike.
        key = (of.folder, of.compression if self.protocol == "paper" else "", of.tested_only)
        if key in self._split:
            return self._split[key]
        folder = self.root / of.folder
        rows = read_manifest(folder)
        if self.protocol == "paper" and of.compression:
            rows = rows[rows["compression"] == of.compression]
        if self.protocol == "identity" and of.tested_only:
            if (rows["split"] == "test").any():
                rows, which = rows[rows["split"] == "test"], "the test split of the prepared folder"
            else:
                rows, which = rows.assign(split="test"), "all of it"
            found = rows, Protocol("identity", f"never trained on; {which} is tested on")
        elif self.protocol == "identity":
            listed = rows[rows["official_split"] != ""] if "official_split" in rows else rows.iloc[:0]
            found = self._drawn(listed if len(listed) else rows, folder)
            if 0 < len(listed) < len(rows):
                left_out = "; videos that are in no published list are left out"
                found = found[0], replace(found[1], statement=found[1].statement + left_out)
        else:
            found = self._drawn(rows, folder)
        self._split[key] = found
        return found

    def _drawn(self, rows: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, Protocol]:
        if rows.empty:
            return rows, Protocol(self.protocol, "")
        try:
            return PROTOCOLS[self.protocol](rows, SplitOptions(seed=self.seed, fractions=self.fractions))
        except DataError as error:
            raise DataError(f"{folder}: {error}") from error

    def _thinned(self, rows: pd.DataFrame) -> pd.DataFrame:
        """At most `frames` evenly spaced crops of each video that is not trained on."""
        if self.frames is None:
            return rows
        rows = rows.sort_values(["video_id", "frame", "face"])
        videos = rows.groupby(["video_id", "split"])
        rank, size = videos.cumcount(), videos["path"].transform("size")
        kept = np.minimum(size, self.frames)
        return rows[(rows["split"] == "train") | ((rank * kept) % size < kept)]


def write_selection(selection: Selection, out: Path) -> Path:
    """A folder that `train` and `evaluate` take as data: the manifest, and a link to the crops.

    Args:
        selection: What to write.
        out: Folder of such folders.

    Returns:
        The folder, named after the data set and a fingerprint of the rows and of what their splits mean. One
        that is there is not written again.

    Raises:
        DataError: The file system has no links.
    """
    stamp = hashlib.sha256(f"{selection.hash}\t{selection.protocol}".encode()).hexdigest()[:8]
    side = "test" if set(selection.rows["split"]) == {"test"} else "train"
    folder = out / f"{slug(selection.of.name)}-{side}-{stamp}"
    link = folder / LINK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink() or link.resolve() != selection.folder.resolve():
            link.unlink(missing_ok=True)
            link.symlink_to(selection.folder.resolve(), target_is_directory=True)
    except OSError as error:
        raise DataError(f"{link}: cannot link to {selection.folder} ({error})") from error
    options = (selection.cut_as or selection.folder) / "prepare.json"  # how crops were cut, for the card
    if options.is_file():
        shutil.copyfile(options, folder / options.name)
    if not (folder / MANIFEST_NAME).is_file():
        write_manifest(folder, _below(selection.rows, LINK), protocol=selection.protocol)
    return folder


def _below(rows: pd.DataFrame, folder: str) -> pd.DataFrame:
    """Rows whose crops and masks lie in a folder of the folder that they are said of."""
    rows = rows.assign(path=f"{folder}/" + rows["path"])
    if MASK in rows:
        masks = rows[MASK].fillna("")
        rows[MASK] = masks.where(masks == "", f"{folder}/" + masks)
    return rows


def slug(name: str) -> str:
    """A name as part of a file name.

    Example:
        >>> slug("ff++ c23 without Deepfakes")
        'ffpp-c23-without-Deepfakes'
    """
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in name.replace("++", "pp"))
