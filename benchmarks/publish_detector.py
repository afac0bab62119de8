"""Calibrate and measure a trained detector, and make it the one that the package ships.

    python benchmarks/publish_detector.py PREPARED runs/default/average.pt

PREPARED holds the prepared folders of `detector_data.py`. Calibration, band and threshold come from
validation rows of many sources, each weighing alike, and the worst of them sets the threshold. Celeb-DF, the
test split of FaceForensics++, LFW, the composites and all other test rows are only measured. Writes
`src/sficonv/weights/` (for PyTorch and as ONNX), the scores of every crop to
`benchmarks/measured/default_detector.csv`, and the figures into README.md and docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from document import write_between
from sficonv.datasets.manifest import read_manifest
from sficonv.deploy.export import export
from sficonv.detect.detector import Detector
from sficonv.detect.doctor import reference_inputs
from sficonv.evaluation import judge, predict
from sficonv.evaluation.benign import EditEffect, judge_edits
from sficonv.evaluation.calibrate import FittedCalibration, fit_calibration
from sficonv.evaluation.platt import calibrated_scores
from sficonv.evaluation.pooled import Pooled, VerdictCounts, count_verdicts, items_of, pooled
from sficonv.evaluation.robustness_scores import NamedDetector
from sficonv.evaluation.score_table import table_in_memory
from sficonv.evaluation.scores import read_scores
from sficonv.models import create_model, load_weights, save_weights

PACKAGE = Path(__file__).parents[1]
WEIGHTS = PACKAGE / "src" / "sficonv" / "weights" / "sfic_efficientnet_lite0.safetensors"
SCORES = PACKAGE / "benchmarks" / "measured" / "default_detector.csv"
MODEL, OPTIONS = "sfic_efficientnet_lite0", {"alpha": 0.5, "beta": 1.0}
MARKS = "<!-- shipped: written by benchmarks/publish_detector.py -->", "<!-- end of shipped -->"
ALARM_MARKS = (
    "<!-- false alarms: written by benchmarks/publish_detector.py -->",
    "<!-- end of false alarms -->",
)
EDIT_MARKS = "<!-- edits: written by benchmarks/publish_detector.py -->", "<!-- end of edits -->"
EDITED = ("lfw", "celeba", "ffhq", "london", "utkface", "celebdf", "ffpptest")
EDITED_ITEMS = 100
CALIBRATES = ("ffpp", "dfdc", "ffhq", "celeba", "london", "utkface")  # unless trained on
NAMES = {
    "celebdf": "Celeb-DF v2",
    "ffpptest": "FF++ official test split, Deepfakes",
    "dfdc": "DFDC",
    "ffhq": "FFHQ and StyleGAN",
    "ciplab": "hand-made composites",
    "lfw": "LFW",
    "london": "London photographs",
    "celeba": "CelebA",
    "utkface": "UTKFace",
}
TRAINED_ON = (
    "FaceForensics++ (c23, c40, and crops of more training identities)", "DFDC", "CelebA", "UTKFace",
    "FFHQ and StyleGAN", "London photographs", "hand-made composites",
)  # fmt: skip
ONE_THRESHOLD = ("celebdf", "ffpptest", "dfdc", "ffhq", "lfw")  # unless trained on


def scored(model: nn.Module, prepared: Path, name: str, split: str) -> pd.DataFrame:
    """Uncalibrated scores of one split of a prepared folder, averaged with the mirror image."""
    rows = read_manifest(prepared / name)
    rows = rows[rows["split"] == split].reset_index(drop=True)
    if name == "ffpp":  # neighbouring frames are nearly the same
        rows = rows[rows.groupby(["video_id", "compression", "method"]).cumcount() % 4 == 0]
    scores = predict(model, rows.reset_index(drop=True), prepared / name, mirror=True)
    return scores.assign(source=f"{name} " + scores["compression"]).assign(
        source=lambda r: r["source"].str.strip()
    )


def all_scores(model: nn.Module, prepared: Path) -> pd.DataFrame:
    """Every set that calibrates or is measured."""
    parts = [scored(model, prepared, name, "val") for name in CALIBRATES]
    parts += [scored(model, prepared, name, "test") for name in NAMES]
    kept = ["source", "split", "label", "method", "compression", "video_id", "source_ids", "path", "p_fake"]
    return pd.concat(parts, ignore_index=True)[kept].assign(error="")


def figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Metrics of one set with intervals over videos."""
    result = judge(rows.assign(dataset=rows["source"]))
    return {
        "videos": result.counts["videos"],
        "frames": result.counts["frames"],
        **{
            f"{level}_{name}": [round(x, 4) for x in values[name]]
            for level, values in (("video", result.video), ("frame", result.frame))
            for name in ("auc", "bacc", "eer")
        },
    }


def at_threshold(
    rows: pd.DataFrame, fitted: FittedCalibration
) -> tuple[list[VerdictCounts], list[VerdictCounts]]:
    """How the videos of test sets are judged by the shipped threshold."""
    scores = read_scores(table_in_memory(rows.assign(dataset=rows["source"]), "test scores"))[0]
    fit = fitted.calibration
    return count_verdicts(items_of(scores.per_video()), fit.threshold or 0.5, fit.uncertain[0])


def by_one_threshold(rows: pd.DataFrame, seen: list[str]) -> dict[str, Pooled]:
    """The figure that counts, for crops and for videos."""
    rows = rows[rows["source"].isin(set(ONE_THRESHOLD) - set(seen))]
    scores = read_scores(table_in_memory(rows.assign(dataset=rows["source"]), "test scores"))[0]
    return {"frame": pooled(scores, level="frame"), "video": pooled(scores.per_video(), level="video")}


def limits(
    measured: dict[str, Any], reals: list[VerdictCounts], fakes: list[VerdictCounts], seen: list[str]
) -> list[str]:
    """What is wrong with it; the first sentence stands beside every verdict."""
    fakes, reals = ([one for one in side if one.source not in seen] for side in (fakes, reals))
    worst = max(reals, key=lambda one: one.share)
    shares = [f"{one.share:.0%} ({NAMES[one.source]})" for one in fakes if one.source != "ciplab"]
    caught = " and ".join([", ".join(shares[:-1]), shares[-1]])
    composites = next(one for one in fakes if one.source == "ciplab")
    return [
        f"It leaves many forgeries undecided: on footage it never saw it calls {caught} of the fake videos "
        f"fake, and {worst.share:.1%} of the real items of the worst source ({NAMES[worst.source]}). It was "
        "measured on face swaps and StyleGAN faces, not on diffusion images, lip-sync or beauty filters.",
        f"It misses most hand-made composites: {composites.share:.0%} of them are called fake (AUC "
        f"{measured[NAMES['ciplab']]['video_auc'][0]:.2f}).",
        "Temperature, band and threshold come from validation rows of few sources, and FaceForensics++ has "
        "few real videos: the false-alarm rate on other footage may be higher (see the intervals).",
        *(
            [
                f"Trained on all of {', '.join(NAMES[name] for name in seen)}: figures on them are too "
                "good and are marked."
            ]
            if seen
            else []
        ),
        "Heavy compression, blur and faces under 40 px hide the traces it looks for.",
        "Faces in the training data are not balanced by age, gender or skin tone; error rates by group "
        "are not measured.",
        "A score is a reason to look closer, never evidence on its own.",
    ]


def table_of(measured: dict[str, dict[str, Any]]) -> list[str]:
    """The figures of each set, as README.md and docs/results.md show them."""
    table = [
        "| data | videos | crops | video AUC [95 %] | frame AUC [95 %] | fake videos called fake |",
        "|---|---|---|---|---|---|",
    ]
    for name, f in measured.items():
        video, frame = ("{:.3f} [{:.3f}, {:.3f}]".format(*f[f"{level}_auc"]) for level in ("video", "frame"))
        caught = f"{f['caught']:.1%}" if "caught" in f else "–"
        table.append(f"| {name} | {f['videos']} | {f['frames']} | {video} | {frame} | {caught} |")
    return table


def alarms_of(alarms: dict[str, dict[str, Any]]) -> list[str]:
    """The real items of each source that are called fake."""
    table = ["| real items of | items | called fake [95 %] | uncertain |", "|---|---|---|---|"]
    for name, a in alarms.items():
        low, high = a["called_fake_95"]
        called = f"{a['called_fake']:.1%} [{low:.1%}, {high:.1%}]"
        table.append(f"| {name} | {a['items']} | {called} | {a['uncertain']:.1%} |")
    return table


def one_threshold_of(one: dict[str, Pooled]) -> list[str]:
    """The figure that counts, in words and as a table."""
    lines = [
        "",
        "One threshold for all sources that were not trained on, such that at most 5 % of the real items of",
        "the worst source are called fake:",
        "",
        "| items | pooled AUC | decides | fakes caught |",
        "|---|---|---|---|",
    ]
    for level, p in one.items():
        shares = ", ".join(f"{NAMES[name]} {share:.0%}" for name, share in p.caught.items())
        items = "crops" if level == "frame" else "videos"
        lines.append(f"| {items} | {p.auc:.3f} | {NAMES[p.decides]} | {shares} |")
    return lines


def edits(prepared: Path) -> list[EditEffect]:
    """What harmless edits do to the verdicts on real test items, all sources together: one crop each of at
    most `EDITED_ITEMS` items of a source."""
    detector = NamedDetector.load("A", WEIGHTS, "cpu")
    total: dict[str, EditEffect] = {}
    for name in EDITED:
        rows = read_manifest(prepared / name)
        rows = rows[(rows["split"] == "test") & (rows["label"] == 0)].drop_duplicates("video_id")
        rows = rows.sample(min(len(rows), EDITED_ITEMS), random_state=0).reset_index(drop=True)
        for effect in judge_edits(detector, rows, prepared / name, split="test").effects:
            before = total.get(effect.edit, EditEffect(effect.edit, 0, 0, 0, 0, 0))
            counts = ("items", "changed", "called_fake", "called_fake_before")
            sums = {key: getattr(before, key) + getattr(effect, key) for key in counts}
            total[effect.edit] = EditEffect(effect.edit, 0, **sums)
    return list(total.values())


def edits_of(effects: list[EditEffect]) -> list[str]:
    """As docs/results.md shows them."""
    table = [
        "| edit | verdict changed [95 %] | called fake | without the edit |",
        "|---|---|---|---|",
    ]
    for effect in effects:
        e = effect.entry()
        low, high = e["changed_95"]
        table.append(
            f"| {effect.edit} | {e['changed']:.1%} [{low:.1%}, {high:.1%}] | {e['called_fake']:.1%} "
            f"| {e['called_fake_before']:.1%} |"
        )
    names = ", ".join(NAMES[name] for name in EDITED)
    return [f"{effects[0].items} real test items of {names}.", "", *table]


def read_weights(file: Path, name: str = MODEL) -> nn.Module:
    """The trained network of that name, from `default_detector.py` or from weights of this library."""
    if file.suffix == ".safetensors" and file.with_suffix(".json").exists():
        return load_weights(file)[0]
    model = create_model(name, **(OPTIONS if name == MODEL else {}))
    if file.suffix == ".safetensors":
        saved = load_file(file)
    else:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in saved.items()})
    return model.eval()


def about_training(log: Path) -> dict[str, Any]:
    """What the card says of the training whose log `default_detector.py` wrote."""
    written = json.loads(log.read_text(encoding="utf-8"))
    last = written["log"][-1]
    return {
        "script": "benchmarks/default_detector.py",
        "machine": written["machine"],
        **{name: last[name] for name in ("step", "seconds", "images_per_s", "loss")},
        "options": written["options"],
    }


def export_shipped() -> None:
    """The same detector for installations without PyTorch, with the same card inside."""
    made = export(WEIGHTS, out=WEIGHTS.with_suffix(".onnx"))
    made.path.with_name(f"{made.path.name}.json").unlink()  # all of it is in the file


def publish(prepared: Path, weights: Path, seen: list[str], log: Path | None, scores: Path | None) -> None:
    """Calibrate, measure, and write weights, card and documents."""
    model = read_weights(weights)
    card = {"inference": {"views": ["original", "mirrored"]}, "crop": {"margin": 1.3, "size": 256}}
    with tempfile.TemporaryDirectory() as folder:  # what is measured is what is shipped: 16 bits
        model, _ = load_weights(save_weights(Path(folder) / "half", model, dict(card), half=True))
    rows = pd.read_csv(scores, keep_default_na=False) if scores else all_scores(model, prepared)
    rows.to_csv(SCORES, index=False, float_format="%.6f")
    val, test = rows[rows["split"] == "val"], rows[rows["split"] == "test"]
    fitted = fit_calibration(val[~val["source"].isin(seen)])
    print(fitted.summary())

    def with_calibration(part: pd.DataFrame) -> pd.DataFrame:
        return part.assign(p_fake=calibrated_scores(part["p_fake"], fitted.calibration))

    test = with_calibration(test)
    footage = with_calibration(val[val["source"].str.startswith("ffpp ")])
    reals, fakes = at_threshold(test, fitted)

    def named(source: str) -> str:
        return NAMES[source] + (" (trained on)" if source in seen else "")

    measured = {
        named(one.source): figures(test[test["source"] == one.source]) | {"caught": round(one.share, 4)}
        for one in fakes
    }
    for compression in ("c23", "c40"):
        rows_of_it = footage[footage["compression"] == compression]
        measured[f"FF++ {compression}, validation identities"] = figures(rows_of_it)
    alarms = {named(one.source): one.entry() for one in reals}
    one = by_one_threshold(test, seen)
    document = {
        **card,
        **fitted.entries(split="val", sources=sorted(set(val["source"]) - set(seen))),
        "metrics": measured,
        "false_alarms": alarms,
        "one_threshold": {level: p.to_dict() for level, p in one.items()},
        "limits": limits(measured, reals, fakes, seen),
        "data": {
            "trained on": ", ".join(TRAINED_ON)
            + (
                f"; all rows of {', '.join(NAMES[name] for name in seen)}" if seen else "; training rows only"
            ),
            "terms": "these data sets are for research; the weights are offered for research",
        },
        "training": about_training(log) if log else {},
    }
    save_weights(WEIGHTS, model, document, half=True)
    effects = edits(prepared)
    document["benign"] = {effect.edit: effect.entry() for effect in effects}
    references = Detector(WEIGHTS, device="cpu").scores(reference_inputs())  # for `sficonv doctor`
    path = save_weights(WEIGHTS, model, document | {"reference_scores": references.tolist()}, half=True)
    export_shipped()
    table = table_of(measured)
    fit = fitted.calibration
    note = (
        f"\nTemperature {fit.temperature:.2f}, shift {fit.shift:.2f}; uncertain from "
        f"{fit.uncertain[0]:.3f} to {fit.uncertain[1]:.3f}, fake above; set by validation rows alone, "
        f"{fitted.decides} decides."
    )
    write_between(PACKAGE / "README.md", MARKS, table)
    write_between(PACKAGE / "docs" / "results.md", MARKS, [*table, note, *one_threshold_of(one)])
    write_between(PACKAGE / "docs" / "results.md", ALARM_MARKS, alarms_of(alarms))
    write_between(PACKAGE / "docs" / "results.md", EDIT_MARKS, edits_of(effects))
    print("\n".join([*table, note, *one_threshold_of(one), "", *alarms_of(alarms), "", *edits_of(effects)]))
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument(
        "--seen",
        nargs="*",
        choices=list(NAMES),
        default=[],
        help="sets whose held-out rows were trained on too",
    )
    parser.add_argument("--log", type=Path, help="log.json of the training, for the card")
    parser.add_argument("--scores", type=Path, help="scores of an earlier call, instead of scoring again")
    args = parser.parse_args()
    publish(args.prepared, args.weights, args.seen, args.log, args.scores)


if __name__ == "__main__":
    main()
