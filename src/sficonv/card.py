"""The model card: its schema, checked once for every part that reads it, and what it says of the scores.

A card comes with weights from anywhere, so nothing in it is trusted: a wrong number gives wrong scores, not
an error. This module does without torch, because an exported detector carries a card too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from sficonv.errors import WeightsError

DEFAULT_BAND = (0.35, 0.65)
"""Band of scores in which no verdict is given, of a detector that was never calibrated."""

FORMAT = "sficonv/1"
DEFAULT_MARGIN, DEFAULT_CROP = 1.3, 256
"""How faces were cut for a detector whose card does not say it: side relative to the face, and in pixels."""
LONGEST, DEEPEST, MOST_DIGITS = 50_000_000, 50, 100
"""Characters of a card, levels of nesting, and digits of a whole number that are read at all."""

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
        for name, kind in _CALIBRATION.items():
            value = getattr(self, name)
            if not (kind.holds(value) or (name == "threshold" and value is None)):
                raise WeightsError(
                    f"the model card's calibration.{name} must be {kind.what}, got {_shown(value)}"
                )

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


class Kind(NamedTuple):
    """What a value has to be, in words and as a test."""

    what: str
    holds: Callable[[Any], bool]


def _number(low: float, high: float) -> Kind:
    """A bool is an int too, but no number; `nan` is in no interval."""
    return Kind(f"a number from {low:g} to {high:g}", lambda v: type(v) in (int, float) and low <= v <= high)


def _integer(low: int, high: int) -> Kind:
    return Kind(f"a whole number from {low} to {high}", lambda v: type(v) is int and low <= v <= high)


def _list(of: Kind, length: int | None = None) -> Kind:
    count = "" if length is None else f"{length}, each "

    def holds(value: Any) -> bool:
        right = isinstance(value, list | tuple) and length in (None, len(value))
        return right and all(of.holds(entry) for entry in value)

    return Kind(f"a list of {count}{of.what}", holds)


def _mapping(of: Kind) -> Kind:
    return Kind(
        f"an object, each entry {of.what}",
        lambda v: isinstance(v, dict) and all(of.holds(entry) for entry in v.values()),
    )


def _fields(needed: dict[str, Kind], optional: dict[str, Kind]) -> Kind:
    known = needed | optional

    def holds(value: Any) -> bool:
        if not isinstance(value, dict) or not needed.keys() <= value.keys():
            return False
        return all(known[name].holds(entry) for name, entry in value.items() if name in known)

    return Kind("an object with " + ", ".join(f"{name} ({kind.what})" for name, kind in known.items()), holds)


def _one_of(*values: Any) -> Kind:
    return Kind(" or ".join(map(json.dumps, values)), lambda value: value in values)


_ANYTHING = Kind("anything", lambda value: True)
_TEXT = Kind("text", lambda value: isinstance(value, str))
_OBJECT = Kind("an object", lambda value: isinstance(value, dict))
_SHARE = _number(0, 1)
_BAND = Kind(
    "two numbers, 0 <= low <= high <= 1, the first below 1 and the second above 0",
    lambda v: _list(_SHARE, 2).holds(v) and v[0] <= v[1] and v[0] < 1 and v[1] > 0,
)
_CALLED = _fields(
    {"items": _integer(0, 10**9), "called_fake": _SHARE, "uncertain": _SHARE},
    {"called_fake_95": _list(_SHARE, 2)},
)
_EDITED = _fields({"items": _integer(0, 10**9), "changed": _SHARE, "called_fake": _SHARE}, {})
_CALIBRATION = {
    "temperature": _number(1e-3, 1e3),
    "shift": _number(-100, 100),
    "uncertain": _BAND,
    "threshold": _SHARE,
}
SCHEMA = {
    "format": _one_of(FORMAT),
    "model": _TEXT,
    "options": _OBJECT,
    "num_classes": _integer(1, 10_000),
    "image_size": _integer(16, 4096),
    "mean": _list(_number(-1000, 1000), 3),
    "std": _list(_number(1e-6, 1000), 3),
    "labels": _one_of(["real", "fake"]),
    "weights_sha256": _TEXT,
    "calibration": _fields({}, _CALIBRATION),
    "inference": _fields({}, {"views": _one_of(["original"], ["original", "mirrored"])}),
    "crop": _fields({}, {"margin": _number(0.1, 10), "size": _integer(16, 2048)}),
    "limits": _list(_TEXT),
    "weakness": _TEXT,
    "metrics": _OBJECT,
    "false_alarms": _mapping(_CALLED),
    "caught": _mapping(_mapping(_CALLED)),
    "benign": _mapping(_EDITED),
    "data": _OBJECT,
    "recipe": _OBJECT,
    "training": _OBJECT,
    "versions": _mapping(_ANYTHING),
}
"""What the entries of a card may hold. Others are kept unread."""


def parse_card(text: str, source: object) -> dict[str, Any]:
    """Read a model card.

    Args:
        text: JSON.
        source: What to call it in messages: its file.

    Raises:
        WeightsError: If it is no JSON object of this format, or an entry makes no sense.

    Example:
        >>> parse_card('{"format": "sficonv/1", "limits": []}', "weights.json")["limits"]
        []
    """
    try:
        if len(text) > LONGEST:
            raise ValueError(f"{len(text)} characters")
        card = json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise WeightsError(f"{source}: not a model card (nested too deeply)") from None
    except ValueError as error:
        raise WeightsError(f"{source}: not a model card ({error})") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise WeightsError(f"{source}: not a model card of format {FORMAT!r}")
    return check_card(card, source)


def check_card(card: dict[str, Any], source: object = "") -> dict[str, Any]:
    """Hold a card against the schema; any entry may be missing.

    Args:
        card: As `json.loads` gives it, whole or in part.
        source: Its file, for messages.

    Returns:
        The card.

    Raises:
        WeightsError: If an entry makes no sense; the message names it and says what it has to be.

    Example:
        >>> check_card({"limits": 5})
        Traceback (most recent call last):
        ...
        sficonv.errors.WeightsError: the model card's limits must be a list of text, got 5
    """
    where = f"{source}: " if source else ""
    if not isinstance(card, dict):
        raise WeightsError(f"{where}the model card must be an object, got {_shown(card)}")
    level: list[Any] = [card]
    for _ in range(DEEPEST):
        level = [v for o in level for v in (o.values() if isinstance(o, dict) else o)
                 if isinstance(v, dict | list)]  # fmt: skip
    if level:
        raise WeightsError(f"{where}not a model card (nested too deeply)")
    for name, kind in SCHEMA.items():
        if name in card and not kind.holds(card[name]):
            raise WeightsError(
                f"{where}the model card's {name} must be {kind.what}, got {_shown(card[name])}"
            )
    return card


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
    entry = card.get("calibration")
    if not isinstance(entry, dict | None):
        raise WeightsError(f"the model card's calibration must be an object, got {_shown(entry)}")
    known = {name: entry[name] for name in _CALIBRATION if entry and entry.get(name) is not None}
    if isinstance(known.get("uncertain"), list):
        known["uncertain"] = tuple(known["uncertain"])
    return Calibration(**known)


def crop_of(card: dict[str, Any]) -> tuple[float, int]:
    """How faces were cut for a detector: margin (side of the square over that of the face) and pixels.

    Args:
        card: One that `check_card` accepted.

    Example:
        >>> crop_of({"crop": {"margin": 1.5}})
        (1.5, 256)
    """
    crop = card.get("crop") or {}
    return float(crop.get("margin", DEFAULT_MARGIN)), int(crop.get("size", DEFAULT_CROP))


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _shown(value: Any) -> str:
    """A value for a message, whatever its size."""
    try:
        text = repr(value)
    except ValueError:  # whole numbers of thousands of digits have none
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]} ..."
