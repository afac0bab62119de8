"""Whether a figure can be trusted: what the weights may have seen of the data they are judged on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from sficonv.datasets.manifest import Protocol, manifest_hash
from sficonv.splits.leaks import check_manifest


def overlap_remarks(
    manifest: pd.DataFrame,
    rows: pd.DataFrame,
    split: str,
    card: dict[str, Any] | None,
    protocol: Protocol | None = None,
) -> tuple[list[str], list[str]]:
    """Say what the weights may have seen of the rows they are judged on.

    Args:
        manifest: The whole manifest of the prepared folder.
        rows: The evaluated rows of it.
        split: Which split they are, or `"all"`.
        card: The model card. Under `data` it may hold hashes of manifests, ids of videos and hashes of crops,
            at any depth and under any name. `None` for a detector without one.
        protocol: What the split column of the manifest means, if it says so.

    Returns:
        Warnings (the figures are doubtful) and notes (what could not be checked).
    """
    unknown = (
        "the model card does not say what the weights were"
        if card is not None
        else ("nothing says what this detector was")
    )
    card = card or {}
    named = dict(_texts(card.get("data") or {}))
    known = set().union(*named.values())
    same = manifest_hash(manifest) in known
    whose = "these weights were trained on this very folder" if same else "for weights trained on this folder"
    warnings: list[str] = []
    notes: list[str] = []
    if protocol is not None:
        (warnings if protocol.leaky else notes).append(f"splits by {protocol}")
    if _trained_on_leaky_split(card):
        warnings.append("these weights were trained on a LEAKY split: compare with the paper's figures only")
    used = rows["split"].value_counts()
    if "train" in used:
        warnings.append(
            f"{used['train']} crops are of the training split: {whose}, figures say nothing about new faces"
        )
    if "val" in used:
        warnings.append(
            f"{used['val']} crops are of the validation split, which chooses the checkpoint: {whose}, "
            "figures are too good"
        )
    if same and "" in used:
        warnings.append(f"{used['']} crops have no split and may have been trained on: {whose}")
    if split != "all":
        earlier = {"train": ["train"], "val": ["train", "val"], "test": ["train", "val", "test"]}[split]
        manifest = manifest[manifest["split"].isin(earlier)]
    warnings += [f"in this folder {finding}" for finding in check_manifest(manifest)]

    warnings += _seen(named, rows)
    if not named:
        warnings.append(f"{unknown} trained on: overlap was not checked")
    elif not same:
        notes.append(
            "the model card names other data than this folder; the same faces under other names go unnoticed"
        )
    return warnings, notes


def _seen(named: dict[str, set[str]], rows: pd.DataFrame) -> Iterator[str]:
    """Which of the evaluated videos and crops the model card names, by the name they stand under."""
    what = {"videos": set(rows["video_id"].astype(str)), "crops": set(rows["sha256"].astype(str)) - {""}}
    for key, texts in named.items():
        for name, ours in what.items():
            if seen := sorted(texts & ours):
                yield (
                    f"{len(seen)} of {len(ours)} evaluated {name}, such as {seen[0]}, are in the model card "
                    f"under data.{key}: the weights have seen them"
                )


def _trained_on_leaky_split(card: dict[str, Any]) -> bool:
    data = card.get("data")
    folders = data.get("folders") if isinstance(data, dict) else None
    protocols = (
        [f.get("protocol") for f in folders if isinstance(f, dict)] if isinstance(folders, list) else []
    )
    return any(isinstance(protocol, dict) and protocol.get("leaky") for protocol in protocols)


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """The texts inside a JSON value, by the dotted name of where they stand; those of a list together."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _texts(entry, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        by_name: dict[str, set[str]] = {}
        for entry in value:
            for key, texts in _texts(entry, name):
                by_name.setdefault(key, set()).update(texts)
        yield from by_name.items()
    elif isinstance(value, str):
        yield name, {value}
