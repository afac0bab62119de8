"""Does the score depend on what an attention map marks? Blur that part and look.

A map is always drawn, also where it means nothing. The deletion test (after Petsiuk et al., RISE, BMVC 2018)
blurs the marked part of a face and compares what that does to the score with blurring as much elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

MARKED = 0.15
"""Share of the pixels that count as marked: those with the most attention."""
SHIFTS = ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5), (0.25, 0.75))
"""Where else as much is blurred: the marked part moved by these shares of height and width."""
LEAST = 0.05
"""Change of P(fake) below which nothing is said to have happened."""


class Scorer(Protocol):
    """What gives scores to crops."""

    def scores(self, crops: list[np.ndarray]) -> np.ndarray:
        """P(fake) of crops, RGB `uint8` `(H, W, 3)`: `(len(crops),)`."""


@dataclass(frozen=True)
class Deletion:
    """P(fake) of a face as it is, with its marked part blurred, and with as much blurred elsewhere.

    Args:
        whole: As it is.
        marked: With the marked part blurred.
        elsewhere: Mean with equally large parts blurred elsewhere.
    """

    whole: float
    marked: float
    elsewhere: float

    @property
    def matters(self) -> bool:
        """Whether blurring the marked part changes the score clearly, and more than blurring elsewhere."""
        change = abs(self.whole - self.marked)
        return change >= LEAST and change > 2 * abs(self.whole - self.elsewhere)

    @property
    def sentence(self) -> str:
        """The outcome in plain words.

        Example:
            >>> Deletion(0.9, 0.3, 0.85).sentence[:63]
            'With the marked part blurred, P(fake) goes from 0.90 to 0.30 (w'
        """
        found = (
            f"With the marked part blurred, P(fake) goes from {self.whole:.2f} to {self.marked:.2f} "
            f"(with as much blurred elsewhere, to {self.elsewhere:.2f})"
        )
        if self.matters:
            return f"{found}: the score depends on what the map marks."
        return f"{found}: the score does not depend on that part in particular, so the map explains little."


def deletion_test(scorer: Scorer, crop: np.ndarray, attention: np.ndarray) -> Deletion:
    """Blur what a map marks, and as much elsewhere, and score each.

    Args:
        scorer: The detector.
        crop: RGB `uint8` `(H, W, 3)`.
        attention: The map `(h, w)`, of any size; larger means more.

    Returns:
        The three scores.

    Example:
        >>> class Brightness:
        ...     def scores(self, crops):
        ...         return np.array([crop.mean() / 255 for crop in crops])
        >>> crop, attention = np.full((64, 64, 3), 128, np.uint8), np.eye(64)
        >>> deletion_test(Brightness(), crop, attention).matters
        False
    """
    import cv2

    height, width = crop.shape[:2]
    attention = cv2.resize(attention.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    mask = (attention >= np.quantile(attention, 1 - MARKED)).astype(np.float32)
    side = max(height, width)
    mask = np.clip(2 * cv2.GaussianBlur(mask, (0, 0), side / 64), 0, 1)  # no edge for the detector to see
    blurred = cv2.GaussianBlur(crop, (0, 0), side / 16)
    moved = [np.roll(mask, (round(y * height), round(x * width)), (0, 1)) for y, x in SHIFTS]
    parts = [crop, *(_mixed(crop, blurred, part) for part in (mask, *moved))]
    whole, marked, *elsewhere = (float(score) for score in scorer.scores(parts))
    return Deletion(whole, marked, float(np.mean(elsewhere)))


def _mixed(image: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    mixed: np.ndarray = (1 - weight[..., None]) * image + weight[..., None] * other
    return mixed.round().astype(np.uint8)
