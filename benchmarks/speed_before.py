"""SFIC-ResNet26 of an earlier version beside this one's, layer for layer the same network.

    git worktree add BEFORE COMMIT
    python benchmarks/speed_before.py BEFORE

Both versions are loaded into one process and take turns there, as trained and folded, in the cells of
`speed.py`. Ratios are taken within a round: time of this version by time of the earlier one. Before they are
timed their outputs are compared. Writes `measured/speed_before.csv`, a row per time, and prints the table.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from document import keep_rows
from sficonv.paper.timing import Mode, Ratio, Setting, interleave, work_of
from speed import LAYOUTS, POINTS, ROUNDS

HERE = Path(__file__).resolve().parents[1]


@dataclass
class Version:
    """The modules of a checkout, kept apart from those of the other one."""

    checkout: Path
    modules: dict[str, ModuleType] = field(default_factory=dict)

    @contextmanager
    def imported(self) -> Iterator[ModuleType]:
        """Inside, `sficonv` is that of this checkout, also for what it imports later."""
        others = {name: sys.modules.pop(name) for name in list(sys.modules) if _ours(name)}
        sys.modules.update(self.modules)
        sys.path.insert(0, str(self.checkout / "src"))
        try:
            package = importlib.import_module("sficonv")
            assert Path(str(package.__file__)).is_relative_to(self.checkout), package.__file__
            yield package
        finally:
            sys.path.pop(0)
            self.modules = {name: sys.modules.pop(name) for name in list(sys.modules) if _ours(name)}
            sys.modules.update(others)


def _ours(name: str) -> bool:
    return name.partition(".")[0] == "sficonv"


def networks(versions: dict[str, Version], mode: Mode, alpha: float, beta: float) -> dict[str, nn.Module]:
    """The same network by each version, and in inference also folded."""
    found: dict[str, nn.Module] = {}
    for name, version in versions.items():
        torch.manual_seed(0)
        with version.imported() as package:
            network = package.create_model("sfic_resnet26", alpha=alpha, beta=beta)
            if found:
                network.load_state_dict(found["before"].state_dict())
            found[name] = network
            if mode == "inference":
                found[f"{name}, folded"] = package.fold(network)
    return found


def measure(
    versions: dict[str, Version], layout: str, mode: Mode, batch: int, point: tuple[float, float]
) -> list[dict[str, Any]]:
    """The times of one cell of `speed.py`, a row each."""
    setting = Setting(channels_last=layout == "nhwc")
    images = setting.images(batch, 256)
    placed = {name: setting.place(network) for name, network in networks(versions, mode, *point).items()}
    with torch.no_grad():
        before, now = (placed[name].eval()(images[:1]) for name in ("before", "now"))
    assert torch.allclose(before, now, rtol=1e-4, atol=1e-5)
    works = {name: work_of(network, images, mode, setting) for name, network in placed.items()}
    cell = {"layout": layout, "mode": mode, "batch": batch, "alpha": point[0], "beta": point[1]}
    return [
        {**cell, "network": name, "round": number, "ms": 1000 * seconds}
        for name, times in interleave(works, ROUNDS[mode, batch]).items()
        for number, seconds in enumerate(times)
    ]


def ratio(rows: list[dict[str, Any]], form: str) -> str:
    """This version's time by the earlier one's, of one form of the network."""
    times = {name: [row["ms"] for row in rows if row["network"] == name + form] for name in ("before", "now")}
    return str(Ratio.of(times["now"], times["before"])) if times["now"] else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout of an earlier version")
    args = parser.parse_args()
    versions = {name: Version(path.resolve()) for name, path in (("before", args.before), ("now", HERE))}
    kept: list[dict[str, Any]] = []
    print("| | alpha | beta | now / before, as trained | now / before, folded |", "|---" * 5 + "|", sep="\n")
    for layout, title in LAYOUTS.items():
        for mode, batch in ROUNDS:
            for point in POINTS:
                rows = measure(versions, layout, mode, batch, point)  # type: ignore[arg-type]
                keep_rows("speed_before", kept := kept + rows)
                cells = [f"{title}, {mode}, batch {batch}", *(f"{x:g}" for x in point)]
                print(f"| {' | '.join([*cells, ratio(rows, ''), ratio(rows, ', folded')])} |", flush=True)


if __name__ == "__main__":
    main()
