"""Parameters and FLOPs of the paper's Tables II, III and V: as printed, by its counting rule, in truth."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor, nn

from sficonv.models import create_model, list_models
from sficonv.models.losses import training_losses
from sficonv.nn import Complexity, complexity

if TYPE_CHECKING:
    from rich.console import Group

_UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class ComplexityRow:
    """One network.

    Args:
        table: Number of the paper's table.
        network: As the paper calls it.
        model: As `create_model` calls it.
        options: Its options.
        paper_params, paper_flops: As printed; a ">" before a figure makes it a lower bound.
        params: Ours; `None` where this version has no such model.
        flops: Ours, by the paper's counting rule.
        macs: The multiply-accumulates of convolutions and matrix products that really run.
        image_size: Side of the input in pixels.
        params_difference, flops_difference: Of ours from the printed figure, as a share of it; `None` where
            the paper gives a lower bound.
        reason: Why a figure cannot be reached, and other remarks.
    """

    table: str
    network: str
    model: str
    options: dict[str, Any]
    paper_params: str
    paper_flops: str
    params: int | None
    flops: int | None
    macs: int | None
    image_size: int | None
    params_difference: float | None
    flops_difference: float | None
    reason: str


@dataclass(frozen=True)
class ComplexityTable:
    """The rows of the tables, in the paper's order."""

    rows: tuple[ComplexityRow, ...]

    def summary(self) -> Group:
        """Tables for a terminal (a rich renderable)."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[Any] = []
        for number in dict.fromkeys(row.table for row in self.rows):
            shown = Table(title=f"Table {number}")
            for column in ("network", "options", "params: paper", "ours", "diff.", "FLOPs: paper"):
                shown.add_column(column)
            for column in ("ours (paper's rule)", "diff.", "ours (true)"):
                shown.add_column(column)
            remarks = []
            for row in self.rows:
                if row.table == number:
                    shown.add_row(*_cells(row))
                    if row.reason:
                        remarks.append(Text(f"{row.network}: {row.reason}", style="dim"))
            parts += [shown, *remarks]
        rule = (
            "FLOPs are multiply-accumulates for one image. The paper's rule adds biases, normalisation, "
            "activation and pooling, and counts eq. (8) as it is written: convolve, then resize. The true "
            "count is that of the convolutions and matrix products that really run."
        )
        return Group(*parts, Text(rule))


def complexity_table() -> ComplexityTable:
    """Count every network of the paper's Tables II, III and V.

    The models are built without storage, so nothing is computed and little memory is needed.

    Returns:
        A row for each printed one. Detectors that are not registered have no figures of ours.

    Example:
        >>> complexity_table().rows[0].network  # doctest: +SKIP
        'ResNet26'
    """
    text = (files("sficonv.paper.tables") / "recipes" / "complexity.yaml").read_text(encoding="utf-8")
    counted: dict[str, Complexity | None] = {}
    rows = []
    for table in yaml.safe_load(text):
        for given in table["rows"]:
            key = repr([given.get(name) for name in ("model", "options", "training")])
            if key not in counted:
                counted[key] = _count(given)
            rows.append(_row(table["table"], given, counted[key]))
    return ComplexityTable(tuple(rows))


class _AsTrained(nn.Module):
    """A detector whose forward pass runs everything that its loss needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return torch.stack(list(training_losses(self.model, x, labels).values())).sum()


def _count(given: dict[str, Any]) -> Complexity | None:
    if given["model"] not in list_models():
        return None
    with torch.device("meta"):
        model = create_model(given["model"], **given.get("options", {}))
    size: int = model.config.image_size  # type: ignore[union-attr, assignment]
    return complexity(_AsTrained(model) if given.get("training") else model, size)


def _row(table: str, given: dict[str, Any], ours: Complexity | None) -> ComplexityRow:
    return ComplexityRow(
        table=table,
        network=given["network"],
        model=given["model"],
        options=given.get("options", {}),
        paper_params=given["params"],
        paper_flops=given["flops"],
        params=ours.params if ours else None,
        flops=ours.paper_macs if ours else None,
        macs=ours.macs if ours else None,
        image_size=ours.image_size if ours else None,
        params_difference=_difference(given["params"], ours.params if ours else None),
        flops_difference=_difference(given["flops"], ours.paper_macs if ours else None),
        reason=given.get("reason", ""),
    )


def _difference(printed: str, ours: int | None) -> float | None:
    if ours is None or printed.startswith(">"):
        return None
    return ours / _number(printed) - 1


def _number(printed: str) -> float:
    return float(printed[:-1]) * _UNITS[printed[-1]]


def _compared(printed: str, ours: int | None) -> str:
    """ "same" where ours rounds to the printed figure, else the difference."""
    difference = _difference(printed, ours)
    if ours is None or difference is None:
        return ""
    digits = len(printed[:-1].partition(".")[2])
    last = 10.0**-digits * _UNITS[printed[-1]]
    same = abs(ours - _number(printed)) <= 0.5 * last * (1 + 1e-9)
    return "same" if same else f"{100 * difference:+.2f} %"


def _cells(row: ComplexityRow) -> list[str]:
    options = ", ".join(f"{key} {value}" for key, value in row.options.items())
    return [
        row.network,
        options,
        row.paper_params,
        _short(row.params),
        _compared(row.paper_params, row.params),
        row.paper_flops,
        _short(row.flops),
        _compared(row.paper_flops, row.flops),
        _short(row.macs),
    ]


def _short(count: int | None) -> str:
    """Three digits behind the point, in the unit that the paper uses."""
    if count is None:
        return "not here"
    unit = next((u for u in "GMK" if count >= _UNITS[u]), "K")
    return f"{count / _UNITS[unit]:.3f}{unit}"
