"""Figure 5 of the paper with numbers: where one detector looks in fakes, beside another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from sficonv.attention.maps import attention_numbers, average_attention
from sficonv.errors import DataError
from sficonv.estimate import Estimate
from sficonv.files import sha256_of
from sficonv.models.checkpoint import load_weights, resolve_weights
from sficonv.models.config import ModelConfig
from sficonv.models.inference import usual_device
from sficonv.paper.attention.fakes import Fake, draw_fakes, forged_pixels
from sficonv.paper.attention.look import KINDS, Looked, look
from sficonv.paper.attention.report import AttentionReport
from sficonv.paper.attention.statistics import average_numbers, mean_interval, middle, other_groups

FEW_FOOTAGE = 10


def compare_attention(
    data: str | Path,
    *,
    weights: str | Path = "default",
    against: str | Path | None = None,
    split: Literal["train", "val", "test", "all"] = "test",
    average: str | Sequence[int] = "4,8,16",
    images: int = 64,
    self_blend: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
    out: str | Path = "attention",
    batch_size: int = 16,
    device: str | None = None,
) -> AttentionReport:
    """Measure where a detector looks in fakes, alone or beside another detector (the paper's figure 5).

    One face is drawn from each of several fake videos. Each detector gives a forgery attention map (FAM: how
    much each pixel moves the verdict) and Grad-CAM for each; averages of the FAMs of some fakes (AFAM) are
    drawn over the mean face. The numbers say how far the maps spread, where they lie and, where masks are
    known, how much of them lies on forged pixels.

    Args:
        data: A folder made by `prepare`.
        weights: A `.safetensors` file with its card, or "default" for the shipped detector.
        against: Weights of a detector to compare with, for example of the vanilla network.
        split: Which split: "train", "val", "test", or "all".
        average: Numbers of fakes to average over, separated by commas.
        images: Number of fakes to measure; fewer where there are fewer videos.
        self_blend: Forge the real faces of the data by blending each with itself, instead of taking its
            fakes: where they are forged is then known exactly.
        bootstrap: Resamplings for the intervals; 0 for none.
        seed: Seed of the choice of faces, the forgeries and the intervals.
        out: Folder for `figure.png`, `attention.json`, `numbers.csv` (a row per figure) and `images.csv`
            (a row per fake, detector and kind of map); made if missing.
        batch_size: Faces judged at once.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU where there is one.

    Returns:
        The numbers with intervals, and the files.

    Raises:
        DataError: The split holds too few fakes.
        WeightsError: If weights cannot be used.
        ValueError: If an argument is out of range.

    Example:
        >>> report = compare_attention("faces", images=100, average=[4, 8, 16])  # doctest: +SKIP
        >>> rich.print(report.summary())                                         # doctest: +SKIP
    """
    from sficonv.paper.attention.figure import draw_figure

    sizes = _sizes(average)
    if images < 1 or batch_size < 1 or bootstrap < 0:
        raise ValueError("images and batch_size must be at least 1 and bootstrap at least 0")
    files = [weights] if against is None else [weights, against]
    models = [load_weights(file) for file in files]
    fakes, problems = draw_fakes(data, max(images, *sizes), split=split, self_blend=self_blend, seed=seed)
    _refuse_too_few(fakes, sizes, data, split, self_blend)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    place = device or usual_device()
    config: ModelConfig = models[0][0].config  # type: ignore[assignment]
    side = config.image_size
    looked = [
        look(model, card, label, fakes, side=side, batch_size=batch_size, device=place)
        for (model, card), label in zip(models, _labels(models, files), strict=True)
    ]
    per_image = _per_image(looked, fakes, side)
    numbers = pd.DataFrame(
        [*_mean_rows(per_image, looked, bootstrap, seed), *_average_rows(looked, sizes, seed)]
    )
    report = AttentionReport(
        labels=[one.label for one in looked],
        weights=[str(file) for file in files],
        data=str(data),
        split=split,
        self_blend=self_blend,
        seed=seed,
        images=[fake.path for fake in fakes],
        footage=len({fake.footage for fake in fakes}),
        numbers=numbers,
        figure=draw_figure(folder / "figure.png", looked, fakes, sizes),
        notes=_notes(fakes, problems, models, data, split),
        provenance={
            "weights_sha256": [sha256_of(resolve_weights(file)) for file in files],
            "bootstrap": bootstrap,
            "side": side,
            "torch": torch.__version__,
        },
    )
    numbers.to_csv(folder / "numbers.csv", index=False)
    per_image.to_csv(folder / "images.csv", index=False)
    report.save(folder / "attention.json")
    return report


def _refuse_too_few(
    fakes: list[Fake], sizes: list[int], data: str | Path, split: str, self_blend: bool
) -> None:
    if len(fakes) < max(sizes):
        raise DataError(
            f"{data}: only {len(fakes)} videos of split {split!r} give a {'real' if self_blend else 'fake'} "
            f"face, too few for an average over {max(sizes)}: choose smaller ones with average (--average)"
        )


def _sizes(average: str | Sequence[int]) -> list[int]:
    parts = average.split(",") if isinstance(average, str) else average
    try:
        sizes = sorted({int(part) for part in parts})
    except ValueError as error:
        raise ValueError(f"average must be whole numbers separated by commas, got {average!r}") from error
    if not sizes or sizes[0] < 1:
        raise ValueError(f"average needs numbers of at least 1, got {average!r}")
    return sizes


def _labels(models: list[tuple[nn.Module, dict[str, Any]]], files: Sequence[str | Path]) -> list[str]:
    """The names of the networks, with those of their files where they are the same."""
    names = [str(card["model"]) for _, card in models]
    if len(set(names)) == len(names):
        return names
    labels = [f"{name} ({file})" for name, file in zip(names, files, strict=True)]
    return (
        labels if len(set(labels)) == len(labels) else [f"{label} #{i}" for i, label in enumerate(labels, 1)]
    )


def _per_image(looked: list[Looked], fakes: list[Fake], side: int) -> pd.DataFrame:
    masks = [None if fake.mask is None else forged_pixels(fake.mask, side) for fake in fakes]
    rows = []
    for one in looked:
        for kind in KINDS:
            for i, fake in enumerate(fakes):
                found = attention_numbers(one.maps[kind][i], masks[i])
                where = {"path": fake.path, "video": fake.video, "footage": fake.footage}
                rows.append({"detector": one.label, "map": kind, **where, "p_fake": one.p_fake[i], **found})
    return pd.DataFrame(rows)


def _mean_rows(
    per_image: pd.DataFrame, looked: list[Looked], bootstrap: int, seed: int
) -> list[dict[str, Any]]:
    """Means over the fakes, with intervals over their footage."""
    measured = [
        name for name in per_image.columns if name not in ("detector", "map", "path", "video", "footage")
    ]
    rows = []
    for kind in KINDS:
        of_kind = per_image[per_image["map"] == kind]
        tables = [of_kind[of_kind["detector"] == one.label] for one in looked]
        footage = tables[0]["footage"].to_numpy()
        for name in measured:
            if name == "p_fake" and kind != KINDS[0]:
                continue  # it does not depend on the map
            values = [table[name].to_numpy(float) for table in tables]
            known = np.isfinite(values).all(axis=0)  # the same fakes for both detectors
            if not known.any():
                continue
            columns = [*values, values[0] - values[-1]] if len(values) > 1 else values
            intervals = [
                mean_interval(column[known], footage[known], resamples=bootstrap, seed=seed)
                for column in columns
            ]
            what = "score" if name == "p_fake" else kind
            rows.append(_row(what, 1, name, int(known.sum()), intervals))
    return rows


def _average_rows(looked: list[Looked], sizes: list[int], seed: int) -> list[dict[str, Any]]:
    """The averages that are drawn, with limits over averages of other fakes."""
    rows = []
    maps = [one.maps["FAM"] for one in looked]
    for size in sizes:
        others = other_groups(len(maps[0]), size, seed=seed)
        shown = [attention_numbers(average_attention(of_one[:size])) for of_one in maps]
        spread = [average_numbers(of_one, others) for of_one in maps]
        for name in shown[0]:
            intervals = [
                Estimate(drawn[name], *middle(around.get(name)))
                for drawn, around in zip(shown, spread, strict=True)
            ]
            if len(maps) > 1:
                apart = spread[0][name] - spread[1][name] if len(others) else None
                intervals.append(Estimate(shown[0][name] - shown[1][name], *middle(apart)))
            rows.append(_row("AFAM", size, name, size, intervals))
    return rows


def _row(kind: str, of: int, name: str, count: int, intervals: list[Estimate]) -> dict[str, Any]:
    row: dict[str, Any] = {"map": kind, "average_of": of, "number": name, "fakes": count}
    for prefix, found in zip(("", "against_", "difference_"), intervals, strict=False):
        row |= {f"{prefix}{part}": value for part, value in found._asdict().items()}
    return row


def _notes(
    fakes: list[Fake],
    problems: list[str],
    models: list[tuple[nn.Module, dict[str, Any]]],
    data: str | Path,
    split: str,
) -> list[str]:
    notes = []
    if problems:
        notes.append(
            f"{len(problems)} face crops could not be read and were left out, the first: {problems[0]}"
        )
    footage = len({fake.footage for fake in fakes})
    if footage < len(fakes):
        notes.append(f"the {len(fakes)} fakes show {footage} people's footage: intervals draw whole footage")
    if footage < FEW_FOOTAGE:
        notes.append(f"only {footage} people's footage: too few for intervals to rely on")
    masked = sum(fake.mask is not None for fake in fakes)
    if masked < len(fakes):
        known = f"known for {masked} of {len(fakes)} fakes" if masked else "not known"
        notes.append(f"where the fakes are forged is {known}; --self-blend makes fakes for which it is")
    if split in ("train", "all"):
        notes.append(f"split {split!r} may hold faces that the detectors were trained on")
    return notes
