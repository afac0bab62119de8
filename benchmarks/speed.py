"""SFIC-ResNet26 beside vanilla ResNet26 and beside its own literal form; writes docs/performance.md.

    python benchmarks/speed.py --out runs/speed

Three networks, the SFIC ones with the same weights, take turns in one process: vanilla ResNet26 with the same
downsampling, SFIC-ResNet26 as the library runs it, and SFIC-ResNet26 with a convolution for each block
(`four_convolutions.py`). Before they are timed the outputs of the last two are compared. Ratios are taken
within a round; the median over the rounds is printed, with quartiles.

Finished cells are kept in `--out` and not measured again, so the script can be interrupted. `--cells` takes
shell patterns of cell names, `--quick` measures small images a few times to see that everything runs and
writes no document. `gpu_speed.py` measures on a GPU.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

import sampling_forms
from document import keep_rows, write_between
from four_convolutions import four_convolutions
from sficonv.conversion.fold import fold
from sficonv.models import create_model
from sficonv.nn import complexity
from sficonv.paper.timing import Mode, Ratio, Setting, interleave, machine, training_memory, work_of

POINTS = ((0.5, 1.0), (0.5, 0.75), (0.5, 0.5), (0.75, 0.25))  # alpha, beta
ROUNDS = {("inference", 1): 25, ("inference", 16): 5, ("training", 8): 5}
LAYOUTS = {"nchw": "PyTorch's default memory format", "nhwc": "channels-last"}
MARKS = ("<!-- tables: written by benchmarks/speed.py -->", "<!-- end of tables -->")
VANILLA = {"downsample": "avgpool"}


@dataclass(frozen=True)
class Networks:
    """One comparison."""

    layout: str
    mode: Mode
    batch: int
    alpha: float
    beta: float

    @property
    def name(self) -> str:
        return f"{self.layout}-{self.mode}-{self.batch}-beta{self.beta:g}"

    def measure(self, args: argparse.Namespace) -> dict[str, Any]:
        setting = Setting(channels_last=self.layout == "nhwc")
        torch.manual_seed(0)
        sfic = create_model("sfic_resnet26", alpha=self.alpha, beta=self.beta)
        networks = {
            "vanilla": create_model("resnet26", **VANILLA),
            "sfic": sfic,
            "four": four_convolutions(sfic, self.alpha, self.beta),
        }
        networks = {name: setting.place(network) for name, network in networks.items()}
        images = setting.images(self.batch, args.image_size)
        if self.mode == "inference":  # as `Detector` runs it
            networks |= {
                f"{name} folded": setting.place(fold(networks[name])) for name in ("vanilla", "sfic")
            }
        works = {name: work_of(network, images, self.mode, setting) for name, network in networks.items()}
        times = interleave(works, args.rounds or ROUNDS[self.mode, self.batch])
        macs = {n: complexity(networks[n], args.image_size).macs for n in ("vanilla", "sfic", "four")}
        folded = (
            {"folded_to_vanilla": asdict(Ratio.of(times["sfic folded"], times["vanilla folded"]))}
            if self.mode == "inference"
            else {}
        )
        return {
            "milliseconds": {name: 1000 * median(t) for name, t in times.items()},
            "rounds": {name: [1000 * s for s in t] for name, t in times.items()},
            **folded,
            "to_vanilla": asdict(Ratio.of(times["sfic"], times["vanilla"])),
            "to_four": asdict(Ratio.of(times["sfic"], times["four"])),
            "macs_to_vanilla": macs["sfic"] / macs["vanilla"],
            "macs_to_four": macs["sfic"] / macs["four"],
        }


def agreement(args: argparse.Namespace) -> dict[str, Any]:
    """Relative differences between the library's execution and the literal form, same weights."""
    images = Setting().images(2, args.image_size)
    found = {}
    for alpha, beta in POINTS:
        sfic = create_model("sfic_resnet26", alpha=alpha, beta=beta)
        networks = [network.eval() for network in (sfic, four_convolutions(sfic, alpha, beta))]
        with torch.no_grad():
            ours, literal = (network(images) for network in networks)
        found[f"{beta:g}"] = float((ours - literal).norm() / literal.norm())
        assert found[f"{beta:g}"] < 1e-4, f"beta = {beta}: the two forms of SFIConv disagree: {found}"
    return found


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of a training step, vanilla and SFIC."""
    found: dict[str, Any] = {}
    for batch in (2, 8):
        vanilla = training_memory(
            lambda: create_model("resnet26", **VANILLA), batch, args.image_size, Setting()
        )
        for alpha, beta in POINTS:
            options = {"alpha": alpha, "beta": beta}
            sfic = training_memory(
                lambda options=options: create_model("sfic_resnet26", **options),
                batch,
                args.image_size,
                Setting(),
            )
            found[f"{batch}-{beta:g}"] = {"vanilla": vanilla, "sfic": sfic}
    return found


def forms(args: argparse.Namespace) -> dict[str, Any]:
    """The ways to compute 3 x 3 at beta = 3/4, on the shapes of ResNet26's three stages."""
    return {
        f"{layout}-{batch}-{channels}-{side}": sampling_forms.compare(
            batch, channels, side, layout == "nhwc", args.rounds or 9
        )
        for layout in LAYOUTS
        for batch in (1, 8)
        for channels, side in ((32, 64), (64, 32), (128, 16))
    }


Measure = Callable[[argparse.Namespace], dict[str, Any]]


def cells() -> dict[str, Measure]:
    """All measurements by name, the short ones first."""
    found: dict[str, Measure] = {"agreement": agreement, "memory": memory, "forms": forms}
    for layout in LAYOUTS:
        for mode, batch in ROUNDS:
            for alpha, beta in POINTS:
                cell = Networks(layout, mode, batch, alpha, beta)  # type: ignore[arg-type]
                found[cell.name] = cell.measure
    return found


def rounds_of(name: str, cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What was measured in a cell, a row for each number."""
    if "rounds" in cell:
        for network, times in cell["rounds"].items():
            for number, milliseconds in enumerate(times):
                yield {"cell": name, "what": f"{network}, ms", "round": number, "value": milliseconds}
    elif name == "forms":
        for shape, passes in cell.items():
            for what, ways in passes.items():
                for way, found in ways.items():
                    yield {"cell": name, "what": f"{shape}, {what}, {way}, ratio", "value": found["ratio"]}
    else:
        unit = "bytes" if name == "memory" else "relative difference"
        for key, found in cell.items():
            for side, value in found.items() if isinstance(found, dict) else (("", found),):
                yield {"cell": name, "what": f"{key}, {side or 'both forms'}, {unit}", "value": value}


# -- the document -----------------------------------------------------------------------------------


def network_table(found: dict[str, Any], layout: str) -> list[str]:
    lines = [
        f"### {LAYOUTS[layout]}",
        "",
        "| | alpha | beta | vanilla, ms | SFIC, ms | SFIC / vanilla | both folded | MACs / vanilla "
        "| SFIC / four convolutions |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for mode, batch in ROUNDS:
        for alpha, beta in POINTS:
            cell = found.get(Networks(layout, mode, batch, alpha, beta).name)  # type: ignore[arg-type]
            if cell:
                times = cell["milliseconds"]
                folded = str(Ratio(**cell["folded_to_vanilla"])) if mode == "inference" else ""
                columns = [
                    f"{mode}, batch {batch}", f"{alpha:g}", f"{beta:g}",
                    f"{times['vanilla']:.0f}", f"{times['sfic']:.0f}",
                    str(Ratio(**cell["to_vanilla"])), folded, f"{cell['macs_to_vanilla']:.2f}",
                    str(Ratio(**cell["to_four"])),
                ]  # fmt: skip
                lines.append("| " + " | ".join(columns) + " |")
    return [*lines, ""]


def memory_table(cell: dict[str, Any]) -> list[str]:
    lines = ["| batch | beta | vanilla, MB | SFIC, MB | ratio |", "|---|---|---|---|---|"]
    for key, sides in cell.items():
        batch, _, beta = key.partition("-")
        vanilla, sfic = sides["vanilla"], sides["sfic"]
        lines.append(f"| {batch} | {beta} | {vanilla / 1e6:.0f} | {sfic / 1e6:.0f} | {sfic / vanilla:.3f} |")
    return [*lines, ""]


def forms_table(cell: dict[str, Any]) -> list[str]:
    names = list(sampling_forms.FORMS)[1:]
    ratios: dict[tuple[str, str], dict[str, list[float]]] = {}
    for key, passes in cell.items():
        for what, found in passes.items():
            of_it = ratios.setdefault((LAYOUTS[key.partition("-")[0]], what), {name: [] for name in names})
            for name in names:
                of_it[name].append(found[name]["ratio"])
    lines = [
        "Time of each way over that of the first, from the least to the most of six shapes of ResNet26:",
        "",
        "| memory format | pass | " + " | ".join(names) + " |",
        "|---" * (2 + len(names)) + "|",
    ]
    for row, of_it in ratios.items():
        lines.append(f"| {' | '.join((*row, *(f'{min(r):.2f} to {max(r):.2f}' for r in of_it.values())))} |")
    return [*lines, ""]


def document(found: dict[str, Any], where: dict[str, Any], image_size: int) -> str:
    worst = max(found["agreement"].values(), default=0.0) if "agreement" in found else None
    lines = ["## CPU", ""]
    lines.append(
        f"{where['cpu']}, {where['system']}, {where['threads']} thread(s), torch {where['torch']}, fp32, "
        f"{image_size} px, {where['date']}. Ratio [quartiles over the rounds]."
    )
    if worst is not None:
        lines.append(
            "The literal form with the same weights gives the same logits: "
            f"relative difference at most {worst:.0e}."
        )
    lines.append("")
    for layout in LAYOUTS:
        lines += network_table(found, layout)
    if "memory" in found:
        lines += ["## Peak memory of a training step", "", *memory_table(found["memory"])]
    if "forms" in found:
        lines += ["## 3 x 3 at beta = 0.75", "", *forms_table(found["forms"])]
    return "\n".join(lines).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/speed"))
    parser.add_argument("--document", type=Path, default=Path("docs/performance.md"))
    parser.add_argument("--cells", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--rounds", type=int, help="instead of each cell's own number")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.quick:
        args.rounds, args.image_size = args.rounds or 3, 128
    folder = args.out / ("quick" if args.quick else f"{args.image_size}px-{torch.get_num_threads()}threads")
    folder.mkdir(parents=True, exist_ok=True)
    where = machine("cuda" if torch.cuda.is_available() else "cpu")
    for name, measure in cells().items():
        path = folder / f"{name}.json"
        if path.is_file() or not any(fnmatch.fnmatch(name, pattern) for pattern in args.cells):
            continue
        cell = measure(args)
        path.write_text(json.dumps({"cell": cell, "machine": where}, indent=2) + "\n", encoding="utf-8")
        print(name, json.dumps(cell), flush=True)
    files = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime)
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    if args.quick or not read:
        return
    machines = {json.dumps({k: v for k, v in r["machine"].items() if k != "date"}) for r in read.values()}
    if len(machines) > 1:
        raise SystemExit(f"{folder} holds cells of several machines or versions; give another --out")
    keep_rows("speed", (row for name, r in read.items() for row in rounds_of(name, r["cell"])))
    text = document({n: r["cell"] for n, r in read.items()}, [*read.values()][-1]["machine"], args.image_size)
    write_between(args.document, MARKS, [text])


if __name__ == "__main__":
    main()
