"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary file that takes the place of `path` when the block ends without an error.

    It lies beside `path`, on the same file system, and its content is on the disk before the name is: after a
    kill, a full disk or a power cut `path` is the old file or the new one, never a part of either. What a
    killed process left beside it goes when `path` is written again.

    Args:
        path: The file to write or to replace; its folder exists.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_file(Path(folder) / "notes.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     print((Path(folder) / "notes.txt").read_text())
        whole
    """
    with _beside(path, lambda new: new.touch(exist_ok=False)) as temporary, naming(path):
        rights = temporary.stat().st_mode & 0o777  # that any new file of this process gets
        yield temporary
        temporary.chmod(rights)  # safetensors puts a new file in its place, for the owner alone
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Give a temporary folder on the file system of `path`, for what is made of several files.

    It goes at the end of the block; that of a killed process goes when another is asked for.

    Args:
        path: Where the outcome will be; its folder exists.
    """
    with _beside(path, Path.mkdir) as temporary:
        yield temporary


@contextmanager
def _beside(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Make something beside `path` for the time of the block, locked as long as its process lives."""
    temporary = path.with_name(f".{path.name}.new")
    lock = _lock(temporary)
    if lock is not None:  # a killed process left it
        _remove(temporary)
        os.close(lock)
    if temporary.exists():  # another process is writing the same
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        make(temporary)
    except OSError as error:  # about a file that nobody has heard of
        raise OSError(error.errno, error.strerror, str(path)) from error
    lock = _lock(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Lock a file or a folder; `None` where it is locked or missing, or the system has no such locks."""
    try:
        import fcntl

        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in errors of the system that name none: a full disk says "[Errno 28]" and no more.

    Args:
        path: What is being written in the block.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file in hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
