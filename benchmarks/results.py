"""Vanilla against SFIC on small real data: trains every cell, judges it, and writes
benchmarks/measured/small_budgets.md.

    python benchmarks/results.py PREPARED --out runs/results

PREPARED holds the prepared folders `ffpp`, `crops128`, `celebdf`, `ffhq`, `celeba`, `london` (README of this
folder: how they are made). It can be interrupted, and run again with more seeds.
"""

from __future__ import annotations

from document import write_between
from small_data import Cell, budget_text, parse, run_cells, table

MARKS = ("<!-- table: written by benchmarks/results.py -->", "<!-- end of table -->")
CELLS = {
    "lite0-pre": Cell("EfficientNet-Lite0", "efficientnet_lite0", True),
    "sfic-lite0-pre": Cell("SFIC-EfficientNet-Lite0", "sfic_efficientnet_lite0", True),
    "sfic-lite0-pre-nomcs": Cell(
        "SFIC-EfficientNet-Lite0 without MCSConv", "sfic_efficientnet_lite0", True, {"mcs_mode": "none"}
    ),
    "resnet26": Cell("ResNet26", "resnet26", False),
    "resnet26-avgpool": Cell("ResNet26 + AvgPool", "resnet26", False, {"downsample": "avgpool"}),
    "sfic-resnet26": Cell("SFIC-ResNet26", "sfic_resnet26", False),
    "sfic-resnet26-vanilla-init": Cell(
        "SFIC-ResNet26, kernels initialised as one", "sfic_resnet26", False, {"init": "vanilla"}
    ),
    "sfic-resnet26-nomcs": Cell(
        "SFIC-ResNet26 without MCSConv", "sfic_resnet26", False, {"mcs_mode": "none"}
    ),
    "lite0": Cell("EfficientNet-Lite0", "efficientnet_lite0", False),
    "sfic-lite0": Cell("SFIC-EfficientNet-Lite0", "sfic_efficientnet_lite0", False),
}


def main() -> None:
    """Run the cells and write the table after each."""
    args = parse(__doc__, CELLS)
    for folder in run_cells(CELLS, args):
        lines = [budget_text(args), ""]
        for start, title in ((True, "ImageNet weights, then fine-tuned"), (False, "From scratch")):
            chosen = {key: cell for key, cell in CELLS.items() if cell.pretrained == start}
            lines += [f"### {title}", "", *table(chosen, folder)]
        write_between(args.document, MARKS, lines)


if __name__ == "__main__":
    main()
