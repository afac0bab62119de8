"""A reproduced table that shows itself in a terminal and writes itself to files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sficonv.files import atomic_file
from sficonv.paper.tables.figures import TableFigures
from sficonv.paper.tables.render import html, markdown, terminal

if TYPE_CHECKING:
    from rich.console import Group


class TableResult(TableFigures):
    """What `reproduce` returns; see `TableFigures` for what it holds."""

    def summary(self) -> Group:
        """The table for a terminal (a rich renderable)."""
        return terminal(self)

    def save(self, folder: Path) -> TableResult:
        """Write `table.json`, `table.md` and `table.html` into a folder; returns the result naming them."""
        folder.mkdir(parents=True, exist_ok=True)
        saved = replace(self, files={kind: folder / f"table.{kind}" for kind in ("md", "html", "json")})
        texts = {
            "md": markdown(saved),
            "html": html(saved),
            "json": json.dumps(saved.to_dict(), indent=2) + "\n",
        }
        for kind, file in saved.files.items():
            with atomic_file(file) as temporary:
                temporary.write_text(texts[kind], encoding="utf-8")
        return saved
