"""Which video belongs to which split, where no official list says it: a split of our own."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

SPLIT_NAMES = ("train", "val", "test")


def split_by_identity(
    source_ids: Sequence[Sequence[str]], kinds: Sequence[int], fractions: Sequence[float], *, seed: int = 0
) -> list[str]:
    """Split items so that no identity is on two sides, the same way at every run.

    Items that share an identity, directly or over other items, form one group (so A_B, B_A, A and B stay
    together). Groups are put in the order of a hash of their identities and cut at the fractions,
    separately for groups of only real items, only fake ones and both, or whatever `kinds` tells apart; with
    three groups that hold the same kinds, each split with a fraction above zero gets at least one.

    Args:
        source_ids: Identities of each item.
        kinds: For each item its label, or a number for whatever else is to be shared out alike.
        fractions: Of train, val and test; they sum to 1.
        seed: Another one gives another order of the groups.

    Returns:
        "train", "val" or "test" for each item.

    Raises:
        ValueError: The fractions are not three numbers >= 0 that sum to 1.

    Example:
        >>> split_by_identity([["a"], ["a", "b"], ["c"]], [0, 1, 0], (1.0, 0.0, 0.0))
        ['train', 'train', 'train']
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"split_fractions must be train, val and test >= 0 that sum to 1, got {fractions}")
    groups = components(source_ids)
    alike: dict[frozenset[int], list[str]] = defaultdict(list)
    members: dict[str, list[int]] = defaultdict(list)
    for item, group in enumerate(groups):
        members[group].append(item)
    for group, items in members.items():
        alike[frozenset(kinds[i] for i in items)].append(group)
    split_of: dict[str, str] = {}
    salt = f"{seed}\t" if seed else ""
    for names in alike.values():
        names.sort(key=lambda name: hashlib.sha256(f"{salt}{name}".encode()).hexdigest())
        split_of.update(zip(names, _cut(len(names), fractions), strict=True))
    return [split_of[group] for group in groups]


def _cut(n: int, fractions: Sequence[float]) -> list[str]:
    """`n` split names in the given proportions: first test, then val, then train."""
    least = [min(1.0, fraction > 0) for fraction in fractions]
    sizes = [max(round(n * f), int(at_least)) for f, at_least in zip(fractions, least, strict=True)]
    # Too few for everybody: test goes without first, then val.
    order = [i for i in (0, 1, 2) if fractions[i] > 0]
    if n < len(order):
        sizes = [int(i in order[:n]) for i in range(3)]
    largest = max(range(3), key=lambda i: fractions[i])
    sizes[largest] += n - sum(sizes)
    return ["test"] * sizes[2] + ["val"] * sizes[1] + ["train"] * sizes[0]


def components(source_ids: Iterable[Sequence[str]]) -> list[str]:
    """Which items belong together because they share an identity, directly or over other items.

    Args:
        source_ids: Identities of each item, at least one.

    Returns:
        For each item the smallest identity of its group.

    Example:
        >>> components([["b"], ["a", "b"], ["c"]])
        ['a', 'a', 'c']
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    items = [list(ids) for ids in source_ids]
    for ids in items:
        for other in ids[1:]:
            low, high = sorted((root(ids[0]), root(other)))
            parent[high] = low
    return [root(ids[0]) for ids in items]
