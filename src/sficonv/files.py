"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary file that takes the place of `path` when the block ends without an error.

    It lies beside `path`, on the same file system, and its content is on the disk before the name is: after a
    kill, a full disk or a power cut `path` is the old file or the new one, never a part of either.

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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.touch(exist_ok=False)
    rights = temporary.stat().st_mode & 0o777  # that any new file of this process gets
    try:
        with naming(path):
            yield temporary
            temporary.chmod(rights)  # safetensors puts a new file in its place, for the owner alone
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
