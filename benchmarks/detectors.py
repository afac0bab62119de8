"""The comparison detectors beside SFIC models: one command, one split, one budget. Writes
benchmarks/measured/small_budgets.md.

    python benchmarks/detectors.py PREPARED --out runs/results --steps 50

As `results.py`; everything starts from random weights, as in the paper.
"""

from __future__ import annotations

from document import write_between
from small_data import Cell, budget_text, parse, run_cells, table

MARKS = ("<!-- detectors: written by benchmarks/detectors.py -->", "<!-- end of detectors -->")
CELLS = {
    "meso_inception4": Cell("Meso-Inception-4", "meso_inception4", False),
    "multitask": Cell("Multi-task", "multitask", False),
    "xception": Cell("XceptionNet", "xception", False),
    "f3net": Cell("F3-Net (FAD)", "f3net", False),
    "amtennet": Cell("AMTENnet", "amtennet", False, {"variant": "original"}),
    "m2tr": Cell("M2TR", "m2tr", False),
    "spsl": Cell("SPSL", "spsl", False),
    "srm": Cell("SRM (Luo et al.)", "srm", False),
    "resnet26": Cell("ResNet26", "resnet26", False),
    "sfic-resnet26": Cell("SFIC-ResNet26", "sfic_resnet26", False),
    "sfic-vgg13": Cell("SFIC-VGG13", "sfic_vgg13", False),
    "sfic-xception": Cell("SFIC-Xception", "sfic_xception", False),
}


def main() -> None:
    """Run the cells and write the table after each."""
    args = parse(__doc__, CELLS)
    for folder in run_cells(CELLS, args):
        write_between(args.document, MARKS, [budget_text(args), "", *table(CELLS, folder)])


if __name__ == "__main__":
    main()
