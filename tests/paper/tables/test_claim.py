"""The paper's own claim, counted from its own rows."""

import pytest

from sficonv.paper.tables.claim import count_claim, printed
from sficonv.paper.tables.recipe import Row, load_table


@pytest.mark.parametrize(
    ("table", "column", "baseline", "count"),
    [
        ("table3", "c23", "vanilla", "7 of 7, +5.5"),
        ("table3", "c40", "vanilla", "7 of 7, +5.5"),
        ("table4", "df", "best", "3 of 5, -1.7"),
        ("table4", "ff", "best", "2 of 5, -3.9"),
        ("table4", "fs", "best", "1 of 5, -3.2"),
        ("table6", "c23-c40", "best", "4 of 5, +3.9"),
        ("table6", "c40-c23", "best", "4 of 5, +3.2"),
    ],
)
def test_the_paper_is_compared_with_its_own_baseline(table, column, baseline, count):
    table = load_table(table)
    (chosen,) = (c for c in table.columns if c.key == column)
    found = count_claim(table.rows, printed(chosen))
    assert str(found) == count
    assert baseline in found.baseline


def test_each_set_of_figures_has_a_best_network_of_its_own():
    rows = [Row(name, name, {}, {}) for name in ("xception", "f3net", "sfic_vgg13")]
    ours = {"xception": 60.0, "f3net": 70.0, "sfic_vgg13": 65.0}
    paper = {"xception": 90.0, "f3net": 80.0, "sfic_vgg13": 85.0}
    assert count_claim(rows, lambda row: ours[row.key]).gains == (-5.0,)
    assert count_claim(rows, lambda row: paper[row.key]).gains == (-5.0,)
    assert count_claim(rows[:2], lambda row: ours[row.key]) is None
