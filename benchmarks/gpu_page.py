"""Writes the GPU section of docs/performance.md from what `gpu_speed.py` measured.

    python benchmarks/gpu_page.py

Reads `measured/gpu_speed.jsonl`. A network for which no time was left has no row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from document import write_between

ROWS = Path(__file__).parent / "measured" / "gpu_speed.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
MARKS = ("<!-- gpu: written by benchmarks/gpu_page.py -->", "<!-- end of gpu -->")
WAYS = {"eager": "eager", "graph": "CUDA graph", "compiled": "`torch.compile`"}
MODES = {"inference": "inference, folded", "evaluation": "inference, as trained", "training": "training"}


def network_row(row: dict[str, Any]) -> str:
    memory = f"{row['added_bytes'] / 1e6:.0f}" if row["added_bytes"] is not None else ""
    columns = [
        MODES[row["mode"]], WAYS[row["way"]], str(row["batch"]), row["network"], f"{row['ms']:.2f}",
        f"{row['images_per_second']:.0f}", f"{row['to_vanilla']:.2f}", f"{row['macs_to_vanilla']:.2f}",
        f"{row['share_of_ceiling']:.1%}", memory,
    ]  # fmt: skip
    return "| " + " | ".join(columns) + " |"


def layer_row(row: dict[str, Any]) -> str:
    kernel = f"{row['kernel']} x {row['kernel']}"
    return (
        f"| {kernel}, beta {row['beta']:g} | {row['vanilla ms']:.3f} | {row['stage 2 ms']:.3f} "
        f"| {row['to_vanilla']:.2f} |"
    )


def main() -> None:
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    machine = next(row for row in rows if row["kind"] == "machine")
    missing = sum(row["kind"] == "no time left" for row in rows)
    lines = [
        f"{machine['card']}, torch {machine['torch']}, bf16, channels-last, {machine['date']}; the fastest",
        f"bf16 product ran at {machine['ceiling_tflops']:.0f} TFLOP/s. ResNet26 with average pooling,",
        f"256 px, networks in turns, medians. No time was left for {missing} planned measurements.",
        "",
        "| | way | batch | network | ms | images/s | / vanilla | MACs / vanilla | of ceiling | memory, MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(network_row(row) for row in rows if row["kind"] == "network"),
        "",
        "One layer with norm and activation, 64 channels of 64 px, batch 128, eager, as trained:",
        "",
        "| Stage 2 | vanilla, ms | SFIConv, ms | / vanilla |",
        "|---|---|---|---|",
        *(layer_row(row) for row in rows if row["kind"] == "layer"),
    ]
    write_between(PAGE, MARKS, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
