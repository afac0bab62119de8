"""Looking over prepared data again: leaks, near-duplicates, and whether the crops are what was written."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sficonv.datasets.manifest import (
    Protocol,
    manifest_file,
    manifest_hash,
    prepared_folder,
    read_manifest,
    read_protocol,
)
from sficonv.datasets.shards import check_shards, read_index
from sficonv.errors import first_few
from sficonv.progress import progress_bar
from sficonv.splits.leaks import Finding, find_leaks
from sficonv.splits.near_duplicates import find_near_duplicates, perceptual_hash
from sficonv.splits.split import outdated

_CHUNK = 1024


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes:
        manifest: The file that was checked.
        crops: Its rows.
        manifest_hash: Its fingerprint.
        protocol: What its split column means, as far as it says so.
        findings: What is wrong, serious things first.
    """

    manifest: Path
    crops: int
    manifest_hash: str
    protocol: Protocol | None
    findings: list[Finding]

    @property
    def failed(self) -> bool:
        """Whether something is serious: a leak, or crops that are missing or changed."""
        return any(finding.serious for finding in self.findings)

    def summary(self) -> str:
        """The report for people."""
        lines = [f"{self.manifest}: {self.crops} crops"]
        if self.protocol is not None:
            lines.append(f"splits: {self.protocol}")
        for finding in self.findings:
            lines.append(f"{'PROBLEM' if finding.serious else 'note'}: {finding.text}")
            lines += [f"    {example}" for example in finding.examples]
        if not self.findings:
            lines.append("no leaks, no near-duplicates across splits, all crops as they were written")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report for programs."""
        return {**asdict(self), "manifest": str(self.manifest), "failed": self.failed}


def check(data: str | Path, *, files: bool = True) -> CheckReport:
    """Check prepared data: splits that leak or cannot be used, and crops that are missing or changed.

    A leak is the same video, person, crop or picture on two sides of a split, a fake whose original is on
    another side, or a video of the published test list that is trained on.

    Args:
        data: A prepared folder, or one of its manifests, such as one that `split` wrote.
        files: Read every crop and compare it with the hash in the manifest.

    Returns:
        The findings. On the command line, a serious one makes the exit code 1.

    Raises:
        DataError: There is no manifest, or it is damaged.

    Example:
        >>> print(check("prepared/ffpp").summary())  # doctest: +SKIP
    """
    df, root = read_manifest(data), prepared_folder(data)
    findings = find_leaks(df)
    if outdated(data):
        text = "the manifest of the folder has changed since this split was drawn: split again"
        findings.append(Finding("outdated_split", True, text, 1))
    index = read_index(data)
    if index is not None:
        if files and (wrong := check_shards(index)):
            text = f"{len(wrong)} shards changed since they were written: {first_few(wrong)}"
            findings.append(Finding("shard_changed", True, text, len(wrong), wrong[:10]))
        if index.manifest_hash != manifest_hash(df):
            text = "the shards belong to an earlier manifest: write them again"
            findings.append(Finding("outdated_shards", True, text, 1))
    else:
        hashes = df["phash"].fillna("").tolist() if "phash" in df else [""] * len(df)
        if files:
            damaged, hashes = _read_crops(root, df["path"].tolist(), df["sha256"].tolist(), hashes)
            findings += damaged
        findings += filter(None, [find_near_duplicates(df.assign(phash=hashes), root)])
    findings.sort(key=lambda finding: not finding.serious)
    return CheckReport(manifest_file(data), len(df), manifest_hash(df), read_protocol(data), findings)


def _read_crops(
    root: Path, paths: list[str], expected: list[str], hashes: list[str]
) -> tuple[list[Finding], list[str]]:
    """What is wrong with the files, and the perceptual hashes, also where the manifest has none."""
    missing, changed, seen = [], [], list(hashes)

    def look(row: int) -> tuple[bool, str, str]:
        try:
            content = (root / paths[row]).read_bytes()
        except OSError:
            return False, "", ""
        return True, hashlib.sha256(content).hexdigest(), hashes[row] or _perceptual(content)

    with ThreadPoolExecutor() as pool, progress_bar("crops", len(paths)) as advance:
        for start in range(0, len(paths), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(paths)))
            for row, (there, digest, perceptual) in zip(rows, pool.map(look, rows), strict=True):
                advance()
                seen[row] = perceptual
                if not there:
                    missing.append(paths[row])
                elif (digest != expected[row] and expected[row]) or not perceptual:
                    changed.append(paths[row])
    findings = []
    for kind, names, text in (
        ("crop_missing", missing, "crops are missing or cannot be read"),
        ("crop_changed", changed, "crops changed since the manifest was written"),
    ):
        if names:
            full = f"{len(names)} {text}: {first_few(names)}"
            findings.append(Finding(kind, True, full, len(names), names[:10]))
    return findings, seen


def _perceptual(content: bytes) -> str:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    return "" if image is None else perceptual_hash(image)
