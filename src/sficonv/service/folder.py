"""The folder of the service: closed to other users of the machine, and open to one service at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import filelock

from sficonv.errors import SficonvError


@dataclass(frozen=True)
class Places:
    """Where things lie in the folder of a service.

    Args:
        folder: The folder.

    Example:
        >>> Places(Path("jobs")).upload("0a1b").as_posix()
        'jobs/uploads/0a1b'
    """

    folder: Path

    @property
    def database(self) -> Path:
        """The jobs."""
        return self.folder / "jobs.sqlite"

    @property
    def uploads(self) -> Path:
        """What was handed in and is not judged yet."""
        return self.folder / "uploads"

    @property
    def reports(self) -> Path:
        """What came out."""
        return self.folder / "reports"

    def upload(self, id: str) -> Path:
        """The uploaded file of a job."""
        return self.uploads / id

    def report(self, id: str) -> Path:
        """The report of a job."""
        return self.reports / f"{id}.html"


class Claim:
    """The right to use a folder; it ends with the process, however that ends.

    Args:
        places: The folder, made if it is missing.

    Raises:
        SficonvError: The folder is in use by another service, somebody else's, open to other users and not
            the service's own, or cannot be written to.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = filelock.FileLock(
            places.folder / ".service.lock", timeout=0, mode=0o600, thread_local=False
        )
        self.renew()

    def renew(self) -> None:
        """Take the folder, again if somebody removed it, and close what lies in it to other users."""
        places = self._places
        try:
            _close(places.folder, places)
            if not Path(self._lock.lock_file).exists():  # what we hold is a lock on a file that is gone
                self._lock.release(force=True)
            if not self._lock.is_locked:
                self._lock.acquire()
            for folder in (places.uploads, places.reports):
                _close(folder, places)
            databases = places.folder.glob(f"{places.database.stem}*.sqlite*")
            for file in (*databases, *places.uploads.iterdir(), *places.reports.iterdir()):
                file.chmod(0o600)
        except filelock.Timeout as error:
            raise SficonvError(
                f"{places.folder}: another service is using this folder; stop it, or choose another folder "
                "with --folder"
            ) from error
        except OSError as error:
            raise SficonvError(f"{places.folder}: cannot be the folder of the service ({error})") from error

    def end(self) -> None:
        """Let another service have the folder."""
        self._lock.release(force=True)


def _close(folder: Path, places: Places) -> None:
    """Make a folder that only this user may enter; one that is somebody's and open stays as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name != "posix":
        return
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise SficonvError(f"{folder} belongs to another user; choose a folder of your own with --folder")
    if not found.st_mode & 0o077:
        return
    # where others may write, what looks like the service's own files may have been put there by them
    own = places.database.is_file() and not found.st_mode & 0o022
    if not own and any(folder.iterdir()):
        raise SficonvError(
            f"{folder}: other users of this machine may read this folder, and there are files in it that are "
            f"not the service's; choose a new folder with --folder, or close it: chmod 700 {folder}"
        )
    folder.chmod(0o700)
