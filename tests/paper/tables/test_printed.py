"""Every figure that the paper prints, against its text where that is at hand and against a hash where not."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from sficonv.paper.tables import complexity
from sficonv.paper.tables.recipe import TABLE_NAMES, load_table

PINNED = {
    "table2": "fe385e1026838724",
    "table3": "2274ad26f5839bbd",
    "table4": "ea61dd7ab6609bcb",
    "table5": "fb8d31dfc0dcca6f",
    "table6": "750927782d72070f",
    "table7": "3f0db6d958702e39",
    "table8": "126d1a0d8a0d9f8f",
    "table9": "acb422bb90d6c379",
}
COMPLEXITY = "c88e2ac3654822b3"
NETWORKS = "a49b96bfccdbba19"
RECIPES = Path(complexity.__file__).parent / "recipes"


def figures(name: str) -> list[list[str]]:
    """The figures of each row as printed, in the paper's order."""
    digits = 1 if name == "table9" else 2
    return [
        [f"{value:.{digits}f}" for pair in row.paper.values() for value in pair if value is not None]
        for row in load_table(name).rows
    ]


def complexity_figures() -> list[list[str]]:
    text = (RECIPES / "complexity.yaml").read_text(encoding="utf-8")
    return [[table["table"], row["network"], row["params"], row["flops"]]
            for table in yaml.safe_load(text) for row in table["rows"]]  # fmt: skip


def digest(rows: list[list[str]]) -> str:
    return hashlib.sha256("\n".join(" ".join(row) for row in rows).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_no_printed_figure_changes_unseen(name):
    assert digest(figures(name)) == PINNED[name]


def test_no_printed_parameter_or_flop_changes_unseen():
    assert digest(complexity_figures()) == COMPLEXITY


def networks() -> list[list[object]]:
    """What each row of each table is here: network, model and its options (alpha, beta, ...)."""
    rows = []
    for file in sorted(RECIPES.glob("*.yaml")):
        tables = yaml.safe_load(file.read_text(encoding="utf-8"))
        for table in tables if isinstance(tables, list) else [tables]:
            for row in table.get("rows", []):
                rows.append([file.stem, row["network"], row.get("model"), row.get("options", {})])
    return rows


def test_no_row_becomes_another_network_unseen():
    found = networks()
    assert len(found) == 150
    assert hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16] == NETWORKS


@pytest.fixture(scope="module")
def paper(shared) -> list[list[str]]:
    """The numbers of each line of the paper that has a row of a table."""
    text = (shared / "paper" / "sficonv_paper.txt").read_text(encoding="utf-8")
    start, end = text.index("TABLE II:"), text.index("Fig. 5:", text.index("LDFnet [16]\t"))
    lines = text[start:end].splitlines()
    return [re.findall(r"\d+\.\d+", re.sub(r"(?<=\t)(\d\d) (\d\d)\b", r"\1.\2", line)) for line in lines]


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_every_printed_figure_is_in_the_text_of_the_paper(name, paper):
    """Row by row in the order of the paper, so that two rows cannot change places."""
    at = 0
    for row in figures(name):
        found = next((i for i in range(at, len(paper)) if paper[i][-len(row) :] == row), None)
        assert found is not None, f"{name}: {row} is no row after line {at} of the tables"
        at = found + 1
