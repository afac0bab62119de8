"""Paths as they stand in somebody's list -> the files on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_TRIED = 400  # listed paths that are looked at before giving up


class Finder:
    """Finds listed files again where a list was written on another machine.

    A path may be absolute on a machine that is not this one, use backslashes, or be relative to any folder
    above the list. One shift (so many leading parts off, this folder in front) is worked out once from the
    first paths and then used for all, so that nothing is searched file by file.

    Args:
        paths: All listed paths.
        bases: Folders that they may be relative to, the likeliest first.
        exact: Relative paths are known to start at the first of these folders.
    """

    def __init__(self, paths: Sequence[str], bases: Sequence[Path], *, exact: bool = False) -> None:
        self.base, self.cut = bases[0], 0
        self._names: dict[Path, frozenset[str]] = {}
        listed = [_parts(text) for text in paths]
        one_folder = len({tuple(parts[:-1]) for parts in listed}) == 1
        for parts in listed[:: max(1, len(listed) // _TRIED)]:
            absolute = parts[0] == "/" or parts[0].endswith(":")
            # Equal file names in several folders are different files: a bare name decides nothing there.
            most = 0 if exact and not absolute else len(parts) - 1 - (not one_folder)
            shift = self._shift(parts, bases, most)
            if shift is not None:
                self.base, self.cut = shift
                break

    def path(self, text: str) -> Path:
        """Where a listed file should be."""
        parts = _parts(text)
        return self.base.joinpath(*(parts[self.cut :] or parts[-1:]))

    def exists(self, path: Path) -> bool:
        """Whether it is there; each folder is read once, whatever it holds."""
        if path.parent not in self._names:
            try:
                self._names[path.parent] = frozenset(entry.name for entry in path.parent.iterdir())
            except OSError:
                self._names[path.parent] = frozenset()
        return path.name in self._names[path.parent]

    def note(self) -> str:
        """How listed paths were read."""
        dropped = f", their first {self.cut} folders left out" if self.cut else ""
        return f"listed paths are read below {self.base}{dropped}"

    def _shift(self, parts: Sequence[str], bases: Sequence[Path], most: int) -> tuple[Path, int] | None:
        for cut in range(max(most, 0) + 1):
            # a bare file name, all that is left of a path, says nothing about folders far above the list
            bare = cut > 0 and cut == len(parts) - 1
            for base in bases[:1] if bare else bases:
                if base.joinpath(*parts[cut:]).exists():
                    return base, cut
        return None


def _parts(text: str) -> list[str]:
    r"""The parts of a path; C:\ and a leading / count as one."""
    text = text.strip().replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return ["/", *parts] if text.startswith("/") else parts or ["."]


def bases_of(file: Path, given: str | Path | None) -> list[Path]:
    """Where the paths of a list may start: what was said, else its folder and those above it."""
    if given is not None:
        return [Path(given)]
    folder = file.absolute().parent
    return [file.parent, *folder.parents[:3]]
