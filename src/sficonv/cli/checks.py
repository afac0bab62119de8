"""What can be said of the options before anything is loaded: files that are missing, extras not installed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sficonv.cli.describe import models
from sficonv.cli.verbs import Verb
from sficonv.errors import EMPTY_PATH, DataError, MediaError, WeightsError
from sficonv.extras import require


def check(verb: Verb, given: Mapping[str, Any]) -> None:
    """Refuse what cannot work.

    Args:
        verb: The verb.
        given: Its options.

    Raises:
        SficonvError: If none of the files given for an argument exists, or the data was not prepared.
        MissingPackage: If an extra is missing.
        ValueError: If there is no model of that name.

    Example:
        >>> check(Verb("", "", "", reads=("data",)), {"data": "https://a.org/faces"})
        Traceback (most recent call last):
        ...
        sficonv.errors.MediaError: https://a.org/faces: sficonv does not download: save it to a file first
    """
    for name in verb.reads:
        wrong = {text: _why_unreadable(text) for text in _texts(given.get(name))}
        if wrong and all(wrong.values()):  # where some are there, the verb reports the others one by one
            raise MediaError("; ".join(str(reason) for reason in wrong.values()))
    for name in verb.weights:
        for text in _texts(given.get(name)):
            if not _is_repository(text) and (reason := _why_unreadable(text)):
                raise WeightsError(reason)
    for name in verb.models:
        known = models()
        if given[name] is not None and given[name] not in known:
            near = get_close_matches(given[name], known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "'sficonv models' lists them"
            raise ValueError(f"there is no model {given[name]!r}; {hint}")
    for need in verb.needs:
        condition, _, extra = need.rpartition(": ")
        option, _, value = condition.partition("=")
        if condition and not fnmatch(str(given.get(option)), value):
            continue
        what = f"--{option.replace('_', '-')} {given[option]}" if condition else "this verb"
        require(extra, what=what)
    for text in _texts(given.get("data")) if verb.prepared else ():
        folder = Path(text)
        if folder.is_dir() and not any(p.suffix in (".parquet", ".tar") for p in folder.iterdir()):
            raise DataError(
                f"{folder}: no manifest.parquet in it; prepare the data first: "
                f"sficonv prepare SOURCE --out {folder}"
            )


def _texts(given: Any) -> Iterator[str]:
    """The paths among the values of an option."""
    for value in given if isinstance(given, list | tuple) else [given]:
        if isinstance(value, str | Path):
            yield str(value)


def _is_repository(text: str) -> bool:
    """`default`, or what can be a repository of the Hugging Face Hub."""
    return text == "default" or (re.fullmatch(r"[\w-]+/[\w-]+(@[\w./-]+)?", text) is not None)


def _why_unreadable(text: str) -> str | None:
    if not text:
        return EMPTY_PATH
    if Path(text).exists():
        return None
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text):
        return f"{text}: sficonv does not download: save it to a file first"
    if text == "-":
        return "-: sficonv does not read standard input: save it to a file first"
    folder = Path(text).parent
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return f"{text}: no such file or folder"
    near = get_close_matches(Path(text).name, names, n=1)
    return f"{text}: no such file or folder" + (f"; did you mean {folder / near[0]}?" if near else "")
