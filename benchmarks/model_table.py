"""Parameters and multiply-accumulates of every built-in detector: writes the table in docs/models.md.

    python benchmarks/model_table.py

Nothing is run, the counts are those of `sficonv complexity`; it needs no data. Rows that are in the table are
kept: delete one to count it again.
"""

from __future__ import annotations

import re
from pathlib import Path

from document import write_between
from sficonv.models import create_model, list_models
from sficonv.models.config import ModelConfig
from sficonv.nn import complexity

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
MARKS = ("<!-- models: written by benchmarks/model_table.py -->", "<!-- end of models -->")


def row(name: str) -> str:
    """One line of the table; `sfic_*` at their defaults and with a smaller high-frequency branch."""
    model = create_model(name)
    config = model.config
    assert isinstance(config, ModelConfig)
    side = config.image_size
    full = complexity(model, side)
    half = ""
    if name.startswith("sfic_"):
        half = f"{complexity(create_model(name, beta=0.5), side).macs / 1e9:.2f}"
    clip = f", clips of {config.frames}" if getattr(config, "frames", 1) > 1 else ""
    return f"| `{name}` | {side}{clip} | {full.params / 1e6:.2f} | {full.macs / 1e9:.2f} | {half} |"


def written() -> str:
    """The table as it stands in the document."""
    _, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(MARKS[0])
    return rest.partition(MARKS[1])[0]


def main() -> None:
    """Count what is missing, then write."""
    known = {line.split("`")[1]: line for line in re.findall(r"^\| `.*", written(), re.MULTILINE)}
    lines = [
        "| model | input (px) | parameters (M) | MACs (G) | at beta = 0.5 |",
        "|---|---|---|---|---|",
        *(known.get(name) or row(name) for name in list_models()),
    ]
    write_between(DOCUMENT, MARKS, lines)


if __name__ == "__main__":
    main()
