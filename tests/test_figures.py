"""What README, results page and model card say of the shipped detector is the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from sficonv.detect.options import ScanOptions
from sficonv.models import create_model
from sficonv.models.checkpoint import read_card
from sficonv.nn import complexity

ROOT = Path(__file__).parents[1]
SHIPPED = "shipped: written by benchmarks/publish_detector.py", "end of shipped"
EDITS = "edits: written by benchmarks/publish_detector.py", "end of edits"
MUTANTS = "mutants: written by benchmarks/mutation.py", "end of mutants"
CLAIM = "networks: written by benchmarks/claim_page.py", "end of networks"
ALARMS = "false alarms: written by benchmarks/publish_detector.py", "end of false alarms"


def rows(document: str, marks: tuple[str, str]) -> dict[str, list[str]]:
    """The rows of the first table between two marks: name and the other cells."""
    text = (ROOT / document).read_text(encoding="utf-8")
    start, end = (text.index(f"<!-- {mark} -->") for mark in marks)
    table: list[list[str]] = []
    for line in text[start:end].splitlines()[1:]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif table:
            break
    return {cells[0]: cells[1:] for cells in table[2:]}


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from numbers(entry)
    elif isinstance(value, int | float):
        yield float(value)


def said_by(cells: list[str], entry: dict[str, Any]) -> list[str]:
    """The figures of a row that its entry in the card does not hold, to the digits that are shown."""
    known = list(numbers(entry))
    strangers = []
    for text, digits, percent in re.findall(r"(\d+(?:\.(\d+))?)( ?%)?", " ".join(cells)):
        scale, half = (100 if percent else 1), 0.5 * 10.0 ** -len(digits)
        if not any(abs(number * scale - float(text)) <= half * (1 + 1e-6) for number in known):
            strangers.append(text)
    return strangers


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return read_card("default")


def test_the_readme_shows_rows_of_the_results_page():
    shown, measured = rows("README.md", SHIPPED), rows("docs/results.md", SHIPPED)
    assert shown
    assert {name: measured.get(name) for name in shown} == shown


@pytest.mark.parametrize(
    ("marks", "entry"), [(SHIPPED, "metrics"), (ALARMS, "false_alarms"), (EDITS, "benign")]
)
def test_the_results_page_shows_the_figures_of_the_card(card, marks, entry):
    shown = rows("docs/results.md", marks)
    assert shown.keys() == card[entry].keys()
    assert {name: said_by(cells, card[entry][name]) for name, cells in shown.items()} == dict.fromkeys(
        shown, []
    )


def test_a_wrong_figure_is_found():
    entry = {"items": 30, "called_fake": 0.1803, "called_fake_95": [0.1268, 0.2492]}
    assert said_by(["30", "18.0% [12.7%, 24.9%]"], entry) == []
    assert said_by(["31", "19.0% [12.7%, 24.9%]"], entry) == ["31", "19.0"]


def test_what_chose_the_detector_is_said_beside_its_figures():
    for document in ("README.md", "docs/results.md"):
        text = " ".join((ROOT / document).read_text(encoding="utf-8").split())
        assert re.search("chose .{0,20}weights and .{0,4}calibration.{0,40}too good", text), document


def test_the_sentences_of_the_card_use_its_own_figures(card):
    """A number stands in an entry of the data that its sentence names, or is an option's default."""
    sets = {*card["metrics"], *card["false_alarms"]}
    wrong = {}
    for sentence in card["limits"]:
        named = {name for name in sets if name in sentence}
        words = sentence
        for name in sorted(named, key=len, reverse=True):
            words = words.replace(name, "")
        entries = [card[key].get(name) for key in ("metrics", "false_alarms") for name in named]
        if strangers := said_by([words], {"entries": entries, "min_face": ScanOptions().min_face}):
            wrong[sentence] = strangers
    assert wrong == {}


def test_the_readme_states_what_sfic_resnet26_costs():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    cost = complexity(create_model("sfic_resnet26", alpha=0.5, beta=0.5))
    assert (
        f"SFIC-ResNet26 at alpha = 0.5, beta = 0.5 has {cost.params / 1e6:.2f} M parameters and "
        f"{cost.paper_macs / 1e9:.2f} GMac by the paper's rule; the same outputs cost "
        f"{cost.macs / 1e9:.2f} GMac"
    ) in text


@pytest.mark.parametrize(("run", "networks"), [("", 4), ("lite0", 2)])
def test_the_page_of_the_claim_shows_what_the_raw_rows_give(run, networks):
    suffix = f", {run}" if run else ""
    table = rows("docs/claim.md", (CLAIM[0].replace(":", f"{suffix}:"), CLAIM[1] + suffix))
    file = "_".join(filter(None, ("claim", run, "scores.parquet")))
    scores = pd.read_parquet(ROOT / "benchmarks" / "measured" / file)
    dfdc = scores[scores["dataset"] == "dfdc"]
    assert len(table) == networks
    for network, cells in table.items():
        seeds = [name for name in dfdc if name.rpartition("|")[0] == network]
        assert len(seeds) == 3
        aucs = [roc_auc_score(dfdc["label"], dfdc[name]) for name in seeds]  # one crop a video
        mean, low, high = (float(x) for x in re.findall(r"0\.\d+", cells[0]))
        assert (mean, low, high) == pytest.approx((sum(aucs) / 3, min(aucs), max(aucs)), abs=6e-4)


def test_every_change_of_the_code_that_no_test_noticed_has_its_reason():
    table = rows("CONTRIBUTING.md", MUTANTS)
    tried = pd.read_csv(ROOT / "benchmarks" / "measured" / "mutation.csv", keep_default_na=False)
    survived = tried["outcome"] == "survived"
    assert not list(tried[survived & (tried["why"] == "")]["before"])
    for module, mutants in tried.groupby("module"):
        same = int((mutants["outcome"] == "survived").sum())
        assert table.pop(f"`{module}`") == [str(n) for n in (len(mutants), len(mutants) - same, same, 0)]
    assert not table


@pytest.mark.parametrize(
    "script",
    sorted(
        {
            name
            for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
            for name in re.findall(r"<!-- .*: written by (benchmarks/\w+\.py) -->", page.read_text("utf-8"))
        }
        - {"benchmarks/model_table.py"}  # it counts, and measures nothing
    ),
)
def test_every_table_of_the_docs_has_its_raw_rows(script):
    source = (ROOT / script).read_text(encoding="utf-8")
    kept = re.findall(r'keep_rows\(\s*"(\w+)"', source)
    named = {f"{name}.csv" for name in kept} | set(re.findall(r"\w+\.(?:csv|jsonl|parquet)", source))
    measured = {path.name for path in (ROOT / "benchmarks" / "measured").iterdir()}
    assert named & measured
    assert measured >= {f"{name}.csv" for name in kept}
