"""What a conversion did, layer by layer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """What became of one convolution.

    Args:
        layer: Its name.
        stage: `"head"`, `"Stage 1"`, `"Stage 2"`, `"Stage 3"` or `"vanilla"`.
        spa_in, fre_in, spa_out, fre_out: Channels of its branches.
        macs: Multiply-accumulates of the vanilla convolution for one image.
        note: Why it stays vanilla, where it does.
    """

    layer: str
    stage: str
    spa_in: int
    fre_in: int
    spa_out: int
    fre_out: int
    macs: int = 0
    note: str = ""


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` did, layer by layer; carried by the converted model as `model.report`.

    Args:
        alpha, beta: As given to `convert`.
        layers: One entry per convolution, in the order they run.
        joined: Operations before which the branches are fused, because they may need all channels together,
            as `"name (type)"`. The next convolution splits the channels again.
        options: The other arguments of `convert`.
    """

    alpha: float
    beta: float
    layers: tuple[LayerReport, ...] = ()
    joined: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Share of the convolutions' multiply-accumulates that run as SFIConv, from 0 to 1."""
        inside = sum(r.macs for r in self.layers if r.stage.startswith("Stage"))
        return inside / max(1, sum(r.macs for r in self.layers))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {**asdict(self), "share": self.share}

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def summary(self) -> str:
        """The report as a table for people; `print(report)` shows the same."""
        lines = [
            f"SFIConv with alpha={self.alpha:g}, beta={self.beta:g}: "
            f"{self.share:.1%} of the convolutions' multiply-accumulates"
        ]
        width = max((len(r.layer) for r in self.layers), default=0)
        for r in self.layers:
            channels = f"{r.spa_in}+{r.fre_in} -> {r.spa_out}+{r.fre_out}"
            lines.append(f"{r.layer:{width}}  {r.stage:8}  {channels:22}  {r.note}".rstrip())
        if self.joined:
            lines.append("Branches are fused before, and split again by the next convolution:")
            lines += [f"  {name}" for name in self.joined]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()
