"""A figure with its uncertainty."""

from __future__ import annotations

import math
from typing import NamedTuple


class Estimate(NamedTuple):
    """A figure and its limits, those of the 95 % interval unless said otherwise; `nan` where undefined.

    Example:
        >>> str(Estimate(0.5, 0.4, 0.6)), str(Estimate(math.nan))
        ('0.500 [0.400, 0.600]', 'n/a')
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "n/a"
        limits = f" [{self.low:.3f}, {self.high:.3f}]" if math.isfinite(self.low) else ""
        return f"{self.value:.3f}{limits}"
