"""`reproduce complexity`: every printed figure is met, or the table says why not."""

import io
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from rich.console import Console

from sficonv.cli.app import main
from sficonv.models import list_models
from sficonv.paper.tables import reproduce
from sficonv.paper.tables.complexity import ComplexityTable, _compared


@pytest.fixture(scope="module")
def table():
    return reproduce("complexity")


def row(table, number, network, **options):
    (found,) = (
        r
        for r in table.rows
        if (r.table, r.network) == (number, network) and options.items() <= r.options.items()
    )
    return found


def test_all_printed_rows_are_there(table):
    numbers = [r.table for r in table.rows]
    assert {n: numbers.count(n) for n in numbers} == {"II": 13, "III": 14, "V": 12}


def test_each_model_exists(table):
    assert {r.model for r in table.rows} <= set(list_models())


DIFFERENT = {  # from the printed figure: parameters, FLOPs
    ("III", "SFIC-MobileNet"): ("same", "-0.61 %"),
    ("III", "ResNet101"): ("-0.01 %", "same"),
    ("III", "VGGNet16"): ("-0.04 %", "same"),
    ("III", "SFIC-VGGNet16"): ("-0.06 %", "same"),
    ("III", "SFIC-VGGNet19"): ("-0.04 %", "same"),
    ("V", "Multi-task"): ("same", "-9.28 %"),
    ("V", "Multi-task with its decoder"): ("same", "+129.51 %"),
    ("V", "F3-Net"): ("same", "-0.16 %"),
    ("V", "AMTENnet"): ("same", "-6.35 %"),
    ("V", "M2TR"): ("", ""),
}


def test_every_row_is_as_far_from_the_printed_figure_as_is_said(table):
    """All others come out to the printed digit."""
    found = {
        (r.table, r.network, *r.options.values()): (
            _compared(r.paper_params, r.params), _compared(r.paper_flops, r.flops)
        )
        for r in table.rows
    }  # fmt: skip
    assert len(found) == len(table.rows)
    for key, differences in found.items():
        assert differences == DIFFERENT.get(key[:2], ("same", "same")), key


def test_a_large_difference_has_its_reason_beside_it(table):
    for r in table.rows:
        if r.paper_flops.startswith(">"):  # printed as a lower bound
            assert r.params > 20.81e6
            assert r.flops > 6.00e9
        elif abs(r.flops_difference) > 2e-3:  # more than the printed digits leave open
            assert r.reason, r


def test_the_readme_says_how_many_rows_come_out():
    text = " ".join((Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8").split())
    off = set(DIFFERENT) - {("V", "Multi-task with its decoder"), ("V", "M2TR")}
    printed = 13 + 14 + 11
    assert f"{printed - len(off) - 1} of the {printed} rows" in text
    for words in ("0.06 %", "SFIC-MobileNet 0.6 %", "F3-Net 0.2 %", "AMTENnet 6.4 %", "Multi-task 9.3 %"):
        assert words in text


@pytest.mark.parametrize(
    ("alpha", "beta", "macs"),
    [(0.25, 0.25, 2.472), (0.5, 0.5, 2.103), (0.5, 0.75, 2.513), (0.75, 0.25, 1.241), (0.75, 0.75, 2.226)],
)
def test_table_ii(table, alpha, beta, macs):
    found = row(table, "II", "SFIC-ResNet26", alpha=alpha, beta=beta)
    assert round(found.flops / 1e9, 3) == macs
    assert found.macs < found.flops


def test_multitask_is_counted_as_it_runs_and_as_it_trains(table):
    verdict, training = row(table, "V", "Multi-task"), row(table, "V", "Multi-task with its decoder")
    assert (verdict.params, training.params) == (304_949, 304_949)
    assert [round(r.flops / 1e6, 1) for r in (verdict, training)] == [132.4, 335.1]
    assert "146M" in verdict.reason


def test_same_means_as_printed():
    assert _compared("28.52K", 28_525) == "same"
    assert _compared("42.51M", 42_504_258) == "-0.01 %"
    assert _compared("761M", 761_333_762) == "same"
    assert _compared("146M", 132_448_256) == "-9.28 %"
    assert _compared(">6.00G", 7_000_000_000) == ""
    assert _compared("6.00G", None) == ""


def test_summary_shows_figures_reasons_and_what_is_missing(table):
    missing = replace(table.rows[0], params=None, flops=None, macs=None, reason="not built")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(ComplexityTable((*table.rows, missing)).summary())
    text = console.export_text()
    for words in ("Table V", "28.525K", "132.448M", "not here", "ResNet26: not built", "575M"):
        assert words in text


def test_command_line_prints_json(table, capsys, monkeypatch):
    monkeypatch.setattr(import_module("sficonv.paper.tables.reproduce"), "complexity_table", lambda: table)
    assert main(["reproduce", "complexity", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == len(table.rows)
    assert f"{rows[0]['flops'] / 1e9:.2f}G" == rows[0]["paper_flops"] == "3.08G"
    assert f"{rows[0]['params'] / 1e6:.2f}M" == rows[0]["paper_params"] == "13.95M"


def test_unknown_table_is_bad_usage(capsys):
    assert main(["reproduce", "table1"]) == 2
    assert "unknown table 'table1'; there are complexity" in capsys.readouterr().err
