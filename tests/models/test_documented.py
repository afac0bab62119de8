"""The parameters and FLOPs in docs/detectors.md are those of the models (test_every_model.py counts them)."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from sficonv.models import list_models

PAGE = (Path(__file__).parents[2] / "docs" / "detectors.md").read_text(encoding="utf-8")
EXPECTED = yaml.safe_load(Path(__file__).with_name("every_model.yaml").read_text(encoding="utf-8"))
UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}


def table(head):
    """The rows of the table of that head, by the first name in each."""
    _, _, rest = PAGE.partition(head)
    rows = [line.strip("| ").split(" | ") for line in rest.partition("\n\n")[0].splitlines()[2:]]
    return {re.findall(r"`(\w+)`", row[0])[0]: [cell.strip() for cell in row] for row in rows}


COUNTS = table("| name | parameters | FLOPs (paper's rule)")
STATED = table("| name | here | stated | difference |")


def number(text):
    """ "5.91G per frame" is 5.91e9, give or take half a unit of its last digit."""
    value, unit = re.match(r">?(?:about )?([\d.,]+)([KMG]?)", text).groups()
    scale, digits = UNITS.get(unit, 1), len(value.partition(".")[2])
    return pytest.approx(float(value.replace(",", "")) * scale, abs=0.501 * scale / 10**digits)


def rivals():
    """The registered models that live among the rivals; SFIC forms count as theirs."""
    homes = Path(__file__).parents[2] / "src" / "sficonv" / "models" / "rivals"
    built = {
        name for file in homes.glob("*.py") for name in re.findall(r"^def (\w+)\(", file.read_text(), re.M)
    }
    return built & set(list_models())


def test_every_comparison_detector_is_in_the_table():
    assert rivals() <= COUNTS.keys()
    assert STATED.keys() <= COUNTS.keys()


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_the_model(name):
    _, parameters, flops, size, *_ = COUNTS[name]
    assert int(re.match(r"\d+", size).group()) == EXPECTED[name].get("image_size", 256)
    assert EXPECTED[name]["params"] == number(parameters)
    assert EXPECTED[name]["paper_macs"] == number(flops)


@pytest.mark.parametrize("name", STATED)
def test_a_difference_from_what_is_stated_has_a_reason(name):
    _, here, stated, difference = STATED[name]
    assert EXPECTED[name]["params"] == number(here)
    assert (EXPECTED[name]["params"] == number(stated)) == (difference == "none")
    assert difference


def test_what_the_paper_prints_is_quoted_right():
    recipes = files("sficonv.paper.tables") / "recipes" / "complexity.yaml"
    printed = {
        row["model"]: row["params"]
        for part in yaml.safe_load(recipes.read_text(encoding="utf-8"))
        for row in part["rows"]
        if part["table"] == "V"
    }
    stated = {name: row[2] for name, row in STATED.items() if "(paper)" in "".join(row)}
    quoted = {name: text.removesuffix(" (paper)") for name, text in stated.items()}
    assert quoted == {name: printed[name] for name in quoted}
    assert quoted.keys() == {name for name in printed if name in rivals() | {"xception"}}
