"""What has to be trained and tested for a table, what is missing for it, and how long it may take."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from sficonv.data.leaks import find_leaks
from sficonv.experiments.budget import PAPER_SEEDS, Budget
from sficonv.experiments.data import Prepared, Selection, slug
from sficonv.experiments.recipe import Column, PaperTable, Row
from sficonv.models import create_model
from sficonv.models.losses import training_losses

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Training:
    """One network trained on one data set; tested on all the data sets of the columns that share it.

    Args:
        row: The network.
        data: The crops to train and validate on.
        tests: The columns it serves, and their crops.
        budget: What it is given; the image size is filled in.
        own_size: Whether the network cannot take the size that was asked for and keeps its own.
    """

    row: Row
    data: Selection
    tests: tuple[tuple[Column, Selection], ...]
    budget: Budget
    own_size: bool = False

    @property
    def folder(self) -> str:
        """Name of its folder: the same for every table and test that needs the same training."""
        key = {
            "model": self.row.model,
            "options": self.row.options,
            "data": self.data.hash,
            "protocol": str(self.data.protocol),
            **self.budget.identity(),
        }
        stamp = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.row.key}-on-{slug(self.data.of.name)}-{stamp}"

    @property
    def steps(self) -> int:
        """Batches of one training."""
        return self.budget.steps(int((self.data.rows["split"] == "train").sum()))


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Args:
        table: The table.
        budget: What every training is given.
        seeds: One training each.
        chosen: The cells asked for.
        trainings: In the order in which they run.
        missing: Why a cell cannot be run, by the keys of its row and column.
        lacks: What is missing from data that can be used nevertheless.
        statements: What the splits mean, departures from the paper, remarks.
        warnings: Leaks and too little data.
        seconds: Estimated time of each training with its tests; empty where not estimated.
    """

    table: PaperTable
    budget: Budget
    seeds: tuple[int, ...]
    chosen: tuple[tuple[Row, Column], ...]
    trainings: tuple[Training, ...]
    missing: dict[tuple[str, str], str]
    lacks: tuple[str, ...]
    statements: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """All that is missing, each thing once with the cells it concerns."""
        reasons: dict[str, list[str]] = {}
        for (row, column), reason in self.missing.items():
            reasons.setdefault(reason, []).append(f"{row}/{column}")
        found = [
            f"{reason}; so {len(cells)} {'cells' if len(cells) > 1 else 'cell'} cannot be run: "
            + ", ".join(cells[:3])
            + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
            for reason, cells in reasons.items()
        ]
        return found + [f"{lack}; cells are run without" for lack in self.lacks]

    def summary(self) -> Group:
        """The plan for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown = Table("network", "trained on", "tested on", "px", "steps", title=self.title)
        if self.seconds:
            shown.add_column("about", justify="right")
        for t in self.trainings:
            tests = ", ".join(f"{column.title} ({data.count('test')})" for column, data in t.tests)
            trained = f"{t.data.of.name}: {t.data.count('train')}; {t.data.count('val')}"
            size = f"{t.budget.recipe.image_size}{' (its own)' if t.own_size else ''}"
            cells = [t.row.key, trained, tests, size, str(t.steps)]
            shown.add_row(*cells, *([_duration(self.seconds[t.folder])] if self.seconds else []))
        count = len(self.trainings) * len(self.seeds)
        tested = sum(len(t.tests) for t in self.trainings)
        lines = [f"{count} trainings ({len(self.seeds)} seeds), {tested} of {len(self.chosen)} cells"]
        if self.seconds:
            total = _duration(sum(self.seconds.values()) * len(self.seeds))
            lines[0] += f"; about {total} on this machine as it is now"
            lines.append(
                "an estimate: one training step of each network was timed on a few images and multiplied; "
                "reading crops comes on top, and a test is taken as a third of a training step"
            )
        parts = [Text(line) for line in (*lines, *self.statements)]
        parts += [Text(f"MISSING: {problem}", style="bold red") for problem in self.problems]
        parts += [Text(f"WARNING: {warning}", style="yellow") for warning in self.warnings]
        return Group(shown, *parts)

    @property
    def title(self) -> str:
        """Of the table."""
        return f"Table {self.table.number}: {self.table.title}"

    def to_dict(self) -> dict[str, Any]:
        """The plan for programs."""
        return {
            "table": self.table.name,
            "budget": str(self.budget),
            "seeds": list(self.seeds),
            "cells": [f"{row.key}/{column.key}" for row, column in self.chosen],
            "trainings": [
                {
                    "folder": t.folder,
                    "row": t.row.key,
                    "train": t.data.of.name,
                    "tests": [column.key for column, _ in t.tests],
                    "image_size": t.budget.recipe.image_size,
                    "steps": t.steps,
                    "seconds": self.seconds.get(t.folder),
                }
                for t in self.trainings
            ],
            "missing": self.problems,
            "statements": list(self.statements),
            "warnings": list(self.warnings),
        }


def make_plan(
    table: PaperTable,
    prepared: Prepared,
    budget: Budget,
    seeds: Sequence[int],
    patterns: tuple[str, ...] = (),
) -> Plan:
    """Find out what a table needs; nothing is trained or written.

    Args:
        table: The table.
        prepared: The data.
        budget: What every training is given.
        seeds: One training each.
        patterns: Which cells, see `PaperTable.cells`; none: all.

    Raises:
        ValueError: A pattern matches nothing, or the budget does not fit a network.
    """
    chosen = [(row, column) for row, column in table.cells(patterns) if not row.quoted]
    missing: dict[tuple[str, str], str] = {}
    tests: dict[tuple[str, str], list[tuple[Column, Selection]]] = {}
    rows = {row.key: row for row, _ in chosen}
    used: dict[tuple[str, str], Selection] = {}
    leaks: dict[tuple[str, str], list[str]] = {}
    for row, column in chosen:
        data, test = prepared.training(column.train), prepared.test(column.test)
        if problem := data.problem or test.problem:
            missing[row.key, column.key] = problem
            continue
        used |= {("train", data.of.name): data, ("test", test.of.name): test}
        tests.setdefault((row.key, data.of.name), []).append((column, test))
        pair = (data.of.name, test.of.name)
        if pair not in leaks:
            leaks[pair] = [finding.text for finding in find_leaks(_together(data, test)) if finding.serious]
    trainings = []
    for (row_key, data_name), served in tests.items():
        size, own = _image_size(rows[row_key], budget.recipe.image_size)
        sized = Budget(budget.recipe.override(image_size=size), *list(budget.options().values())[1:])
        trainings.append(Training(rows[row_key], used["train", data_name], tuple(served), sized, own))
    lacks = {f"{s.folder}: {lack} in {s.of.name}": None for s in used.values() for lack in s.lacks}
    leaked = {f"{a} to {b}: {text}": None for (a, b), texts in leaks.items() for text in texts}
    cautions = {f"{s.of.name}: {text}": None for s in used.values() for text in s.cautions}
    return Plan(
        table,
        budget,
        tuple(seeds),
        tuple(chosen),
        tuple(trainings),
        missing,
        tuple(lacks),
        tuple(_statements(table, prepared, budget, seeds, trainings, used)),
        (*leaked, *cautions),
    )


def _together(data: Selection, test: Selection) -> pd.DataFrame:
    return pd.concat([data.rows, test.rows], ignore_index=True)


def _statements(
    table: PaperTable,
    prepared: Prepared,
    budget: Budget,
    seeds: Sequence[int],
    trainings: Sequence[Training],
    used: dict[tuple[str, str], Selection],
) -> list[str]:
    protocols = list(dict.fromkeys(str(selection.protocol) for selection in used.values()))
    found = [f"Splits: {text}" for text in protocols]
    if prepared.protocol != "paper":
        found.append(
            f"The splits are not the paper's, which divides images at random: its figures are not comparable "
            f"with those of the protocol {prepared.protocol!r}."
        )
    found.append(f"Budget: {budget}. The epoch with the best AUC over validation videos is tested.")
    departures = budget.departures()
    if prepared.frames is not None:
        departures.append(f"at most {prepared.frames} crops of a video are validated and tested on")
    if tuple(seeds) != PAPER_SEEDS:
        departures.append(f"seeds {', '.join(map(str, seeds))} (the paper: 7)")
    if departures:
        found.append(f"Unlike the paper: {'; '.join(departures)}.")
    for training in trainings:
        if training.own_size:
            found.append(
                f"{training.row.network} does not take {budget.recipe.image_size} px and is given its own "
                f"{training.budget.recipe.image_size} px."
            )
    return list(dict.fromkeys([*found, *table.remarks]))


def _image_size(row: Row, wanted: int | None) -> tuple[int, bool]:
    """The size to train at, and whether it is the network's own because it cannot take the wanted one."""
    for size in dict.fromkeys((wanted, None)):
        try:
            with torch.device("meta"):
                model = create_model(row.model, image_size=size, **row.options)
                side: int = model.config.image_size  # type: ignore[union-attr, assignment]
                model.eval()(torch.zeros(1, 3, side, side))
        except (ValueError, RuntimeError):
            if size is None:
                raise
            continue
        return side, size is None and wanted is not None
    raise AssertionError("a network takes its own size")


def estimate(plan: Plan, device: str) -> Plan:
    """The plan with the time of each training, measured on a few images.

    Args:
        plan: The plan.
        device: `"cpu"`, `"cuda"`, ...
    """
    per_image: dict[tuple[str, int], float] = {}
    seconds = {}
    for training in plan.trainings:
        recipe = training.budget.recipe
        size: int = recipe.image_size  # type: ignore[assignment]
        key = (training.row.key, size)
        if key not in per_image:
            few = recipe.batch_size if device != "cpu" else min(4, recipe.batch_size)
            per_image[key] = _step_seconds(training.row, size, few, device) / few
        judged = recipe.epochs * int((training.data.rows["split"] == "val").sum())
        judged += sum(len(test.rows) for _, test in training.tests)
        seconds[training.folder] = per_image[key] * (training.steps * recipe.batch_size + judged / 3)
    return Plan(**{**plan.__dict__, "seconds": seconds})


def _step_seconds(row: Row, size: int, images: int, device: str) -> float:
    """The faster of two training steps, after one to warm up."""
    model = create_model(row.model, image_size=size, **row.options).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    x = torch.randn(images, 3, size, size, device=device)
    labels = torch.arange(images, device=device) % 2
    times = []
    for _ in range(3):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.stack(list(training_losses(model, x, labels).values())).sum().backward()
        optimizer.step()
        if device != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> _duration(40), _duration(600), _duration(7200)
        ('40 s', '10 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
