"""The errors a person can act on.

Every message says which file or argument, what is wrong with it, and what to do. The command line
prints them without a traceback and exits with 1.
"""

from __future__ import annotations

from collections.abc import Sequence

EMPTY_PATH = "an empty path names no file; '.' is the folder you are in"


class SficonvError(Exception):
    """Base class of everything sficonv raises on purpose about its inputs."""


class MediaError(SficonvError):
    """An image or video that cannot be read: missing, empty, truncated, too large, not media."""


class DataError(SficonvError):
    """A prepared dataset, manifest or split that cannot be used as asked."""


class WeightsError(SficonvError):
    """A weights file or model card that cannot be loaded safely or does not fit the model."""


class MissingPackage(SficonvError, ImportError):
    """A package of an extra that is not installed; the message names the extra."""


def first_few(names: Sequence[object], most: int = 3) -> str:
    """The first of many names, and how many more there are, for a message.

    Example:
        >>> first_few(["a.png", "b.png", "c.png"], most=2)
        'a.png, b.png and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
