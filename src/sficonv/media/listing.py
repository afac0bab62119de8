"""Which files below a folder are media, and which are passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sficonv.errors import MediaError
from sficonv.media.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_folder, media_format

_KNOWN = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_NAMED = 5


@dataclass(frozen=True)
class Listing:
    """What was found among files and folders.

    Attributes:
        files: The media files, in the order given, each once.
        skipped: Files below the folders that are no media, and hidden files and folders.
    """

    files: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)

    @property
    def note(self) -> str:
        """What was skipped, counted and the first of it named; "" for nothing.

        Example:
            >>> Listing([], [Path("a/notes.txt")]).note
            '1 file skipped (hidden, or neither an image nor a video): a/notes.txt'
        """
        if not self.skipped:
            return ""
        many = len(self.skipped)
        what = "1 file" if many == 1 else f"{many:,} files"
        names = ", ".join(map(str, self.skipped[:_NAMED]))
        more = f" and {many - _NAMED:,} more" if many > _NAMED else ""
        return f"{what} skipped (hidden, or neither an image nor a video): {names}{more}"


def why_skipped(path: Path) -> str:
    """Why a file in a folder is passed over.

    Example:
        >>> why_skipped(Path("a/.DS_Store")), why_skipped(Path("a/notes.txt"))
        ('hidden', 'neither an image nor a video')
    """
    return "hidden" if path.name.startswith(".") else "neither an image nor a video"


def list_media(paths: Iterable[str | Path]) -> Listing:
    """List the media files among files and folders, and what is passed over.

    Args:
        paths: Files and folders. A folder is searched to its end, links to folders included, in sorted
            order. Its files count by their content, whatever they are called; those with the suffix of an
            image or video always count, so that what is wrong with them is said when they are read. Hidden
            files are skipped. A file named explicitly is always kept, even if it does not exist, and so is a
            folder below that cannot be read.

    Returns:
        The files, and what was skipped.

    Raises:
        MediaError: One of the folders given cannot be read.

    Example:
        >>> list_media(["portrait.any"]).files
        [PosixPath('portrait.any')]
    """
    found: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    for path in map(Path, paths):
        if not is_folder(path):
            found[path] = None
            continue
        for file, is_media in _walk(_entries(path), {path.resolve()}):
            (found if is_media else skipped)[file] = None
    return Listing(list(found), list(skipped))


def _walk(entries: list[Path], seen: set[Path]) -> Iterator[tuple[Path, bool]]:
    """Files and whether they are media; folders are entered once, and given only if they cannot be."""
    for entry in entries:
        if entry.name.startswith("."):
            yield entry, False
            continue
        if not is_folder(entry):
            yield entry, looks_like_media(entry)
            continue
        real = entry.resolve()
        if real in seen:  # a link back to a parent folder, or to one that has been listed
            continue
        seen.add(real)
        try:
            below = _entries(entry)
        except MediaError:
            yield entry, True
        else:
            yield from _walk(below, seen)


def looks_like_media(path: Path) -> bool:
    """Whether a file has the suffix of an image or video, or the content of one."""
    if path.suffix.lower() in _KNOWN:
        return True
    try:
        media_format(path)
    except MediaError:
        return False
    return True


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise MediaError(f"{folder}: the folder cannot be read ({error})") from error
