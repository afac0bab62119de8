"""A progress bar for work on files: at a terminal on standard error, or below the cell of a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_progress(total: int, what: str) -> Iterator[Callable[[Path, float], None]]:
    """Show a bar over `total` files.

    Args:
        total: Number of files.
        what: What is being done, for example `"scanning"`.

    Yields:
        A function to call with a file and the share of it that is done, in [0, 1]; 1 completes the file.

    Example:
        >>> with file_progress(1, "scanning") as advance:
        ...     advance(Path("a.jpg"), 1.0)
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sficonv.pages import printable

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield lambda path, share: None
        return
    columns = (
        TextColumn(f"{what} {{task.description}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        done = 0

        def advance(path: Path, share: float) -> None:
            nonlocal done
            progress.update(task, completed=done + share, description=escape(printable(path.name)))
            if share >= 1:
                done += 1

        yield advance
