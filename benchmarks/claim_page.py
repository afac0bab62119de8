"""Writes docs/claim.md and its plot from what `claim.py` measured.

    python benchmarks/claim_page.py --rows runs/claim [--run lite0]

With `--rows` the raw rows of a run are first kept in `measured/`: `claim.jsonl`, one training a line, and
`claim_scores.parquet`, the score of every test crop by every training. Without, the page is made from these.
Networks are compared within a run: others had another budget.

AUC is of videos (the mean of a video's crops). Intervals are paired: 4,000 times videos of each class and
seeds are drawn with replacement, the same for both networks of a comparison. Networks are compared on the
test sets where at least one of them is above chance, that is, where the interval of its mean AUC lies above
0.5; Holm's method corrects the p-values of all these comparisons.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from claim import POINT
from document import write_between
from sficonv.evaluation.bootstrap import resampled
from sficonv.evaluation.scores import scores_of
from sficonv.paper.tables.recipe import load_table

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PACKAGE = Path(__file__).parents[1]
MEASURED = PACKAGE / "benchmarks" / "measured"
PAGE, PLOT = PACKAGE / "docs" / "claim.md", PACKAGE / "docs" / "images" / "claim.png"
TESTS = {
    "dfdc": "DFDC, unseen parts",
    "celebdf": "Celeb-DF",
    "ffpptest": "FF++ test split, Deepfakes",
    "ffppc23": "FF++ c23, validation",
    "ffppc40": "FF++ c40, validation",
}
VANILLA, POOLED = "ResNet26", "ResNet26, average pooling"
SPLIT, SFIC = "SFIC-ResNet26 without MCSConv", "SFIC-ResNet26"


@dataclass(frozen=True)
class Run:
    """Trainings that shared a budget.

    Args:
        name: Part of its files' names and of its marks; empty for the first.
        where: Follows the machine's name on the page.
        comparisons: Two networks each, by what their difference shows.
    """

    name: str
    where: str
    comparisons: dict[str, tuple[str, str]]

    @property
    def rows(self) -> Path:
        return MEASURED / f"claim{self.name and '_' + self.name}.jsonl"

    @property
    def scores(self) -> Path:
        return MEASURED / f"claim{self.name and '_' + self.name}_scores.parquet"

    def marks(self, table: str) -> tuple[str, str]:
        what = f"{table}, {self.name}" if self.name else table
        return f"<!-- {what}: written by benchmarks/claim_page.py -->", f"<!-- end of {what} -->"


RUNS = {
    "": Run(
        "",
        "that three processes shared",
        {
            "SFIConv as in the paper": (SFIC, VANILLA),
            "of it: average pooling instead of strides": (POOLED, VANILLA),
            "of it: two branches": (SPLIT, POOLED),
            "of it: MCSConv": (SFIC, SPLIT),
            "SFIConv beside the same pooling": (SFIC, POOLED),
        },
    ),
    "lite0": Run(
        "lite0",
        "with other work on it",
        {"SFIConv, from ImageNet weights": ("SFIC-EfficientNet-Lite0", "EfficientNet-Lite0")},
    ),
}
PRINTED = (("table5", "dfdc", "dfdc"), ("table6", "dfdc-c23", "ffppc23"), ("table6", "dfdc-c40", "ffppc40"))
"""Tables and columns of the paper, and the test set here that is of the same kind."""
SAMPLES = 4000


def aucs(scores: pd.DataFrame, columns: list[str]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Video AUC of each training on the crops of a test set: whole, and `(SAMPLES,)` of draws they share.

    The crops' scores are log-odds. Which video stands before which, all that an AUC sees, is the same for
    the probabilities that the bootstrap takes.
    """
    videos = scores.groupby(["video_id", "label"])[columns].mean().reset_index()
    label = videos["label"]
    sides = [scores_of(videos[["video_id", "label"]].assign(p_fake=expit(videos[name]))) for name in columns]
    drawn, _ = resampled(sides, samples=SAMPLES, seed=0)
    whole = {name: float(roc_auc_score(label, videos[name])) for name in columns}
    return whole, {name: sample["auc"] for name, sample in zip(columns, drawn, strict=True)}


def interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def keep(folder: Path, run: Run) -> None:
    """Put the raw rows of a run into `measured/`."""
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    tested = pd.read_parquet(folder / "tested.parquet")
    for line in lines:
        tested[f"{line['cell']}|{line['seed']}"] = np.array(line.pop("scores"), np.float32)
    tested.drop(columns=["time", "split", "source_ids"]).to_parquet(run.scores, compression="zstd")
    run.rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def holm(values: list[float]) -> list[float]:
    """P-values corrected for their number."""
    order = np.argsort(values)
    corrected = np.maximum.accumulate([values[k] * (len(values) - i) for i, k in enumerate(order)])
    found = np.empty(len(values))
    found[order] = np.minimum(corrected, 1)
    return found.tolist()


def plot(differences: dict[str, dict[str, tuple[float, float, float]]], tests: list[str]) -> None:
    """The differences of every comparison with their intervals, one axis for each test set."""
    figure, axes = plt.subplots(1, len(tests), figsize=(9, 2.6), sharey=True, layout="constrained")
    for axis, test in zip(axes, tests, strict=True):
        for row, found in enumerate(differences.values()):
            mean, low, high = (100 * x for x in found[test])
            axis.plot([low, high], [row, row], color="tab:blue", linewidth=2)
            axis.plot(mean, row, "o", color="tab:blue")
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_title(TESTS[test], fontsize=9)
        axis.set_xlabel("points of video AUC", fontsize=8)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(differences)), list(differences))
    axes[0].invert_yaxis()
    figure.savefig(PLOT, dpi=110)


@dataclass
class Findings:
    """What a run says.

    Args:
        points: Video AUC of every training of a network, by network and test set.
        compared_on: Test sets where at least one network is above chance.
        differences: Mean, lower and upper limit of each comparison, by test set.
        p: Corrected, by comparison and test set.
        videos: Of each test set.
    """

    points: dict[str, dict[str, np.ndarray]]
    compared_on: list[str]
    differences: dict[str, dict[str, tuple[float, float, float]]]
    p: dict[tuple[str, str], float]
    videos: dict[str, int]


def find(scores: pd.DataFrame, seeds_of: dict[str, list[int]], run: Run) -> Findings:
    """Judge the networks of a run on every test set."""
    found = Findings({cell: {} for cell in seeds_of}, [], {name: {} for name in run.comparisons}, {}, {})
    values: dict[tuple[str, str], float] = {}
    rng = np.random.default_rng(1)
    count = len(next(iter(seeds_of.values())))
    columns = {cell: [f"{cell}|{seed}" for seed in seeds] for cell, seeds in seeds_of.items()}
    for test in TESTS:
        crops = scores[scores["dataset"] + scores["compression"] == test]
        found.videos[test] = crops["video_id"].nunique()
        whole, samples = aucs(crops, sum(columns.values(), []))
        drawn = {cell: np.stack([samples[name] for name in names]) for cell, names in columns.items()}
        points = {cell: np.array([whole[name] for name in names]) for cell, names in columns.items()}
        for cell, values_of in points.items():
            found.points[cell][test] = values_of
        if max(interval(sample.mean(0))[0] for sample in drawn.values()) <= 0.5:
            continue  # all at chance
        found.compared_on.append(test)
        seeds = rng.integers(count, size=(count, SAMPLES))
        for name, (ours, other) in run.comparisons.items():
            gap = np.take_along_axis(drawn[ours] - drawn[other], seeds, 0).mean(0)
            low, high = interval(gap)
            found.differences[name][test] = (float((points[ours] - points[other]).mean()), low, high)
            below = float((gap <= 0).mean())
            values[name, test] = max(2 * min(below, 1 - below), 2 / SAMPLES)
    found.p = dict(zip(values, holm(list(values.values())), strict=True))
    return found


def budget_of(lines: pd.DataFrame, videos: dict[str, int], run: Run) -> list[str]:
    """What was spent, in words."""
    first, seconds = lines.iloc[0], lines["seconds"]
    machine = "core of a CPU" if first["machine"] == "cpu" else first["machine"]
    seeds = ", ".join(map(str, sorted(lines["seed"].unique())))
    epochs = f"{first['epochs']} epoch{'' if first['epochs'] == 1 else 's'}"
    counts = ", ".join(f"{TESTS[name]} ({count} videos)" for name, count in videos.items())
    return [
        f"{len(lines)} trainings of {first['steps']} steps ({epochs} of DFDC),",
        f"batches of {first['batch']} images of {first['side']} px, bf16, on one {machine} {run.where}:",
        f"{seconds.min():.0f} to {seconds.max():.0f} s each. Seeds {seeds}.",
        f"Test sets: {counts}.",
    ]


def networks_of(found: Findings) -> list[str]:
    """The table of the networks."""
    table = ["| | " + " | ".join(TESTS.values()) + " |", "|---" * (len(TESTS) + 1) + "|"]
    for cell, points in found.points.items():
        shown = [f"{p.mean():.3f} ({p.min():.3f} to {p.max():.3f})" for p in points.values()]
        table.append("| " + " | ".join([cell, *shown]) + " |")
    return table


def comparisons_of(found: Findings) -> list[str]:
    """The table of the differences."""
    table = [
        "| | " + " | ".join(TESTS[test] for test in found.compared_on) + " |",
        "|---" * (len(found.compared_on) + 1) + "|",
    ]
    for name, differences in found.differences.items():
        cells = []
        for test, (mean, low, high) in differences.items():
            p = found.p[name, test]
            sure = "**" if p < 0.05 else ""
            cells.append(f"{sure}{100 * mean:+.1f}{sure} [{100 * low:+.1f}, {100 * high:+.1f}], p {p:.3g}")
        table.append(f"| {name} | " + " | ".join(cells) + " |")
    return table


def paper_of(found: Findings) -> list[str]:
    """The cells of the paper's tables that were trained on the same data set and tested on the same kind."""
    table = ["| table | column | in the paper | here |", "|---|---|---|---|"]
    for name, key, test in PRINTED:
        printed = load_table(name)
        row = next(r for r in printed.rows if r.model == "sfic_resnet26" and r.options == POINT)
        column = next(c for c in printed.columns if c.key == key)
        auc, _ = row.paper[key]
        points = 100 * found.points[SFIC][test]
        ours = f"{points.mean():.1f} ({points.min():.1f} to {points.max():.1f})"
        table.append(f"| {printed.number} | {column.title} | {auc} | {ours} |")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, help="the folder that claim.py wrote")
    parser.add_argument("--run", choices=list(RUNS), default="", help="what the folder holds")
    args = parser.parse_args()
    run = RUNS[args.run]
    if args.rows:
        keep(args.rows, run)
    lines = pd.DataFrame([json.loads(line) for line in run.rows.read_text().splitlines()])
    trained = lines.groupby("cell", sort=False)["seed"].apply(list)
    seeds_of = {cell: seeds for cell, seeds in trained.items() if len(seeds) > 1}
    found = find(pd.read_parquet(run.scores), seeds_of, run)
    budget = budget_of(lines[lines["cell"].isin(seeds_of)], found.videos, run)
    tables = {"budget": budget, "networks": networks_of(found), "comparisons": comparisons_of(found)}
    for name, text in tables.items():
        write_between(PAGE, run.marks(name), text)
        print("\n".join(text))
    if not run.name:
        write_between(PAGE, run.marks("paper"), paper_of(found))
        plot(found.differences, found.compared_on)


if __name__ == "__main__":
    main()
