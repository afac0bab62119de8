"""What has to be trained and tested for a table, and what is missing for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from sficonv.datasets.clips import tracks_of
from sficonv.models import ModelConfig, create_model
from sficonv.models.registry import has_pretrained
from sficonv.nn import complexity
from sficonv.paper.tables.budget import PAPER_SEEDS, Budget
from sficonv.paper.tables.data import Prepared, Selection, slug
from sficonv.paper.tables.recipe import Column, PaperTable, Row
from sficonv.splits.leaks import find_leaks
from sficonv.training.recipes import Recipe

if TYPE_CHECKING:
    from rich.console import Group


PAPER_SIZE = 256
_CROPS = (
    "The crops are not the paper's: faces are found by YuNet and cut at a margin of 1.3 where `prepare` was "
    "not told otherwise (the paper: the boxes of the Face Recognition library, no background), and a video "
    "has fewer crops than N_frames where no face is found in some of its frames."
)


@dataclass(frozen=True)
class Network:
    """What a network takes and costs.

    Args:
        image_size: Side of its input in pixels.
        frames: Images of an item: crops have one, clips more.
        macs: Multiply-accumulates for one image.
        own_size: Whether it cannot take the size that was asked for and keeps its own.
    """

    image_size: int
    frames: int
    macs: int
    own_size: bool


@dataclass(frozen=True)
class Training:
    """One network trained on one data set; tested on all the data sets of the columns that share it.

    Args:
        row: The network.
        data: The crops to train and validate on.
        tests: The columns it serves, and their crops.
        budget: What it is given; the image size, and what this network does otherwise, are filled in.
        network: What the network takes and costs.
    """

    row: Row
    data: Selection
    tests: tuple[tuple[Column, Selection], ...]
    budget: Budget
    network: Network

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
        """Batches of one training: enough to draw each crop, track or (for pairs) real face once an epoch."""
        rows = self.data.rows[self.data.rows["split"] == "train"]
        if self.network.frames > 1:
            return self.budget.steps(len(tracks_of(rows)))
        pairs = bool(self.budget.recipe.self_blend)
        return self.budget.steps(2 * int((rows["label"] == 0).sum()) if pairs else len(rows))


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
        lacks: What is missing from data that can be used nevertheless, and the data sets.
        statements: What the splits mean, departures from the paper, remarks.
        warnings: Leaks and too little data.
        finished: Folder and seed of the trainings that are there.
        seconds: Estimated time of a training with its tests by its folder; empty where not estimated.
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
    finished: frozenset[tuple[str, int]] = frozenset()
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
        return found + [f"{lack}; cells can be run without" for lack in self.lacks]

    def summary(self) -> Group:
        """The plan for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown = Table("network", "trained on", "tested on", "px", "steps", "about", title=self.title)
        used: dict[str, None] = {}
        for t in self.trainings:
            used[f"{t.data.of.name}: {t.data.count('train')}; {t.data.count('val')}"] = None
            used |= {f"{data.of.name}: {data.count('test')}": None for _, data in t.tests}
            tests = ", ".join(data.of.name for _, data in t.tests)
            size = f"{t.budget.recipe.image_size}{' (its own)' if t.network.own_size else ''}"
            time = _duration(self.seconds[t.folder]) if t.folder in self.seconds else ""
            shown.add_row(t.row.key, t.data.of.name, tests, size, str(t.steps), time)
        every = [(t.folder, seed) for t in self.trainings for seed in self.seeds]
        left = [folder for folder, seed in every if (folder, seed) not in self.finished]
        tested = sum(len(t.tests) for t in self.trainings)
        lines = [
            f"{len(every)} trainings (seeds {', '.join(map(str, self.seeds))}) for {tested} of "
            f"{len(self.chosen)} cells; {len(every) - len(left)} of them are finished",
            *used,
        ]
        if self.seconds:
            lines.append(
                f"the others take about {_duration(sum(self.seconds[folder] for folder in left))} on this "
                "machine as it is now: a rough figure, from the operations of each network and the time that "
                "one small network takes. Networks of many thin layers, and those whose loss runs them "
                "several times (DCL, LTW, MADD), take longer; reading the crops is not counted"
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
                    "finished_seeds": [seed for seed in self.seeds if (t.folder, seed) in self.finished],
                    "estimated_seconds": self.seconds.get(t.folder),
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
    chosen = table.cells(patterns)
    missing: dict[tuple[str, str], str] = {}
    tests: dict[tuple[str, str], list[tuple[Column, Selection]]] = {}
    rows = {row.key: row for row, _ in chosen}
    seen: dict[tuple[str, str], Selection] = {}
    used: dict[tuple[str, str], Selection] = {}
    leaks: dict[tuple[str, str], list[str]] = {}
    for row, column in chosen:
        data, test = prepared.training(column.train), prepared.test(column.test)
        seen |= {("train", data.of.name): data, ("test", test.of.name): test}
        if problem := data.problem or test.problem:
            missing[row.key, column.key] = problem
            continue
        used |= {("train", data.of.name): data, ("test", test.of.name): test}
        tests.setdefault((row.key, data.of.name), []).append((column, test))
        pair = (data.of.name, test.of.name)
        if pair not in leaks:
            leaks[pair] = [finding.text for finding in find_leaks(_together(data, test)) if finding.serious]
    networks = {key: _network(rows[key], budget.recipe.image_size) for key, _ in tests}
    trainings = []
    for (row_key, data_name), served in tests.items():
        row, network = rows[row_key], networks[row_key]
        recipe = Recipe.named(budget.recipe, image_size=network.image_size, **row.recipe)
        sized = replace(budget, recipe=recipe, pretrained=budget.pretrained and has_pretrained(row.model))
        trainings.append(Training(row, used["train", data_name], tuple(served), sized, network))
    lacks = _grouped((f"{s.of.folder}: {lack}", s.of.name) for s in seen.values() for lack in s.lacks)
    leaked = _grouped((text, f"{a} to {b}") for (a, b), texts in leaks.items() for text in texts)
    cautions = _grouped((text, s.of.name) for s in used.values() for text in s.cautions)
    return Plan(
        table,
        budget,
        tuple(seeds),
        tuple(chosen),
        tuple(trainings),
        missing,
        lacks,
        tuple(_statements(table, prepared, budget, seeds, trainings, used)),
        (*leaked, *cautions),
    )


def _grouped(findings: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Each finding once, with all that it is about."""
    about: dict[str, dict[str, None]] = {}
    for finding, name in findings:
        about.setdefault(finding, {})[name] = None
    return tuple(f"{finding} ({', '.join(names)})" for finding, names in about.items())


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
    protocols: dict[str, dict[str, None]] = {}
    for selection in used.values():
        protocols.setdefault(str(selection.protocol), {})[selection.of.name] = None
    found = [f"Splits of {', '.join(names)}: {text.rstrip('.')}." for text, names in protocols.items()]
    if prepared.protocol != "paper":
        found.append(
            "The splits are not the paper's, which divides images at random and so tests on faces seen in "
            "training: the printed figures stand beside ours for orientation only."
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
        recipe = training.budget.recipe
        own = recipe.image_size
        changed = [
            f"{name} {value:g}"
            for name, value in training.row.recipe.items()
            if value != getattr(budget.recipe, name)
        ]
        if changed:
            found.append(f"{training.row.network} is trained with {', '.join(changed)}.")
        if training.budget.pretrained != budget.pretrained:
            found.append(f"There are no ImageNet weights of {training.row.network}: it starts from scratch.")
        if budget.recipe.image_size is None and own != PAPER_SIZE:
            found.append(f"{training.row.network} is given its own {own} px (the paper: {PAPER_SIZE} px).")
        if training.network.own_size:
            found.append(
                f"{training.row.network} does not take {budget.recipe.image_size} px and is given its own "
                f"{training.budget.recipe.image_size} px."
            )
    return list(dict.fromkeys([*found, _CROPS, *table.remarks]))


def _network(row: Row, wanted: int | None) -> Network:
    """A network at the wanted size, or at its own where it cannot take that; nothing is run for real."""
    for size in dict.fromkeys((wanted, None)):
        try:
            with torch.device("meta"):
                model = create_model(row.model, image_size=size, **row.options)
            config: ModelConfig = model.config  # type: ignore[assignment]
            side = config.image_size
            return Network(side, config.frames, complexity(model, side).macs, size != wanted)
        except (ValueError, RuntimeError):
            if size is None:
                raise
    raise AssertionError("a network takes its own size")


def _duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> _duration(40), _duration(600), _duration(7200)
        ('40 s', '10 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
