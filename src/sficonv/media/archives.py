"""Face sequences inside tar archives, read in place: nothing is ever unpacked next to the data."""

from __future__ import annotations

import gzip
import math
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from sficonv.errors import MediaError
from sficonv.media.images import read_image
from sficonv.media.kinds import IMAGE_SUFFIXES
from sficonv.media.video import Frame

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")

_MOST_MEMBERS = 500_000
_LARGEST_MEMBER = 64 * 2**20
_LARGEST_RATIO = 100  # images are compressed already: an archive of them hardly shrinks
_FREE_OF_RATIO = 64 * 2**20  # headers and padding of many tiny files do shrink
_SLACK = 2**20


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive by its name.

    Example:
        >>> is_archive(Path("fake_train/7.tar.gz"))
        True
    """
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def list_archive(path: Path) -> tuple[list[str], str]:
    """Name the images in a tar archive, without reading them.

    Members that could do harm or make no sense are left out: absolute names, names with `..`, links and
    devices.

    Args:
        path: A `.tar`, `.tar.gz` or `.tgz` file.

    Returns:
        The names in the order of the archive, and what is wrong with it in plain words ("" if nothing): of a
        damaged or truncated archive the names before the damage are given.

    Raises:
        MediaError: It cannot be opened, or grows so much when unpacked that it looks like an attack.
    """
    names: list[str] = []
    refused: list[str] = []
    try:
        with _members(path) as members:
            for member in members:
                if PurePosixPath(member.name).suffix.lower() not in IMAGE_SUFFIXES:
                    continue
                (names if member.isreg() and _is_safe(member.name) else refused).append(member.name)
    except _DAMAGES as error:
        return names, f"{path}: damaged or truncated after {len(names)} images ({error or 'no data'})"
    if refused:
        return (
            names,
            f"{path}: {len(refused)} members with unsafe names or of odd kinds left out: {refused[0]!r}",
        )
    return names, ""


def read_archive(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Frame]]:
    """Read some images of a tar archive in one pass.

    Args:
        path: A `.tar`, `.tar.gz` or `.tgz` file.
        names: Names of members, as `list_archive` gives them.

    Yields:
        Name and image, in the order of the archive; the frame's `index` is the last number in the name and
        its `time` is NaN.

    Raises:
        MediaError: The archive is damaged before all of them were found, or one is no image.
    """
    wanted = set(names)
    try:
        with _members(path) as members, tempfile.TemporaryDirectory(prefix="sficonv-") as folder:
            for member in members:
                if member.name not in wanted or not member.isreg():
                    continue
                wanted.discard(member.name)
                data = members.archive.extractfile(member)
                file = Path(folder, "member" + PurePosixPath(member.name).suffix)
                file.write_bytes(data.read() if data is not None else b"")
                try:
                    image = read_image(file)
                except MediaError as error:
                    reason = str(error).partition(": ")[2]
                    raise MediaError(f"{path}: {member.name}: {reason}") from error
                yield member.name, Frame(frame_number(member.name), math.nan, image)
                if not wanted:
                    return
    except _DAMAGES as error:
        raise MediaError(f"{path}: damaged or truncated ({error or 'no data'})") from error
    if wanted:
        raise MediaError(f"{path}: {len(wanted)} images are not in the archive any more: {min(wanted)}")


def frame_number(name: str) -> int:
    """The last number in a file name without its suffix, 0 if there is none.

    Example:
        >>> frame_number("1/real/103/frame_0042.png")
        42
    """
    digits = re.findall(r"\d+", PurePosixPath(name).stem)
    return int(digits[-1][-9:]) if digits else 0


_DAMAGES = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error)


def _is_safe(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return not name.startswith(("/", "\\")) and ".." not in parts and ":" not in parts[0]


class _Members:
    """The members of an archive one after the other, each given a bounded amount of data."""

    def __init__(self, path: Path, stream: _Bounded, archive: tarfile.TarFile) -> None:
        self.path, self.stream, self.archive = path, stream, archive

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        for _ in range(_MOST_MEMBERS):
            self.stream.left = _LARGEST_MEMBER + _SLACK
            member = self.archive.next()
            if member is None:
                self._check_end()
                return
            self.archive.members = []  # type: ignore[attr-defined]  # else it remembers every one
            if member.size > _LARGEST_MEMBER:
                size = f"{member.size / 2**20:,.0f} MB"
                raise MediaError(f"{self.path}: {member.name} has {size}; that is no face image")
            yield member
        raise MediaError(f"{self.path}: more than {_MOST_MEMBERS:,} members; is this a dataset archive?")

    def _check_end(self) -> None:
        """tarfile takes any damage behind the first member for the end; the true end is a block of zeros."""
        start = self.archive.offset - (self.stream.position - len(self.stream.last))
        block = self.stream.last[start : start + tarfile.BLOCKSIZE] if start >= 0 else b""
        if len(block) < tarfile.BLOCKSIZE or any(block):
            raise tarfile.ReadError("the end is missing")


class _Readable(Protocol):
    def read(self, n: int, /) -> bytes: ...


class _Bounded:
    """A stream that stops an archive from growing without end while it is unpacked."""

    def __init__(self, path: Path, stream: _Readable, size: int) -> None:
        self.path, self.stream = path, stream
        self.left = _SLACK
        self.position, self.last = 0, b""
        self.total_left = _FREE_OF_RATIO + _LARGEST_RATIO * size

    def read(self, n: int) -> bytes:
        try:
            data = self.stream.read(n)
        except gzip.BadGzipFile:
            raise
        except OSError as error:
            raise MediaError(f"{self.path}: cannot be read ({error})") from error
        if data:
            self.position, self.last = self.position + len(data), data
        self.left -= len(data)
        self.total_left -= len(data)
        if self.left < 0 or self.total_left < 0:
            raise MediaError(f"{self.path}: unpacks to far more than its size; refused (a damaged archive?)")
        return data


@contextmanager
def _members(path: Path) -> Iterator[_Members]:
    try:
        raw, size = path.open("rb"), path.stat().st_size
    except OSError as error:
        raise MediaError(f"{path}: cannot be opened ({error})") from error
    with raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Bounded(path, gzip.GzipFile(fileobj=raw) if zipped else raw, size)
        # "r|": forward only, never back, whatever the archive says.
        with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
            yield _Members(path, stream, archive)
