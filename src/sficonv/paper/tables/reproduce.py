"""`reproduce`: one of the paper's tables, beside the figures of this library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sficonv.errors import DataError, SficonvError
from sficonv.paper.tables.complexity import complexity_table
from sficonv.paper.tables.data import Prepared
from sficonv.paper.tables.duration import estimate
from sficonv.paper.tables.figures import Cell, State
from sficonv.paper.tables.options import ReproduceOptions
from sficonv.paper.tables.plan import Plan, make_plan
from sficonv.paper.tables.recipe import TABLE_NAMES, load_table
from sficonv.paper.tables.result import TableResult
from sficonv.paper.tables.run import device_of, is_trained, run_training

TABLES = ("complexity", *TABLE_NAMES)
"""What can be reproduced."""

Key = tuple[str, str]
"""Of a cell: the keys of its row and its column."""
Runs = dict[Key, tuple[dict[str, Any], ...]]


def reproduce(
    table: str = "complexity",
    options: ReproduceOptions = ReproduceOptions(),  # noqa: B008 (frozen)
    *,
    data: str | Path | None = None,
    cells: str | Sequence[str] | None = None,
    out: str | Path = "runs/tables",
    dry_run: bool = False,
    skip_missing: bool = False,
) -> Any:
    """Reproduce one of the paper's tables.

    "complexity" counts parameters and FLOPs; nothing is trained. The others train every network of the table
    on prepared faces and test it, as in the paper unless the options say otherwise; each departure is stated
    above the table. A finished training is not run again, even for another table that needs it; a killed one
    continues. What is missing is named before anything is trained.

    Args:
        table: "complexity", or "table2" to "table9".
        options: Splits, budget and machine of every training.
        data: Folder that holds the prepared folders by name: ffpp (both compressions), celebdf, dfdc, hff.
        cells: Shell patterns, separated by commas, for the cells to run: of a network (sfic_resnet26*), of a
            column (c23), or of both (vgg13/c40). Default: all.
        out: Folder of all runs and tables.
        dry_run: Show what would be trained, on what, and for how long; train nothing.
        skip_missing: Run the cells whose data is there, instead of stopping. Choosing `cells` implies it.

    Returns:
        The table: the printed figures, ours, the difference and the interval; with `dry_run` the plan. The
        table is written to `out` too, after every training, as Markdown, JSON and HTML.

    Raises:
        ValueError: If there is no such table or cell, or an argument is out of range.
        DataError: If data is missing; the message lists what.

    Example:
        >>> reproduce("complexity").rows[0].network  # doctest: +SKIP
        'ResNet26'
        >>> reproduce("table3", ReproduceOptions(protocol="official"), data="prepared")  # doctest: +SKIP
    """
    if table == "complexity":
        return complexity_table()
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}; there are {', '.join(TABLES)}")
    if data is None:
        raise ValueError(f"{table} needs --data, a folder that holds the prepared folders by name")
    prepared = Prepared(Path(data), options.protocol, options.split_seed, options.frames, options.fractions)
    plan = make_plan(load_table(table), prepared, options.budget(), options.seed_numbers, _words(cells))
    if dry_run:
        done = {(t.folder, s) for t in plan.trainings for s in plan.seeds if is_trained(t, s, Path(out))}
        return estimate(replace(plan, finished=frozenset(done)), device_of(options.accelerator))
    if plan.problems and not (skip_missing or cells):
        listed = "; ".join(f"({n}) {problem}" for n, problem in enumerate(plan.problems, start=1))
        raise DataError(
            f"{table}: data is missing in {data}, and nothing was trained. skip_missing (--skip-missing) "
            f"runs what can be run. Missing: {listed}"
        )
    machine = {name: getattr(options, name) for name in ("bootstrap", "accelerator", "workers")}
    return _run(plan, Path(out), **machine)


def _run(plan: Plan, out: Path, **options: Any) -> TableResult:
    """Run all trainings; the table is written after each."""
    runs: Runs = {}
    failures: dict[Key, str] = {}
    result = as_table(plan, runs, failures).save(out / plan.table.name)
    for seed in plan.seeds:
        for training in plan.trainings:
            keys = [(training.row.key, column.key) for column, _ in training.tests]
            try:
                found = run_training(training, seed, out.resolve(), **options)
            except (SficonvError, OSError, RuntimeError, ValueError) as error:  # others are not lost with it
                failures |= dict.fromkeys(keys, f"seed {seed}: {error}")
            else:
                for key in keys:
                    runs[key] = (*runs.get(key, ()), found[key[1]])
            result = as_table(plan, runs, failures).save(out / plan.table.name)
    return result


def as_table(plan: Plan, runs: Runs, failures: dict[Key, str]) -> TableResult:
    """All cells of a table, with what is known of each.

    Args:
        plan: What was to be done.
        runs: What is done: for each cell one run for each seed.
        failures: Why the others failed.
    """
    chosen = {(row.key, column.key) for row, column in plan.chosen}
    cells = []
    for row in plan.table.rows:
        for column in plan.table.columns:
            key = (row.key, column.key)
            state: State = "waiting"
            if key not in chosen:
                state = "not selected"
            elif key in plan.missing:
                state = "missing"
            elif key in failures:
                state = "failed"
            elif key in runs:
                state = "done"
            reason = plan.missing.get(key) or failures.get(key) or ""
            cells.append(Cell(row, column, state, reason, runs.get(key, ()) if state == "done" else ()))
    return TableResult(plan, tuple(cells))


def _words(cells: str | Sequence[str] | None) -> tuple[str, ...]:
    words = cells.split(",") if isinstance(cells, str) else cells or ()
    return tuple(word.strip() for word in words)
