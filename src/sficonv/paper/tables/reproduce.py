"""`reproduce`: one of the paper's tables, beside the figures of this library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sficonv.errors import DataError, SficonvError
from sficonv.paper.tables.budget import PAPER_SEEDS, Budget, Precision
from sficonv.paper.tables.complexity import complexity_table
from sficonv.paper.tables.data import Prepared, ProtocolName
from sficonv.paper.tables.plan import Plan, estimate, make_plan
from sficonv.paper.tables.recipe import TABLE_NAMES, load_table
from sficonv.paper.tables.result import Cell, State, TableResult
from sficonv.paper.tables.run import device_of, is_trained, run_training
from sficonv.training import Recipe

TABLES = ("complexity", *TABLE_NAMES)
"""What can be reproduced."""

Key = tuple[str, str]
"""Of a cell: the keys of its row and its column."""
Runs = dict[Key, tuple[dict[str, Any], ...]]


def reproduce(
    table: str = "complexity",
    *,
    data: str | Path | None = None,
    cells: str | Sequence[str] | None = None,
    protocol: ProtocolName = "paper",
    seeds: str | Sequence[int] = PAPER_SEEDS,
    out: str | Path = "runs/tables",
    dry_run: bool = False,
    skip_missing: bool = False,
    recipe: Literal["paper", "finetune"] = "paper",
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    lr: float | None = None,
    sampling: Literal["shuffle", "balanced"] | None = None,
    frames: int | None = None,
    pretrained: bool = False,
    precision: Precision = "32-true",
    split_seed: int = 7,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    bootstrap: int = 1000,
    accelerator: str = "auto",
    workers: int | None = None,
) -> Any:
    """Reproduce one of the paper's tables.

    "complexity" counts parameters and FLOPs; nothing is trained. The others train every network of the table
    on prepared faces and test it, as in the paper unless the options say otherwise; each departure is stated
    above the table. What is done is not done again, also for another table that needs the same training; a
    run that was killed continues. What is missing is named for all cells before anything is trained.

    Args:
        table: "complexity", or "table2" to "table9".
        data: Folder that holds the prepared folders by name: ffpp (both compressions), celebdf, dfdc, hff.
        cells: Shell patterns, separated by commas, for the cells to run: of a network (sfic_resnet26*), of a
            column (c23), or of both (vgg13/c40). Default: all.
        protocol: "paper": frames divided at random, as in the paper; leaky, compare with its figures only.
            "official": the published splits. "identity": a split of our own in which no person is on two
            sides, for parts of data sets that lack an official split.
        seeds: Seeds of the training, separated by commas; with several, the table shows mean and standard
            deviation.
        out: Folder of all runs and tables.
        dry_run: Show what would be trained, on what, and for how long; train nothing.
        skip_missing: Run what can be run although data is missing. Cells that were selected are run anyhow.
        recipe: "paper" or "finetune".
        epochs, batch_size, lr: Override the recipe.
        sampling: "shuffle": each image once; "balanced": real and fake alike. Default: the recipe's; but
            balanced where the protocol is not the paper's, which has as many real as fake images.
        steps_per_epoch: Batches of an epoch. Default: every image once.
        image_size: Side of the input in pixels. Default: each network's own (256; F3-Net 299).
        frames: Crops of a video that are validated and tested on, at most. Default: all.
        pretrained: Start from ImageNet weights where there are any; the paper starts from scratch.
        precision: "32-true", "bf16-mixed" or "16-mixed".
        split_seed: Seed of what the protocol draws; the same for all seeds of the training.
        fractions: For "identity": of train, val and test.
        bootstrap: Resamplings of the test videos for the intervals; 0 for none.
        accelerator: As in `lightning.pytorch.Trainer`.
        workers: Loader processes; they do not change the result.

    Returns:
        The table: the printed figures, ours, the difference and the interval; with `dry_run` the plan. The
        table is written to `out` too, after every training, as Markdown, JSON and HTML.

    Raises:
        ValueError: If there is no such table or cell, or an argument is out of range.
        DataError: If data is missing; the message lists what.

    Example:
        >>> reproduce("complexity").rows[0].network  # doctest: +SKIP
        'ResNet26'
        >>> reproduce("table3", data="prepared", protocol="official")  # doctest: +SKIP
    """
    if table == "complexity":
        return complexity_table()
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}; there are {', '.join(TABLES)}")
    if data is None:
        raise ValueError(f"{table} needs --data, a folder that holds the prepared folders by name")
    if frames is not None and frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    if sampling is None and protocol != "paper":
        sampling = "balanced"
    budget = Budget(
        Recipe.named(
            recipe, epochs=epochs, batch_size=batch_size, lr=lr, image_size=image_size, sampling=sampling
        ),
        steps_per_epoch,
        precision,
        pretrained,
    )
    prepared = Prepared(Path(data), protocol, split_seed, frames, fractions)
    plan = make_plan(load_table(table), prepared, budget, _seeds(seeds), _words(cells))
    if dry_run:
        done = {(t.folder, s) for t in plan.trainings for s in plan.seeds if is_trained(t, s, Path(out))}
        return estimate(replace(plan, finished=frozenset(done)), device_of(accelerator))
    if plan.problems and not (skip_missing or cells):
        listed = "; ".join(f"({n}) {problem}" for n, problem in enumerate(plan.problems, start=1))
        raise DataError(
            f"{table}: data is missing in {data}, and nothing was trained. skip_missing (--skip-missing) "
            f"runs what can be run. Missing: {listed}"
        )
    return _run(plan, Path(out), bootstrap=bootstrap, accelerator=accelerator, workers=workers)


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


def _seeds(seeds: str | Sequence[int]) -> tuple[int, ...]:
    try:
        found = tuple(int(seed) for seed in (seeds.split(",") if isinstance(seeds, str) else seeds))
    except ValueError:
        raise ValueError(f"seeds must be whole numbers separated by commas, got {seeds!r}") from None
    if not found or len(set(found)) < len(found):
        raise ValueError(f"seeds must be given, each once; got {seeds!r}")
    return found
