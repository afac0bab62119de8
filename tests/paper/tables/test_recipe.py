"""The YAML files of the tables: complete, as printed, and buildable."""

import pytest
import torch

from sficonv.models import create_model
from sficonv.paper.tables.recipe import TABLE_NAMES, load_table

SHAPES = {  # rows, columns of the paper, trainings' networks
    "table2": ("II", 13, 2),
    "table3": ("III", 14, 2),
    "table4": ("IV", 11, 4),
    "table5": ("V", 11, 4),
    "table6": ("VI", 11, 6),
    "table7": ("VII", 18, 1),
    "table8": ("VIII", 18, 1),
    "table9": ("IX", 15, 1),
}


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_a_table_is_as_large_as_in_the_paper(name):
    table = load_table(name)
    columns = [column for column in table.columns if not column.extra]
    assert (table.number, len(table.rows), len(columns)) == SHAPES[name]
    for row in table.rows:
        for auc, bacc in row.paper.values():
            assert 40 < auc < 100
            assert (bacc is None) == (name == "table9")
            assert bacc is None or 40 < bacc < 100


def test_every_network_can_be_built():
    rows = {row.key: row for name in TABLE_NAMES for row in load_table(name).rows}
    assert len(rows) > 40
    for row in rows.values():
        with torch.device("meta"):
            config = create_model(row.model, **row.options).config
        assert row.options.items() <= config.options.items(), row


@pytest.mark.parametrize(
    ("name", "cell", "figures"),
    [
        ("table2", "sfic_resnet26-alpha0.75-beta0.5/c40", (88.99, 81.53)),
        ("table3", "vgg19/c23", (94.25, 90.00)),
        ("table4", "sfic_vgg13-alpha0.75-beta0.75/nt", (68.93, 52.02)),
        ("table4", "f3net-modefad/fs", (41.70, 41.70)),
        ("table5", "sfic_resnet26-alpha0.25-beta1.0/dfdc", (97.44, 91.24)),
        ("table5", "multitask/hff", (95.29, 95.29)),
        ("table6", "sfic_resnet26-alpha0.25-beta1.0/c23-c40", (87.74, 75.89)),
        ("table6", "meso_inception4-variantport/c40-c23", (75.68, 68.21)),
        ("table7", "sfic_resnet101-alpha0.25-beta0.75/celebdf", (68.96, 60.78)),
        ("table8", "sfic_vgg16-alpha0.25-beta1.0/celebdf", (70.95, 64.47)),
        ("table9", "sfic_vgg16-alpha0.25-beta1.0/celebdf", (71.0, None)),
    ],
)
def test_printed_figures(name, cell, figures):
    ((row, column),) = load_table(name).cells((cell,))
    assert row.paper[column.key] == figures


def test_the_same_network_has_the_same_figure_in_every_table():
    """The paper prints some trainings in several tables."""
    printed = {}
    for name in TABLE_NAMES[:-1]:
        table = load_table(name)
        for row, column in table.cells():
            key = (row.key, column.train.name, column.test.name)
            assert printed.setdefault(key, row.paper[column.key]) == row.paper[column.key], (name, key)


def test_reported_figures_name_their_source_and_their_detector_can_be_run():
    reported = [row for row in load_table("table9").rows if row.reported]
    assert len(reported) == 13
    assert (reported[7].network, reported[7].reported, reported[7].model) == (
        "SPSL [49]",
        "CVPR 2021",
        "spsl",
    )
    assert len({row.model for row in reported}) == 13


def test_trained_without_what_is_tested():
    for _, column in load_table("table4").cells():
        (left_out,) = column.test.methods
        assert left_out not in column.train.methods
        assert len(column.train.methods) == 3


def test_cells_are_chosen_by_patterns():
    table = load_table("table6")
    assert len(table.cells()) == 66
    assert len(table.cells(("c23-c40", "c40-c23"))) == 22
    assert len(table.cells(("sfic_vgg13*/c23-*",))) == 9
    assert len(table.cells(("c23-celebdf",))) == 11  # not in the paper: only by name
    assert len(table.cells(("xception",))) == 6
    with pytest.raises(ValueError, match="no cell 'resnet'; there are .*xception"):
        table.cells(("resnet",))


def test_unknown_tables_are_refused():
    with pytest.raises(ValueError, match="there are table2, table3"):
        load_table("table10")
