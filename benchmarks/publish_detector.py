"""Calibrate and measure a trained detector, and make it the one that the package ships.

    python benchmarks/publish_detector.py PREPARED runs/default/weights.safetensors
    python benchmarks/publish_detector.py --restate

Writes `src/sficonv/weights/`, and the figures into docs/results.md and README.md. PREPARED is the folder that
`default_detector.py` was given, with `celebdf` and `ciplab` besides. Temperature, uncertain band and
threshold come from the validation split of FaceForensics++; Celeb-DF and the other sets are only measured.
`--restate` measures nothing: it writes the false alarms that the shipped card holds anew, with intervals.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from document import write_between
from sficonv.datasets.manifest import read_manifest
from sficonv.evaluation import frame_to_video, judge, predict
from sficonv.evaluation.calibrate import fit_calibration
from sficonv.evaluation.platt import calibrated as with_calibration
from sficonv.models import load_weights, save_weights
from sficonv.models.checkpoint import read_card

PACKAGE = Path(__file__).parents[1]
WEIGHTS = PACKAGE / "src" / "sficonv" / "weights" / "sfic_efficientnet_lite0.safetensors"
CELEBDF = "Celeb-DF v2 crops (cross-dataset)"
STYLEGAN = "StyleGAN faces (not trained on)"
ALARM_MARKS = (
    "<!-- false alarms: written by benchmarks/publish_detector.py -->",
    "<!-- end of false alarms -->",
)
LIMITS = [
    "Trained on 18 original FaceForensics++ identities in full videos, crops of 237 more, and real "
    "photographs: small data, so its figures on other footage are lower and its intervals wide.",
    "Learnt from face swaps, reenactments and blends of real faces. Whole-image synthesis (StyleGAN, "
    "diffusion), lip-sync, beauty filters and audio are outside of what it was trained for.",
    "The epoch was chosen, and temperature and uncertain band were set, on the FaceForensics++ validation "
    "split: the figures on that split are too good. Celeb-DF was used for nothing but measuring.",
    "Heavy compression, blur and faces under 40 px hide the traces it looks for.",
    "Faces in the training data are not balanced by age, gender or skin tone; error rates by group are not "
    "measured.",
    "A score is a reason to look closer, never evidence on its own.",
]


def limits(measured: dict[str, dict[str, Any]], alarms: dict[str, dict[str, Any]]) -> list[str]:
    """The standing limits, and first of all what was measured on foreign footage."""
    auc, called = measured[CELEBDF]["video_auc"][0], alarms[f"{CELEBDF}, its reals"]["called_fake"]
    finding = (
        f"Do not rely on it outside of footage like FaceForensics++ c23: on Celeb-DF its video AUC is "
        f"{auc:.2f} (0.5 is chance) and it calls {called:.0%} of the real videos forged."
    )
    return [finding, *LIMITS]


def scored(model: Any, prepared: Path, name: str, split: str | None, **where: Any) -> pd.DataFrame:
    """Uncalibrated scores of the rows of one prepared folder."""
    rows = read_manifest(prepared / name)
    rows = rows if split is None else rows[rows["split"] == split]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return predict(model, rows.reset_index(drop=True), prepared / name)


def figures(rows: pd.DataFrame) -> dict[str, Any]:
    result = judge(rows)
    return {
        "videos": result.counts["videos"],
        "frames": result.counts["frames"],
        **{
            f"{level}_{name}": [round(x, 4) for x in values[name]]
            for level, values in (("video", result.video), ("frame", result.frame))
            for name in ("auc", "bacc", "eer")
        },
    }


def false_alarms(rows: pd.DataFrame, band: tuple[float, float]) -> dict[str, Any]:
    videos = frame_to_video(rows[rows["label"] == 0])["p_fake"]
    return rates(len(videos), int((videos > band[1]).sum()), int(videos.between(*band).sum()))


def rates(items: int, called_fake: int, uncertain: int) -> dict[str, Any]:
    """Shares of so many real photographs or videos, with Wilson's interval for the false alarms."""
    interval = binomtest(called_fake, items).proportion_ci(method="wilson")
    return {
        "items": items,
        "called_fake": round(called_fake / items, 4),
        "called_fake_95": [round(interval.low, 4), round(interval.high, 4)],
        "uncertain": round(uncertain / items, 4),
    }


def reals_of(name: str) -> str:
    """What the real faces of a measured set are called."""
    return "FFHQ photographs (held out)" if name == STYLEGAN else f"{name}, its reals"


def write_alarms(alarms: dict[str, dict[str, Any]]) -> str:
    """Write the table of false alarms into docs/results.md; gives it back."""
    lines = [
        "| real faces of | items | called fake [95 %] | uncertain |",
        "|---|---|---|---|",
    ]
    for name, a in alarms.items():
        low, high = a["called_fake_95"]
        called = f"{a['called_fake']:.1%} [{low:.1%}, {high:.1%}]"
        lines.append(f"| {name} | {a['items']} | {called} | {a['uncertain']:.1%} |")
    write_between(PACKAGE / "docs" / "results.md", ALARM_MARKS, lines)
    return "\n".join(lines)


def restate() -> None:
    """Bring the false alarms of the shipped card into the form that is written now."""
    card = read_card(WEIGHTS)
    names = {f"{STYLEGAN}, its reals": reals_of(STYLEGAN)}
    card["false_alarms"] = {
        names.get(name, name): rates(
            a["items"], *(round(a["items"] * a[k]) for k in ("called_fake", "uncertain"))
        )
        for name, a in card["false_alarms"].items()
    }
    WEIGHTS.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(write_alarms(card["false_alarms"]))


def table(measured: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| data | videos | crops | video AUC [95 %] | frame AUC [95 %] | video BACC |",
        "|---|---|---|---|---|---|",
    ]
    for name, f in measured.items():
        video, frame = ("{:.3f} [{:.3f}, {:.3f}]".format(*f[f"{level}_auc"]) for level in ("video", "frame"))
        lines.append(
            f"| {name} | {f['videos']} | {f['frames']} | {video} | {frame} | {f['video_bacc'][0]:.3f} |"
        )
    return "\n".join(lines)


def publish(prepared: Path, weights: Path) -> None:
    """Calibrate, measure, and write weights, card and documents."""
    model, card = load_weights(weights)
    with tempfile.TemporaryDirectory() as folder:  # what is measured is what is shipped: 16 bits
        model, _ = load_weights(save_weights(Path(folder) / "half", model, half=True))

    def score(name: str, split: str | None, **where: Any) -> pd.DataFrame:
        return scored(model, prepared, name, split, **where)

    val = score("ffpp", "val")
    fitted = fit_calibration(val)
    band = fitted.calibration.uncertain
    sets = {
        "FF++ c23, validation identities": val[val["compression"] == "c23"],
        "FF++ c40, validation identities": val[val["compression"] == "c40"],
        CELEBDF: score("celebdf", "test"),
        "hand-made composites (not trained on)": score("ciplab", None),
        STYLEGAN: score("ffhq", "test"),
    }
    reals = {
        "London photographs (held out)": score("london", "test"),
        "CelebA (held out)": score("celeba", "test"),
    }

    def calibrated(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(p_fake=with_calibration(rows["p_fake"], fitted.calibration))

    measured = {name: figures(calibrated(rows)) for name, rows in sets.items()}
    per_method = judge(calibrated(val)).per_method
    alarms = {
        name: false_alarms(calibrated(rows), band)
        for name, rows in (reals | {reals_of(n): r for n, r in sets.items()}).items()
    }
    kept = {key: card[key] for key in ("data", "crop", "recipe", "training", "versions") if key in card}
    document = {
        **kept,
        "metrics": measured,
        "false_alarms": alarms,
        "calibration": {
            **fitted.entries(validation="FaceForensics++, c23 and c40")["calibration"],
        },
        "limits": limits(measured, alarms),
    }
    path = save_weights(WEIGHTS, model, document, half=True)
    methods = [
        "",
        "By manipulation (FF++ validation identities, video AUC):",
        "",
        "| manipulation | c23 | c40 |",
        "|---|---|---|",
    ]
    pivot = per_method.pivot_table(index="method", columns="compression", values="video_auc")
    for name, row in pivot.iterrows():
        cells = ["–" if pd.isna(row.get(c)) else f"{row[c]:.3f}" for c in ("c23", "c40")]
        methods.append(f"| {name} | {cells[0]} | {cells[1]} |")
    note = (
        f"\nTemperature {fitted.calibration.temperature:.2f}, uncertain band {band[0]:.2f} to {band[1]:.2f}, "
        "both from the validation split."
    )
    marks = ("<!-- shipped: written by benchmarks/publish_detector.py -->", "<!-- end of shipped -->")
    write_between(PACKAGE / "docs" / "results.md", marks, [table(measured), *methods, note])
    write_between(PACKAGE / "README.md", marks, [table(measured)])
    print(
        table(measured),
        "\n".join([*methods, note]),
        write_alarms(alarms),
        f"\n{path} ({path.stat().st_size / 1e6:.1f} MB)",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, nargs="?")
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--restate", action="store_true", help="only write the card's false alarms anew")
    args = parser.parse_args()
    if args.restate:
        restate()
    elif args.weights is None:
        parser.error("name the prepared folder and the weights, or --restate")
    else:
        publish(args.prepared, args.weights)


if __name__ == "__main__":
    main()
