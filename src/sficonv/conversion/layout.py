"""Which channels of a value are high-frequency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from sficonv.nn.sficonv import Ratio, frequency_channels


@dataclass(frozen=True)
class Layout:
    """Which channels of a value travel in the high-frequency branch, in the order of the vanilla network.

    The branches keep that order. So the layout of a concatenation is the concatenation of the layouts, and a
    layer that reads it permutes the columns of its weight: the parameters keep their vanilla order.

    Args:
        fre: For each channel, whether it is high-frequency.

    Example:
        >>> joined = Layout.split(4, 1) + Layout.split(2, 1)
        >>> joined.order
        (0, 1, 2, 4, 3, 5)
    """

    fre: tuple[bool, ...]

    @classmethod
    def split(cls, channels: int, fre_channels: int) -> Layout:
        """The layout `[spa | fre]` of every convolution's output."""
        return cls((False,) * (channels - fre_channels) + (True,) * fre_channels)

    @classmethod
    def of_alpha(cls, channels: int, alpha: Ratio, groups: int = 1) -> Layout:
        """The layout `[spa | fre]` by alpha; grouped channels go to a branch by whole groups, rounded down.

        Example:
            >>> Layout.of_alpha(6, 0.3, groups=2).fre_channels, Layout.of_alpha(8, 0.7, groups=4).fre_channels
            (0, 4)
        """
        if groups == 1:
            return cls.split(channels, frequency_channels(channels, alpha))
        return cls.split(channels, frequency_channels(groups, alpha) * (channels // groups))

    @property
    def channels(self) -> int:
        """Channels of both branches."""
        return len(self.fre)

    @property
    def fre_channels(self) -> int:
        """Channels of the high-frequency branch."""
        return sum(self.fre)

    @property
    def order(self) -> tuple[int, ...]:
        """The vanilla channel at each position of `[spa | fre]`."""
        return tuple(sorted(range(self.channels), key=lambda c: self.fre[c]))

    @property
    def inverse(self) -> tuple[int, ...]:
        """The position in `[spa | fre]` of each vanilla channel."""
        order = self.order
        return tuple(sorted(range(self.channels), key=order.__getitem__))

    @property
    def is_split(self) -> bool:
        """Whether the vanilla order is `[spa | fre]` already."""
        return self.order == tuple(range(self.channels))

    def __add__(self, other: Layout) -> Layout:
        return Layout(self.fre + other.fre)

    @classmethod
    def concatenated(cls, layouts: Iterable[Layout]) -> Layout:
        """The layout of a concatenation."""
        return cls(tuple(chain.from_iterable(layout.fre for layout in layouts)))

    def of_groups(self, groups: int) -> tuple[bool, ...]:
        """For each group of channels, whether most of it is high-frequency."""
        size = self.channels // groups
        return tuple(2 * sum(self.fre[g * size : (g + 1) * size]) >= size for g in range(groups))

    @classmethod
    def from_groups(cls, groups: tuple[bool, ...], channels: int) -> Layout:
        """The layout in which each group is whole in one branch."""
        size = channels // len(groups)
        return cls(tuple(chain.from_iterable((is_fre,) * size for is_fre in groups)))
