"""What a model card says of its scores, read and checked once for every part that uses it; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sficonv.errors import WeightsError

DEFAULT_BAND = (0.35, 0.65)
"""Band of scores in which no verdict is given, of a detector that was never calibrated."""

LogOdds = TypeVar("LogOdds")


@dataclass(frozen=True)
class Calibration:
    """From the log-odds of a network to a score that means something, and from the score to a verdict.

    The score is `sigmoid((log_odds - shift) / temperature)` (Platt, 1999): a monotone map, so it changes no
    ranking and no AUC.

    Args:
        temperature: Divides the shifted log-odds; in [0.001, 1000].
        shift: Log-odds at which the score is 0.5; in [-100, 100].
        uncertain: Band of scores in which no verdict is given, edges included.
        threshold: Score above which an item is called fake, as `evaluate` reports it. Cards written by
            `sficonv calibrate` have it at the upper edge of the band, others may have none.

    Raises:
        WeightsError: If a value makes no sense.

    Example:
        >>> calibration = Calibration(temperature=2.0, shift=1.0, uncertain=(0.3, 0.8))
        >>> calibration.apply(5.0)
        2.0
        >>> calibration.verdict(0.85)
        'fake'
    """

    temperature: float = 1.0
    shift: float = 0.0
    uncertain: tuple[float, float] = DEFAULT_BAND
    threshold: float | None = None

    def __post_init__(self) -> None:
        given = [self.temperature, self.shift, *self.uncertain]
        numbers = given if self.threshold is None else [*given, self.threshold]
        if len(given) != 4 or not all(type(value) in (int, float) for value in numbers):  # a bool is an int
            raise WeightsError(f"the model card's calibration cannot be read: {self}")
        low, high = self.uncertain
        sound = 1e-3 <= self.temperature <= 1e3 and -100 <= self.shift <= 100
        sound &= 0 <= low <= high <= 1 and high > 0 and low < 1
        sound &= self.threshold is None or 0 <= self.threshold <= 1
        if not sound:  # also where a value is nan
            raise WeightsError(f"the model card's calibration makes no sense: {self}")

    def apply(self, log_odds: LogOdds) -> LogOdds:
        """Calibrated log-odds; their sigmoid is the score.

        The one place where calibration happens: scanning, evaluation and the exported graph all call it.

        Args:
            log_odds: `logit(fake) - logit(real)`: a number, an array or a tensor of any shape.
        """
        return (log_odds - self.shift) / self.temperature  # type: ignore[operator,return-value]

    def verdict(self, p_fake: float) -> Literal["real", "uncertain", "fake"]:
        """`"real"` below the uncertain band, `"fake"` above it, `"uncertain"` inside (edges included)."""
        low, high = self.uncertain
        return "real" if p_fake < low else "fake" if p_fake > high else "uncertain"


def read_calibration(card: dict[str, Any]) -> Calibration:
    """The entry `calibration` of a model card.

    Args:
        card: From `sficonv.models.read_card`. Without the entry, or where it lacks a value, the defaults of
            `Calibration` hold: a card that has only a temperature is fine.

    Raises:
        WeightsError: If it makes no sense.

    Example:
        >>> read_calibration({"calibration": {"temperature": 2, "uncertain": [0.4, 0.6]}}).uncertain
        (0.4, 0.6)
    """
    entry = card.get("calibration") or {}
    if not isinstance(entry, dict) or not isinstance(entry.get("uncertain", []), list | tuple):
        raise WeightsError(f"the model card's calibration cannot be read: {entry!r}")
    known = {
        name: entry[name] for name in ("temperature", "shift", "threshold") if entry.get(name) is not None
    }
    return Calibration(**known, uncertain=tuple(entry.get("uncertain", DEFAULT_BAND)))
