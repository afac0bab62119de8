"""What a conversion did, layer by layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """What became of one convolution: its name, its stage, the channels of its branches, and why."""

    layer: str
    stage: str
    spa_in: int
    fre_in: int
    spa_out: int
    fre_out: int
    note: str = ""


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` did, layer by layer; carried by the converted model as `model.report`."""

    alpha: float
    beta: float
    layers: tuple[LayerReport, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"SFIConv with alpha={self.alpha:g}, beta={self.beta:g}"]
        for r in self.layers:
            channels = f"{r.spa_in}+{r.fre_in} -> {r.spa_out}+{r.fre_out}"
            lines.append(f"{r.layer:40} {r.stage:10} {channels:22} {r.note}".rstrip())
        return "\n".join(lines)
