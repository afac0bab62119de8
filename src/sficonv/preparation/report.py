"""What `prepare` did, for people and for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sficonv.datasets.manifest import Protocol

PROBLEMS_NAME = "problems.csv"
WITH_NOTE = "with_note"
_NOT_BROKEN = ("no_face", "some_frames_without_face", "no_forged_face", "mask_unusable", WITH_NOTE)


@dataclass(frozen=True)
class Problem:
    """A source file that did not give all it should, or is to be used with care: where, why, in plain words.

    The reason is one word. Files that were read, but hold more than was looked at or may mislead (other
    streams, joined recordings, high dynamic range), have the reason `with_note`.
    """

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        out: The prepared folder.
        layout: How the source was read.
        items: Source files.
        resumed: Of these, done by an earlier run.
        crops: Rows of the manifest.
        frames_sampled: Frames (and images) looked at.
        frames_without_face: Of these, without a face.
        problems: Rows of `problems.csv`.
        counts: One row per split, method, compression and label: videos and crops.
        notes: How the source was understood.
        warnings: Leaks and unusable splits.
        manifest_hash: Fingerprint of the manifest.
        protocol: What its split column means.
        shards: Folder of the tar shards, if some were asked for.
    """

    out: Path
    layout: str
    items: int
    resumed: int
    crops: int
    frames_sampled: int
    frames_without_face: int
    problems: list[Problem]
    counts: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    manifest_hash: str = ""
    protocol: Protocol | None = None
    shards: Path | None = None

    @property
    def broken(self) -> int:
        """Files that could not be read to their end, as opposed to files in which no face was found."""
        return sum(problem.reason not in _NOT_BROKEN for problem in self.problems)

    def summary(self) -> str:
        """The report for people; its last line is about the problems."""
        lines = [f"{self.crops} crops of {self.items} files in {self.out}"]
        if self.resumed:
            lines[0] += f" ({self.resumed} files were done by an earlier run)"
        for row in self.counts:
            what = " ".join(filter(None, (row["method"], row["compression"])))
            split = row["split"] or "no split"
            label = "fake" if row["label"] else "real"
            lines.append(f"  {split:8} {label}  {what:24} {row['videos']:6} videos {row['crops']:7} crops")
        if self.protocol is not None:
            lines.append(f"splits: {self.protocol}")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"WARNING: {warning}" for warning in self.warnings]
        if not self.problems:
            lines.append("no problems")
        else:
            reasons = Counter(problem.reason for problem in self.problems)
            text = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in reasons.most_common())
            files = len({problem.path for problem in self.problems})
            lines.append(f"{files} files with problems ({text}): see {self.out / PROBLEMS_NAME}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report for programs: plain dictionaries, lists, strings and numbers."""
        shards = None if self.shards is None else str(self.shards)
        return {**asdict(self), "out": str(self.out), "shards": shards}
