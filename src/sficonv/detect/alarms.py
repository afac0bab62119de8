"""How often a detector calls real faces forged, as its model card says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FalseAlarms:
    """The verdicts on one set of real faces.

    Args:
        data: What the faces are.
        items: Number of photographs or videos.
        called_fake: Share of them called fake, in [0, 1].
        uncertain: Share of them left open, in [0, 1].
        interval: 95 % interval of `called_fake`; `None` where the card gives none.
    """

    data: str
    items: int
    called_fake: float
    uncertain: float
    interval: tuple[float, float] | None = None


def read_false_alarms(card: dict[str, Any]) -> tuple[FalseAlarms, ...]:
    """The entry `false_alarms` of a model card.

    Args:
        card: From `sficonv.models.checkpoint.read_card`. Each set of real faces has `items`, `called_fake`,
            `uncertain` and, in newer cards, `called_fake_95`. What cannot be read is left out: the entry only
            informs, no score depends on it.

    Example:
        >>> card = {"false_alarms": {"CelebA": {"items": 150, "called_fake": 0.16, "uncertain": 0.38}}}
        >>> read_false_alarms(card)[0].called_fake
        0.16
    """
    entry = card.get("false_alarms")
    found = []
    for data, rates in entry.items() if isinstance(entry, dict) else ():
        try:
            low, high = rates.get("called_fake_95", (None, None))
            interval = None if low is None else (float(low), float(high))
            shares = float(rates["called_fake"]), float(rates["uncertain"])
            found.append(FalseAlarms(str(data), int(rates["items"]), *shares, interval))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return tuple(found)
