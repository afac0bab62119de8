"""Operations of one layer with its normalisation and activation: Stage 2 beside a vanilla convolution.

    python benchmarks/operation_counts.py

On a GPU a small network waits for its operations to be started, so their number is its time. Counted by
`torch.profiler` on the CPU, for 64 channels in and out: all `aten::` events, of which PyTorch starts several
inside each other, and those that compute or copy (the others make views or reserve memory). Three ways to
run: as `fold` leaves it (what `Detector` runs), evaluation as trained, and the forward pass of training. The
vanilla layer is a convolution, a batch normalisation and a ReLU in each of them, never folded. Writes
the table in docs/performance.md; the counts of an earlier version stay in `measured/operation_counts.csv`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from sficonv.conversion.fold import stored_in_parts
from sficonv.nn import SFIBatchNorm2d, SFIConv2d, SpaceFreq, frequency_size

Run = Literal["folded", "evaluation", "training"]
RUNS: dict[Run, str] = {
    "folded": "folded", "evaluation": "evaluation as trained", "training": "training, forward",
}  # fmt: skip
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
MARKS = "<!-- operations: written by benchmarks/operation_counts.py -->", "<!-- end of operations -->"
POINTS = ((0.5, 0.5), (0.75, 0.25), (0.5, 0.75))  # alpha, beta
CHANNELS, BATCH, SIDE = 64, 16, 16
_COMPUTE = {
    "conv": {"mkldnn_convolution", "_slow_conv2d_forward", "cudnn_convolution"},
    "norm": {"native_batch_norm", "cudnn_batch_norm", "addcmul", "rsqrt", "mul"},
    "activation": {"clamp_min_", "clamp_min"},
    "sum": {"add", "add_"},
    "resize": {"upsample_nearest2d"},
    "copy": {"copy_"},
}


class Layer(nn.Module):
    """A convolution, its normalisation where it has one, and a ReLU on every branch."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.act = conv, norm, nn.ReLU(inplace=True)

    def forward(self, x: Tensor | SpaceFreq) -> list[Tensor]:
        y = self.norm(self.conv(x))
        return [self.act(branch) for branch in ([y] if isinstance(y, Tensor) else y)]


def vanilla(kernel: int, run: Run) -> tuple[nn.Module, Tensor]:
    """The vanilla layer and its input."""
    conv = nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2, bias=False)
    layer = Layer(conv, nn.BatchNorm2d(CHANNELS)).train(run == "training")
    return layer.to(memory_format=torch.channels_last), _map(CHANNELS, SIDE)


def stage2(kernel: int, alpha: float, beta: float, run: Run) -> tuple[nn.Module, SpaceFreq]:
    """The same layer as Stage 2, and its input."""
    conv = SFIConv2d(
        CHANNELS, CHANNELS, kernel, padding=kernel // 2, bias=run == "folded",
        alpha_in=alpha, alpha_out=alpha, beta=beta,
    )  # fmt: skip
    norm: nn.Module = SFIBatchNorm2d(CHANNELS, conv.fre_out)
    x = SpaceFreq(_map(conv.spa_in, SIDE), _map(conv.fre_in, frequency_size(SIDE, beta)))
    layer = Layer(stored_in_parts(conv), nn.Identity()) if run == "folded" else Layer(conv, norm)
    return layer.train(run == "training").to(memory_format=torch.channels_last), x


def _map(channels: int, side: int) -> Tensor:
    return torch.randn(BATCH, channels, side, side).contiguous(memory_format=torch.channels_last)


def count(layer: nn.Module, x: Tensor | SpaceFreq, run: Run) -> dict[str, Any]:
    """How many operations one call takes.

    Args:
        layer: From `vanilla` or `stage2`.
        x: Its input.
        run: Whether a gradient is recorded.

    Returns:
        `all` events, those that `compute`, and these by what they do.
    """
    with torch.set_grad_enabled(run == "training"):
        layer(x)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            layer(x)
    names = Counter(e.name.removeprefix("aten::") for e in seen.events() if e.name.startswith("aten::"))
    by_kind = {kind: sum(names[n] for n in members) for kind, members in _COMPUTE.items()}
    return {"all": sum(names.values()), "compute": sum(by_kind.values()), **by_kind}


def rows() -> list[dict[str, Any]]:
    """One row for every kernel, way to run, alpha and beta."""
    found = []
    for kernel in (1, 3):
        for run in RUNS:
            base = count(*vanilla(kernel, run), run)
            found.append({"layer": "vanilla", "kernel": kernel, "run": run, **base})
            for alpha, beta in POINTS:
                cell = count(*stage2(kernel, alpha, beta, run), run)
                ratios = {
                    f"{what}_to_vanilla": round(cell[what] / base[what], 3) for what in ("all", "compute")
                }
                point = {"alpha": alpha, "beta": beta}
                found.append({"layer": "stage 2", "kernel": kernel, "run": run, **point, **cell, **ratios})
    return found


def table_of(found: pd.DataFrame) -> list[str]:
    """All events / those that compute or copy, of an earlier version and of this one."""
    lines = ["| layer | beta | vanilla | earlier | now | now / vanilla |", "|---|---|---|---|---|---|"]
    cells = found["all"].astype(str) + " / " + found["compute"].astype(str)
    found = found.assign(cell=cells).set_index(["code", "kernel", "run", "beta"])["cell"]
    for kernel, (run, told) in product((1, 3), RUNS.items()):
        vanilla = found["now", kernel, run, 0.0]
        for beta in sorted((beta for _, beta in POINTS), reverse=True):
            before, now = (found[code, kernel, run, beta] for code in ("before", "now"))
            ratios = [
                f"{int(a) / int(b):.2f}" for a, b in zip(now.split(" / "), vanilla.split(" / "), strict=True)
            ]
            row = [f"{kernel} x {kernel}, {told}", f"{beta:g}", vanilla, before, now, " / ".join(ratios)]
            lines.append(f"| {' | '.join(row)} |")
    return lines


def main() -> None:
    from document import MEASURED, keep_rows, write_between  # beside this script; its counts are also tested

    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    kept = pd.read_csv(MEASURED / "operation_counts.csv")
    earlier, now = kept[kept["code"] == "before"], pd.DataFrame(rows()).fillna(0.0)
    found = pd.concat([earlier, now.assign(code="now", torch=torch.__version__)])
    keep_rows("operation_counts", found)
    write_between(PAGE, MARKS, table_of(found))
    print("\n".join(table_of(found)))


if __name__ == "__main__":
    main()
