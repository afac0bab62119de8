"""One threshold for many sources of footage: chosen by the worst of them, and what it catches in each.

A detector may rank the videos of every source well and still put the real ones of one source where the fakes
of another lie. What counts in use is one threshold for all, so here every source weighs alike, whatever its
size, and the worst one is reported beside the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sficonv.errors import DataError
from sficonv.evaluation.metrics import share_in_words, share_interval
from sficonv.evaluation.scores import Scores

FALSE_ALARMS = 0.05
"""Share of the real items of the worst source that may be called fake, where nothing else is asked for."""


@dataclass(frozen=True)
class VerdictCounts:
    """How the items of one kind were judged.

    Args:
        source: Where they come from.
        method: The manipulation; `"real"` for real faces.
        items: How many there are.
        fake: How many of them were called fake.
        uncertain: How many were left open.
    """

    source: str
    method: str
    items: int
    fake: int
    uncertain: int = 0

    @property
    def share(self) -> float:
        """Share that was called fake: false alarms of real faces, detections of others."""
        return self.fake / self.items

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of `share`; it takes the items for independent."""
        return share_interval(self.fake, self.items, "wilson")

    def entry(self) -> dict[str, Any]:
        """The entry of a model card.

        Example:
            >>> VerdictCounts("CelebA", "real", 150, 27, 50).entry()["called_fake_95"]
            [0.1268, 0.2492]
        """
        return {
            "items": self.items,
            "called_fake": round(self.share, 4),
            "called_fake_95": [round(edge, 4) for edge in self.interval],
            "uncertain": round(self.uncertain / self.items, 4),
        }

    def __str__(self) -> str:
        return share_in_words(self.fake, self.items)


@dataclass(frozen=True)
class Pooled:
    """A detector on many sources at once, by one threshold: the figure that counts.

    Args:
        level: `"frame"` or `"video"`: what an item is, a face crop or a video.
        auc: AUC over all items, weighted as `balanced` says: each source and method alike.
        wanted: Share of the real items of the worst source that may be called fake.
        threshold: Smallest score at which they are not more.
        decides: The source whose reals put it there.
        reals: The verdicts on the reals, one entry per source.
        fakes: The verdicts on the fakes, one entry per source and method.
    """

    level: str
    auc: float
    wanted: float
    threshold: float
    decides: str
    reals: list[VerdictCounts]
    fakes: list[VerdictCounts]

    @property
    def caught(self) -> dict[str, float]:
        """Share of the fakes of each source that are called fake, each method weighing alike."""
        return mean_by_source(self.fakes)

    @property
    def title(self) -> str:
        """What the figures are of, for people."""
        return (
            f"{self.level}s of all sources together: AUC {self.auc:.3f}; called fake from "
            f"{self.threshold:.4g}, for at most {self.wanted:.0%} of the reals of {self.decides}"
        )

    @property
    def caught_overall(self) -> str:
        """The mean and the worst source, for people."""
        shares = list(self.caught.values())
        return f"mean {float(np.mean(shares)):.1%}, worst source {min(shares):.1%}"

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Source, reals called fake, method, fakes caught: texts for tables."""
        reals = {one.source: str(one) for one in self.reals}
        fakes = [(one.source, one.method, str(one)) for one in self.fakes]
        fakes += [(source, "-", "-") for source in reals if source not in self.caught]
        return [(source, reals.get(source, "-"), method, text) for source, method, text in sorted(fakes)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the mean and the worst source of what is caught."""
        return {
            "level": self.level,
            "auc": self.auc,
            "wanted": self.wanted,
            "threshold": self.threshold,
            "decides": self.decides,
            "false_alarms": {one.source: one.entry() for one in self.reals},
            "caught": by_source_and_method(self.fakes),
            "caught_mean": float(np.mean(list(self.caught.values()))),
            "caught_worst": min(self.caught.values()),
        }


def items_of(scores: Scores) -> pd.DataFrame:
    """What is judged, one row each: `source`, `method`, `label`, `p_fake`; texts as categories."""
    group = scores.group[scores.video]
    names = scores.groups["dataset"] if "dataset" in scores.groups else pd.Series("all", scores.groups.index)

    def spread(column: pd.Series) -> pd.Categorical:
        codes, categories = pd.factorize(column.astype(str), sort=True)
        return pd.Categorical.from_codes(codes[group], categories=categories)

    return pd.DataFrame(
        {
            "source": spread(names),
            "method": spread(scores.groups["method"]),
            "label": scores.label,
            "p_fake": scores.p_fake,
        }
    )


def balanced(items: pd.DataFrame) -> NDArray[np.float64]:
    """A weight per item: both labels weigh alike, within a label each source, within a source each method.

    Args:
        items: `source`, `method`, `label`; from `items_of`.

    Returns:
        `(N,)`; the sum is 1.
    """
    alike = items.groupby(["label", "source", "method"], observed=True)["p_fake"].transform("size")
    methods = items.groupby(["label", "source"], observed=True)["method"].transform("nunique")
    sources = items.groupby("label")["source"].transform("nunique")
    weights = 1.0 / (alike * methods * sources * items["label"].nunique())
    return np.asarray(weights)


def worst_source_threshold(items: pd.DataFrame, false_alarm_rate: float = FALSE_ALARMS) -> tuple[float, str]:
    """The smallest score from which at most a wanted share of the reals of *every* source is called fake.

    Args:
        items: `source`, `label`, `p_fake`.
        false_alarm_rate: The share, in [0, 1).

    Returns:
        The threshold and the source that puts it there.

    Raises:
        DataError: If there is no real item, or so many of a source score 1 that no threshold keeps the rate.
        ValueError: If the rate is out of range.

    Example:
        >>> items = pd.DataFrame({"source": list("aabb"), "label": 0, "p_fake": [0.1, 0.2, 0.3, 0.9]})
        >>> worst_source_threshold(items, 0.5)  # one of two may be above it in each
        (0.30000000000000004, 'b')
    """
    if not 0 <= false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must be in [0, 1), got {false_alarm_rate}")
    reals = items[items["label"] == 0]
    if reals.empty:
        raise DataError("a threshold for a false-alarm rate needs scores of real faces")
    highest = -1.0
    decides = ""
    for source, scores in reals.groupby("source", observed=True)["p_fake"]:
        allowed = math.floor(false_alarm_rate * len(scores) + 1e-9)  # 0.29 * 100 is a little less than 29
        let_off = float(np.sort(scores.to_numpy())[::-1][allowed])
        if let_off >= 1:
            raise DataError(
                f"more than {allowed} of {len(scores)} real items of {source} score 1: no threshold keeps "
                f"the false-alarm rate at {false_alarm_rate:g}"
            )
        if let_off > highest:
            highest, decides = let_off, str(source)
    return math.nextafter(highest, 2.0), decides


def count_verdicts(
    items: pd.DataFrame, threshold: float, low: float | None = None
) -> tuple[list[VerdictCounts], list[VerdictCounts]]:
    """How the items of each source are judged.

    Args:
        items: `source`, `method`, `label`, `p_fake`.
        threshold: Score from which an item is called fake.
        low: Score below which it is called real; default: the threshold, so that none is left open.

    Returns:
        The reals, one entry per source, and the fakes, one per source and method.
    """
    low = threshold if low is None else low
    judged = items.assign(
        method=items["method"].astype(str).where(items["label"] == 1, "real"),
        fake=items["p_fake"] >= threshold,
        uncertain=(items["p_fake"] >= low) & (items["p_fake"] < threshold),
    )
    called: tuple[list[VerdictCounts], list[VerdictCounts]] = ([], [])
    for (label, source, method), rows in judged.groupby(["label", "source", "method"], observed=True):
        counts = len(rows), int(rows["fake"].sum()), int(rows["uncertain"].sum())
        called[int(str(label))].append(VerdictCounts(str(source), str(method), *counts))
    return called


def pooled(scores: Scores, *, level: str, false_alarm_rate: float = FALSE_ALARMS) -> Pooled:
    """Judge a detector by one threshold for many sources.

    Args:
        scores: Crops or videos of several sources (`dataset`).
        level: What they are, `"frame"` or `"video"`, for the result.
        false_alarm_rate: Wanted share of the reals of the worst source.

    Raises:
        DataError: If real or fake items are missing, or no threshold keeps the rate.
    """
    items = items_of(scores)
    if items["label"].nunique() < 2:
        raise DataError("one threshold for many sources needs real and fake items")
    threshold, decides = worst_source_threshold(items, false_alarm_rate)
    auc = float(roc_auc_score(items["label"], items["p_fake"], sample_weight=balanced(items)))
    return Pooled(level, auc, false_alarm_rate, threshold, decides, *count_verdicts(items, threshold))


def mean_by_source(called: list[VerdictCounts]) -> dict[str, float]:
    """Share called fake of each source, its methods weighing alike."""
    sources: dict[str, list[float]] = {}
    for one in called:
        sources.setdefault(one.source, []).append(one.share)
    return {source: float(np.mean(shares)) for source, shares in sources.items()}


def by_source_and_method(called: list[VerdictCounts]) -> dict[str, dict[str, Any]]:
    """Entries of a model card: source, then method."""
    sources: dict[str, dict[str, Any]] = {}
    for one in called:
        sources.setdefault(one.source, {})[one.method] = one.entry()
    return sources
