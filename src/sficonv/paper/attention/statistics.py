"""How far figures of attention maps can be trusted: intervals over faces, and over groups of faces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sficonv.attention.maps import attention_numbers, average_attention
from sficonv.estimate import Estimate


def mean_interval(values: ArrayLike, groups: ArrayLike, *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """The mean of some figures and its 95 % bootstrap interval (percentile).

    Whole groups are drawn, because figures of one group resemble each other.

    Args:
        values: `(N,)`; those that are not finite are left out.
        groups: `(N,)`, the group of each.
        resamples: How often to resample; 0 for no interval.
        seed: The same seed gives the same interval.

    Returns:
        `nan` for what is undefined: no values, or an interval of a single group.

    Example:
        >>> mean_interval([1.0, 2.0, 3.0], ["a", "b", "c"]).value
        2.0
    """
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=float)
    known = np.isfinite(values)
    if not known.any():
        return Estimate(math.nan)
    _, group = np.unique(np.asarray(groups)[known], return_inverse=True)
    sums, sizes = np.bincount(group, values[known]), np.bincount(group)
    mean = float(values[known].mean())
    if len(sums) < 2 or not resamples:
        return Estimate(mean)
    found = bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, float(found.low), float(found.high))


def other_groups(total: int, size: int, *, count: int = 200, seed: int = 0) -> NDArray[np.int64]:
    """Groups of `size` of `total` faces, drawn without repetition within a group.

    An average of few maps depends on which ones, and a bootstrap sample would hold some of them twice,
    which makes an average look more concentrated than any of different faces.

    Returns:
        `(count, size)`; `(0, size)` where there is no other group to draw.

    Example:
        >>> other_groups(64, 4).shape
        (200, 4)
    """
    if size >= total:
        return np.empty((0, size), np.int64)
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(total, size, replace=False) for _ in range(count)])


def average_numbers(maps: Tensor, groups: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """The numbers of the average map of each group.

    Args:
        maps: `(N, 1, H, W)`, from `forgery_attention`.
        groups: `(G, n)`, indices of maps.

    Returns:
        For each of `attention_numbers` `(G,)`.

    Example:
        >>> average_numbers(torch.rand(8, 1, 8, 8), other_groups(8, 4, count=3))["entropy"].shape
        (3,)
    """
    found = [attention_numbers(average_attention(maps[torch.from_numpy(group)])) for group in groups]
    return {name: np.array([numbers[name] for numbers in found]) for name in found[0]} if found else {}


def middle(values: NDArray[Any] | None) -> tuple[float, float]:
    """Between which limits the middle 95 % of some figures lie, `nan` without any."""
    if values is None or not np.isfinite(values).any():
        return math.nan, math.nan
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
