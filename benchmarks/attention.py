"""Does SFIConv expand the attention of a detector (the paper's figure 5)? Writes docs/attention.md.

    python benchmarks/attention.py PREPARED --out runs/attention

Trains vanilla networks and their SFIC forms alike on the FaceForensics++ crops (PREPARED/ffpp, see the README
of this folder) and measures where they look in fakes of people they have never seen: the FaceForensics++
validation identities and Celeb-DF (PREPARED/celebdf), and in self-blended faces of Celeb-DF, whose forged
region is known. Finished runs are not repeated. The pictures stay in --out: they show people.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from skimage.data import astronaut

from document import keep_rows, write_between
from sficonv import compare_attention, prepare, train
from sficonv.datasets.manifest import read_manifest, write_manifest
from sficonv.faces.forging import shift_statistics
from sficonv.media.batches import Draw

MARKS = ("<!-- attention: written by benchmarks/attention.py -->", "<!-- end of attention -->")
PAIRS = {  # vanilla, SFIC, whether they start from ImageNet weights
    "lite0": ("efficientnet_lite0", "sfic_efficientnet_lite0", True),
    "resnet26": ("resnet26", "sfic_resnet26", False),
}
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "FF++ val": ("ffpp", {"split": "val"}),
    "Celeb-DF": ("celebdf", {"split": "test"}),
    "Celeb-DF, self-blended": ("celebdf", {"split": "test", "self_blend": True}),
}
FIGURES = [  # column of the table: map, over how many fakes, number
    ("P(fake)", "score", 1, "p_fake"),
    ("FAM area above ½", "FAM", 1, "area_above_half"),
    ("FAM entropy", "FAM", 1, "entropy"),
    ("Grad-CAM area above ½", "Grad-CAM", 1, "area_above_half"),
    ("AFAM of 16 area above ½", "AFAM", 16, "area_above_half"),
    ("FAM on forged pixels", "FAM", 1, "inside_mask"),
    ("Grad-CAM on forged pixels", "Grad-CAM", 1, "inside_mask"),
    ("area of forged pixels", "FAM", 1, "mask_area"),
]
SPREAD = ("FAM area above ½", "FAM entropy", "Grad-CAM area above ½", "AFAM of 16 area above ½")


def training_data(args: argparse.Namespace) -> Path:
    """All training crops of FaceForensics++, and few validation crops: nothing is chosen by them."""
    folder = args.out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "crops").is_symlink():
        (folder / "crops").symlink_to((args.prepared / "ffpp" / "crops").resolve())
        rows = read_manifest(args.prepared / "ffpp")
        few = rows[rows["split"] == "val"].drop_duplicates("video_id")
        write_manifest(folder, pd.concat([rows[rows["split"] == "train"], few]).reset_index(drop=True))
    return folder


def trained(model: str, pretrained: bool, seed: int, args: argparse.Namespace) -> Path:
    """The weights of one network, trained unless they are there."""
    folder = args.out / f"{args.steps}x{args.image_size}" / f"{model}-seed{seed}"
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        started = time.time()
        train(
            training_data(args),
            model=model,
            recipe="finetune",
            pretrained=pretrained,
            lr=4e-4 if pretrained else 1e-3,
            ema_decay=0.0,
            epochs=1,
            steps_per_epoch=args.steps,
            image_size=args.image_size,
            seed=seed,
            workers=0,
            out=folder,
        )
        print(model, seed, f"trained in {time.time() - started:.0f} s", flush=True)
    return weights


def measure(pair: str, seed: int, args: argparse.Namespace) -> None:
    """Compare one vanilla network with its SFIC form on each set."""
    vanilla, sfic, pretrained = PAIRS[pair]
    files = {name: trained(name, pretrained, seed, args) for name in (vanilla, sfic)}
    for name, (folder, options) in SETS.items():
        out = result_folder(pair, seed, name, args)
        if not (out / "attention.json").is_file():
            compare_attention(
                args.prepared / folder, weights=files[sfic], against=files[vanilla], out=out, **options
            )


def result_folder(pair: str, seed: int, name: str, args: argparse.Namespace) -> Path:
    key = name.lower().replace(",", "").replace("+", "").replace(" ", "-")
    return args.out / f"{args.steps}x{args.image_size}" / f"{pair}-seed{seed}-{key}"


def draw_example(args: argparse.Namespace) -> None:
    """The figure for the documentation: NASA's portrait of Eileen Collins, cut and tinted in many ways."""
    vanilla, sfic, pretrained = PAIRS[args.pairs[0]]
    files = [trained(name, pretrained, args.seeds[0], args) for name in (vanilla, sfic)]
    photos, faces = args.out / "photos", args.out / "faces"
    photos.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(16):
        left, top = rng.integers(0, 60, 2)
        window = torch.from_numpy(astronaut()[top : top + 400, left : left + 440].copy())
        changed = shift_statistics(window.permute(2, 0, 1)[None].float(), Draw(number, "cpu"))
        cut = changed[0].round().permute(1, 2, 0).to(torch.uint8).numpy()
        Image.fromarray(cut[:, ::-1] if number % 2 else cut).save(photos / f"{number:02}.png")
    prepare(photos, faces, label=0, split="test", workers=0)
    out = args.out / "example"
    report = compare_attention(
        faces, weights=files[1], against=files[0], self_blend=True, images=16, bootstrap=0, out=out
    )
    with Image.open(report.figure) as picture:
        small = picture.convert("RGB").resize((picture.width // 2, picture.height // 2))
        images = args.document.parent / "images"
        images.mkdir(exist_ok=True)
        small.save(images / "attention.jpg", quality=85)


def found(
    pair: str, name: str, args: argparse.Namespace, seeds: list[int] | None = None
) -> list[dict[str, Any]]:
    """What was measured with each seed."""
    files = [result_folder(pair, seed, name, args) / "attention.json" for seed in seeds or args.seeds]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def numbers(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All that was measured: a row for each pair, seed, set, map and number."""
    for pair, name, seed in product(args.pairs, SETS, args.seeds):
        for result in found(pair, name, args, [seed]):
            known = {"networks": pair, "fakes": name, "seed": seed, "images": len(result["images"])}
            yield from (known | row for row in result["numbers"])


def row_of(result: dict[str, Any], kind: str, of: int, number: str) -> dict[str, Any] | None:
    for row in result["numbers"]:
        if (row["map"], row["average_of"], row["number"]) == (kind, of, number):
            return row
    return None


def difference(row: dict[str, Any]) -> str:
    value, low, high = (row[f"difference_{part}"] for part in ("value", "low", "high"))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def table(args: argparse.Namespace) -> tuple[list[str], dict[str, list[int]]]:
    """Markdown rows, and for each measure of spread: differences above, around and below 0."""
    lines = ["| networks | fakes | number | vanilla | SFIC | difference by seed |", "|---" * 6 + "|"]
    verdicts: dict[str, list[int]] = {title: [0, 0, 0] for title in SPREAD}
    for pair in args.pairs:
        for name in SETS:
            results = found(pair, name, args)
            for title, *key in FIGURES:
                rows = [row for result in results if (row := row_of(result, *key)) is not None]  # type: ignore[arg-type]
                if not rows:
                    continue
                if title in SPREAD:
                    for row in rows:
                        side = 0 if row["difference_low"] > 0 else 2 if row["difference_high"] < 0 else 1
                        verdicts[title][side] += 1
                means = [np.mean([row[column] for row in rows]) for column in ("against_value", "value")]
                apart = "" if title == "area of forged pixels" else "; ".join(map(difference, rows))
                where = f"{name} ({len(results[0]['images'])})"
                lines.append(
                    f"| {PAIRS[pair][0]} | {where} | {title} | {means[0]:.3f} | {means[1]:.3f} | {apart} |"
                )
    return lines, verdicts


def conclusion(verdicts: dict[str, list[int]]) -> list[str]:
    """What the differences say, in words."""
    lines = []
    for title, (above, around, below) in verdicts.items():
        lines.append(
            f"- {title}: SFIC is wider in {above} of {above + around + below} comparisons, narrower in "
            f"{below}; in {around} the limits of the difference hold 0."
        )
    above, around, below = np.sum(list(verdicts.values()), axis=0)
    if below == 0 and above > around:
        verdict = "The expanded attention of the paper's figure 5 shows in most of these comparisons"
    elif above == 0 and below > around:
        verdict = "These comparisons show the opposite of the expanded attention of the paper's figure 5"
    else:
        verdict = (
            "These comparisons do not settle whether attention expands as in the paper's figure 5: it "
            "depends on what is measured and on which fakes"
        )
    counts = f"{above} wider, {below} narrower, {around} undecided"
    return [
        *lines,
        "",
        f"**{verdict} ({counts}).** These are small networks after a short training, not the paper's, and "
        "the limits are over fakes: another training run may differ by more.",
    ]


def budget_text(args: argparse.Namespace) -> str:
    done = [seed for seed in args.seeds if any(found(p, n, args, [seed]) for p in args.pairs for n in SETS)]
    return (
        f"Each network: {args.steps} steps of 32 crops at {args.image_size} px of the FaceForensics++ "
        "training split, recipe `finetune`, one epoch, nothing selected; seeds "
        f"{', '.join(map(str, done))}. EfficientNet-Lite0 starts from ImageNet weights, ResNet26 from "
        "scratch. vanilla and SFIC: means over the seeds; difference: SFIC minus vanilla with its limits, as "
        "`sficonv attention` prints them, for each seed. In brackets behind the fakes: how many, one of each "
        f"video. Machine: {platform.machine()}, {platform.system()}, {os.cpu_count()} CPU cores; torch "
        f"{version('torch')}, timm {version('timm')}."
    )


def main() -> None:
    """Train and measure, and write the block after each comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/attention"))
    parser.add_argument("--document", type=Path, default=Path("docs/attention.md"))
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--image-size", type=int, default=128)
    args = parser.parse_args()
    logging.getLogger("sficonv").setLevel(logging.ERROR)
    draw_example(args)
    for seed in args.seeds:
        for pair in args.pairs:
            measure(pair, seed, args)
            keep_rows("attention", numbers(args))
            lines, verdicts = table(args)
            write_between(
                args.document, MARKS, [budget_text(args), "", *lines, "", *conclusion(verdicts), ""]
            )


if __name__ == "__main__":
    main()
