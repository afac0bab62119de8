"""Writes docs/claim.md and its plot from what `claim.py` measured.

    python benchmarks/claim_page.py --rows runs/claim

With `--rows` the raw rows are first kept in `measured/`: `claim.jsonl`, one training a line, and
`claim_scores.parquet`, the score of every test crop by every training. Without, the page is made from these.

AUC is of videos (the mean of a video's crops). Intervals are paired: 4,000 times videos of each class and
seeds are drawn with replacement, the same for both networks of a comparison. Networks are compared on the
test sets where at least one of them is above chance, that is, where the interval of its mean AUC lies above
0.5; Holm's method corrects the p-values of all these comparisons.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from document import write_between
from sficonv.evaluation.bootstrap import resampled
from sficonv.evaluation.scores import scores_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PACKAGE = Path(__file__).parents[1]
MEASURED = PACKAGE / "benchmarks" / "measured"
ROWS, SCORES = MEASURED / "claim.jsonl", MEASURED / "claim_scores.parquet"
PAGE, PLOT = PACKAGE / "docs" / "claim.md", PACKAGE / "docs" / "images" / "claim.png"
MARKS = {
    name: (f"<!-- {name}: written by benchmarks/claim_page.py -->", f"<!-- end of {name} -->")
    for name in ("budget", "networks", "comparisons")
}
TESTS = {
    "dfdc": "DFDC, unseen parts",
    "celebdf": "Celeb-DF",
    "ffpptest": "FF++ test split, Deepfakes",
    "ffppc23": "FF++ c23, validation",
    "ffppc40": "FF++ c40, validation",
}
VANILLA, POOLED = "ResNet26", "ResNet26, average pooling"
SPLIT, SFIC = "SFIC-ResNet26 without MCSConv", "SFIC-ResNet26"
COMPARISONS = {
    "SFIConv as in the paper": (SFIC, VANILLA),
    "of it: average pooling instead of strides": (POOLED, VANILLA),
    "of it: two branches": (SPLIT, POOLED),
    "of it: MCSConv": (SFIC, SPLIT),
    "SFIConv beside the same pooling": (SFIC, POOLED),
}
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


def keep(folder: Path) -> None:
    """Put the raw rows of a run into `measured/`."""
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    tested = pd.read_parquet(folder / "tested.parquet")
    for line in lines:
        tested[f"{line['cell']}|{line['seed']}"] = np.array(line.pop("scores"), np.float32)
    tested.drop(columns=["time", "split", "source_ids"]).to_parquet(SCORES, compression="zstd")
    ROWS.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


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
        for row, name in enumerate(COMPARISONS):
            mean, low, high = (100 * x for x in differences[name][test])
            axis.plot([low, high], [row, row], color="tab:blue", linewidth=2)
            axis.plot(mean, row, "o", color="tab:blue")
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_title(TESTS[test], fontsize=9)
        axis.set_xlabel("points of video AUC", fontsize=8)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(COMPARISONS)), list(COMPARISONS))
    axes[0].invert_yaxis()
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, help="the folder that claim.py wrote")
    args = parser.parse_args()
    if args.rows:
        keep(args.rows)
    lines = pd.DataFrame([json.loads(line) for line in ROWS.read_text().splitlines()])
    scores = pd.read_parquet(SCORES)
    seeds_of = lines.groupby("cell", sort=False)["seed"].apply(list)
    complete = [cell for cell in seeds_of.index if len(seeds_of[cell]) > 1]

    networks = {cell: [cell] for cell in complete}
    compared_on: list[str] = []
    differences: dict[str, dict[str, tuple[float, float, float]]] = {name: {} for name in COMPARISONS}
    values: dict[tuple[str, str], float] = {}
    rng = np.random.default_rng(1)
    videos_of = {}
    for test in TESTS:
        crops = scores[scores["dataset"] + scores["compression"] == test]
        videos_of[test] = crops["video_id"].nunique()
        columns = {cell: [f"{cell}|{seed}" for seed in seeds_of[cell]] for cell in complete}
        whole, samples = aucs(crops, sum(columns.values(), []))
        drawn = {cell: np.stack([samples[name] for name in columns[cell]]) for cell in complete}
        points = {cell: np.array([whole[name] for name in columns[cell]]) for cell in complete}
        for cell in complete:
            low, high = points[cell].min(), points[cell].max()
            networks[cell].append(f"{points[cell].mean():.3f} ({low:.3f} to {high:.3f})")
        if max(interval(drawn[cell].mean(0))[0] for cell in complete) <= 0.5:
            continue  # all at chance
        compared_on.append(test)
        seeds = rng.integers(len(seeds_of[complete[0]]), size=(len(seeds_of[complete[0]]), SAMPLES))
        for name, (ours, other) in COMPARISONS.items():
            gap = np.take_along_axis(drawn[ours] - drawn[other], seeds, 0).mean(0)
            low, high = interval(gap)
            differences[name][test] = (float((points[ours] - points[other]).mean()), low, high)
            below = float((gap <= 0).mean())
            values[name, test] = max(2 * min(below, 1 - below), 2 / SAMPLES)
    corrected = dict(zip(values, holm(list(values.values())), strict=True))

    lines = lines[lines["cell"].isin(complete)]
    first, machine = lines.iloc[0], lines["machine"].iloc[0]
    seconds = lines["seconds"]
    budget = [
        f"{len(lines)} trainings of {first['steps']} steps ({first['epochs']} epochs of DFDC),",
        f"batches of {first['batch']} images of {first['side']} px, bf16, on one {machine} that",
        f"three processes shared: {seconds.min():.0f} to {seconds.max():.0f} s each. Seeds "
        f"{', '.join(map(str, seeds_of[complete[0]]))}.",
        "Test sets: "
        + ", ".join(f"{TESTS[name]} ({count} videos)" for name, count in videos_of.items())
        + ".",
    ]
    head = "| | " + " | ".join(TESTS.values()) + " |"
    rule = "|---" * (len(TESTS) + 1) + "|"
    table = [head, rule, *("| " + " | ".join(row) + " |" for row in networks.values())]
    compared = [
        "| | " + " | ".join(TESTS[test] for test in compared_on) + " |",
        "|---" * (len(compared_on) + 1) + "|",
    ]
    for name, found in differences.items():
        cells = []
        for test, (mean, low, high) in found.items():
            p = corrected[name, test]
            sure = "**" if p < 0.05 else ""
            cells.append(f"{sure}{100 * mean:+.1f}{sure} [{100 * low:+.1f}, {100 * high:+.1f}], p {p:.3g}")
        compared.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, found in {"budget": budget, "networks": table, "comparisons": compared}.items():
        write_between(PAGE, MARKS[name], found)
    plot(differences, compared_on)
    print("\n".join([*budget, *table, *compared]))


if __name__ == "__main__":
    main()
