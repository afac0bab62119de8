"""A prepared folder between two runs: whose it is, what of it is done, and what a killed run left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from sficonv.datasets.manifest import MANIFEST_NAME
from sficonv.datasets.shards import SHARDS_NAME
from sficonv.datasets.source import SourceItem
from sficonv.errors import DataError
from sficonv.files import atomic_file
from sficonv.preparation.extract import Part, file_stamp, part_file, read_part, watch_file
from sficonv.preparation.forging import original_stem
from sficonv.preparation.report import PROBLEMS_NAME

_FORMAT = 2
_OPTIONS_NAME = "prepare.json"
_ANEW = "resume=False (--no-resume)"
_LOCK_NAME = ".prepare.lock"
_ATOMIC = (_OPTIONS_NAME, MANIFEST_NAME, PROBLEMS_NAME)


@contextmanager
def claimed(out: Path, options: dict[str, Any], resume: bool) -> Iterator[None]:
    """Make the folder ours, or see that it is and that nothing else was asked for when it was made.

    Until the block ends no other run can claim it. The lock is the operating system's and goes with its
    process, however that ends; the file `.prepare.lock` stays and means nothing by itself.

    Args:
        out: The folder; made if missing.
        options: All that decides what comes out.
        resume: False: empty the folder first.

    Raises:
        DataError: The folder is somebody else's, in use, of other options, or cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; name a folder to write to")
    unknown = (path for path in out.iterdir() if not _left_behind(path.name)) if out.is_dir() else ()
    if not (out / _OPTIONS_NAME).is_file() and any(True for _ in unknown):
        raise DataError(f"{out} is not empty and was not written by prepare; choose another folder")
    lock = filelock.FileLock(out / _LOCK_NAME, timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise DataError(
            f"{out}: another run of prepare is writing to this folder; wait until it is done, or choose "
            "another folder"
        ) from error
    except OSError as error:
        raise DataError(f"{out}: cannot be written to ({error})") from error
    try:
        _claim(out, options, resume)
        yield
    finally:
        lock.release()


def _claim(out: Path, options: dict[str, Any], resume: bool) -> None:
    file = out / _OPTIONS_NAME
    sweep(out)
    if file.is_file() and not resume:
        clear(out)
    if file.is_file():
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
            earlier = {"format": there["format"], **there["options"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}: damaged ({error}); start again with {_ANEW}") from error
        asked = json.loads(json.dumps({"format": _FORMAT, **options}))
        changed = [f"{k}: {earlier.get(k)!r} -> {v!r}" for k, v in asked.items() if earlier.get(k) != v]
        if changed:
            raise DataError(
                f"{out} was prepared with other options ({'; '.join(changed)}). Use the same options, "
                f"another folder, or start again with {_ANEW}"
            )
        return
    try:
        with atomic_file(file) as temporary:
            temporary.write_text(
                json.dumps({"format": _FORMAT, "options": options}, indent=2), encoding="utf-8"
            )
    except OSError as error:
        raise DataError(f"{out}: cannot be written to ({error})") from error


def clear(out: Path) -> None:
    """Remove all that `prepare`, `split` and `write_shards` have put into the folder."""
    shards = [path for path in out.glob(f"{SHARDS_NAME}*") if path.is_dir()]
    for folder in (out / "crops", out / "masks", out / ".parts", *shards):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (*out.glob("manifest*.parquet"), out / PROBLEMS_NAME, out / _OPTIONS_NAME):
        file.unlink(missing_ok=True)


def sweep(out: Path) -> None:
    """Remove what a run that was killed left: unfinished files, and the notes of its workers' watchdogs."""
    unfinished = [path for path in out.glob(".*") if _left_behind(path.name) and path.name != _LOCK_NAME]
    for file in (*unfinished, *out.glob(".parts/*/.*.json.*"), *out.glob(".parts/*/*.watch")):
        file.unlink(missing_ok=True)


def _left_behind(name: str) -> bool:
    """Whether this is one of our files, half written, or the lock of a run that came no further."""
    return name == _LOCK_NAME or any(name.startswith(f".{ours}.") for ours in _ATOMIC)


def finished(out: Path, name: str, item: SourceItem) -> Part | None:
    """The part of an item whose file has not changed and whose crops are all there, else `None`."""
    part = read_part(out, name)
    if part is None or part.stamp != file_stamp(item.path) or part.reason in ("failed", "crashed", "timeout"):
        return None
    sound = all(
        _is_of(item, crop) and all(file.is_file() for file in _files(out, crop)) for crop in part.crops
    )
    return part if sound else None


def _is_of(item: SourceItem, crop: dict[str, Any]) -> bool:
    """Files that came later may have changed the item's name, and its old one may now be another's."""
    image, video = f"crops/{item.name}", f"crops/{item.name}/{crop['frame']:06d}"
    stem = original_stem(crop["path"])
    return stem in (f"{image}_{crop['face']}", f"{video}_{crop['face']}")


def _files(out: Path, crop: dict[str, Any]) -> list[Path]:
    """The crop, and the mask of a forgery made here."""
    return [out / crop[key] for key in ("path", "mask") if crop.get(key)]


def forget(out: Path, name: str) -> None:
    """Remove what an outdated part left."""
    part = read_part(out, name)
    for crop in part.crops if part else []:
        for file in _files(out, crop):
            file.unlink(missing_ok=True)
    part_file(out, name).unlink(missing_ok=True)
    watch_file(out, name).unlink(missing_ok=True)
