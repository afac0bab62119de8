"""Does SFIConv expand the attention of a detector (the paper's figure 5)? Writes docs/attention.md.

    python benchmarks/attention.py PREPARED VANILLA --out runs/attention

Compares the shipped SFIC-EfficientNet-Lite0 with the vanilla network of the same recipe: VANILLA is the
`average.pt` that `default_detector.py train --model efficientnet_lite0` wrote. Measured is where they look in
fakes of people they have never seen, the FaceForensics++ validation identities (PREPARED/ffpp, see the README
of this folder) and Celeb-DF (PREPARED/celebdf), and in self-blended faces of Celeb-DF, whose forged region is
known. Finished comparisons are not repeated. The pictures stay in --out: they show people.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.data import astronaut

from document import keep_rows, write_between
from publish_detector import read_weights
from sficonv import compare_attention, prepare, save_weights
from sficonv.faces.forging import shift_statistics
from sficonv.media.batches import Draw

MARKS = ("<!-- attention: written by benchmarks/attention.py -->", "<!-- end of attention -->")
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


def vanilla_weights(trained: Path, out: Path) -> Path:
    """What the training wrote, as weights with a card."""
    return save_weights(out / "vanilla", read_weights(trained, "efficientnet_lite0"), half=True)


def measure(prepared: Path, against: Path, name: str, out: Path) -> dict[str, Any]:
    """Compare the two networks on a set, unless that is done: what `attention.json` holds."""
    folder, options = SETS[name]
    result = out / name.lower().replace(",", "").replace("+", "").replace(" ", "-")
    if not (result / "attention.json").is_file():
        compare_attention(prepared / folder, against=against, out=result, **options)
    found: dict[str, Any] = json.loads((result / "attention.json").read_text(encoding="utf-8"))
    return found


def draw_example(against: Path, out: Path, images: Path) -> None:
    """The figure for the documentation: NASA's portrait of Eileen Collins, cut and tinted in many ways."""
    photos, faces = out / "photos", out / "faces"
    photos.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(16):
        left, top = rng.integers(0, 60, 2)
        window = torch.from_numpy(astronaut()[top : top + 400, left : left + 440].copy())
        changed = shift_statistics(window.permute(2, 0, 1)[None].float(), Draw(number, "cpu"))
        cut = changed[0].round().permute(1, 2, 0).to(torch.uint8).numpy()
        Image.fromarray(cut[:, ::-1] if number % 2 else cut).save(photos / f"{number:02}.png")
    prepare(photos, faces, label=0, split="test", workers=0)
    report = compare_attention(
        faces, against=against, self_blend=True, images=16, bootstrap=0, out=out / "example"
    )
    with Image.open(report.figure) as picture:
        small = picture.convert("RGB").resize((picture.width // 2, picture.height // 2))
        images.mkdir(exist_ok=True)
        small.save(images / "attention.jpg", quality=85)


def rows_of(results: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All that was measured: a row for each set, map and number."""
    for name, result in results.items():
        yield from ({"fakes": name, "images": len(result["images"])} | row for row in result["numbers"])


def table(results: dict[str, dict[str, Any]]) -> tuple[list[str], dict[str, list[int]]]:
    """Markdown rows, and for each measure of spread: differences above, around and below 0."""
    lines = ["| fakes | number | vanilla | SFIC | difference |", "|---" * 5 + "|"]
    verdicts: dict[str, list[int]] = {title: [0, 0, 0] for title in SPREAD}
    for name, result in results.items():
        rows = {(row["map"], row["average_of"], row["number"]): row for row in result["numbers"]}
        for title, *key in FIGURES:
            if (row := rows.get(tuple(key))) is None:
                continue
            value, low, high = (row[f"difference_{part}"] for part in ("value", "low", "high"))
            if title in SPREAD:
                verdicts[title][0 if low > 0 else 2 if high < 0 else 1] += 1
            apart = "" if title == "area of forged pixels" else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
            where = f"{name} ({len(result['images'])})"
            lines.append(f"| {where} | {title} | {row['against_value']:.3f} | {row['value']:.3f} | {apart} |")
    return lines, verdicts


def conclusion(verdicts: dict[str, list[int]]) -> list[str]:
    """What the differences say, in words."""
    lines = [
        f"- {title}: SFIC is wider in {above} of {above + around + below} comparisons, narrower in "
        f"{below}; in {around} the limits of the difference hold 0."
        for title, (above, around, below) in verdicts.items()
    ]
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
        f"**{verdict} ({counts}).** It is one network of one seed, not the paper's, and the limits are over "
        "fakes: another training may differ by more.",
    ]


def main() -> None:
    """Measure, and write the block."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("vanilla", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/attention"))
    parser.add_argument("--document", type=Path, default=Path("docs/attention.md"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    against = vanilla_weights(args.vanilla, args.out)
    draw_example(against, args.out, args.document.parent / "images")
    results = {name: measure(args.prepared, against, name, args.out) for name in SETS}
    keep_rows("attention", rows_of(results))
    lines, verdicts = table(results)
    head = (
        "The shipped SFIC-EfficientNet-Lite0 beside the vanilla network of the same recipe, seed and time. "
        "SFIC minus vanilla with its limits, as `sficonv attention` prints them. In brackets behind the "
        f"fakes: how many, one of each video. Machine: {platform.machine()}, {platform.system()}, "
        f"{os.cpu_count()} CPU cores; torch {version('torch')}, timm {version('timm')}."
    )
    write_between(args.document, MARKS, [head, "", *lines, "", *conclusion(verdicts)])


if __name__ == "__main__":
    main()
