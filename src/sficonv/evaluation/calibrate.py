"""Calibrate a detector on validation faces of many sources and write the result into its model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sficonv.card import Calibration
from sficonv.datasets.manifest import manifest_hash, prepared_folder, read_manifest, read_protocol
from sficonv.errors import DataError, WeightsError, first_few
from sficonv.evaluation.evaluate import rows_of
from sficonv.evaluation.platt import calibrated_scores, fit_platt
from sficonv.evaluation.pooled import (
    FALSE_ALARMS,
    VerdictCounts,
    balanced,
    by_source_and_method,
    count_verdicts,
    items_of,
    mean_by_source,
    worst_source_threshold,
)
from sficonv.evaluation.predict import predict
from sficonv.evaluation.score_table import table_in_memory
from sficonv.evaluation.scores import read_scores
from sficonv.files import atomic_file
from sficonv.models.checkpoint import load_weights, resolve_weights
from sficonv.models.inference import asks_for_mirror, usual_device
from sficonv.shipped import DEFAULT
from sficonv.splits.split import drawn_splits

MISSED = 0.1
"""Share of the fakes that may lie below the uncertain band, each source and method weighing alike."""
NARROWEST = (0.45, 0.55)
"""The uncertain band covers at least these scores: about even odds are no reason for a verdict."""
_DIGITS = 6


@dataclass(frozen=True)
class FittedCalibration:
    """What was fitted on validation scores, and what it does on them.

    Args:
        calibration: Goes into the model card.
        wanted: Share of the real videos of the worst source that may be called fake.
        decides: The source whose reals put the threshold where it is.
        reals: The verdicts on the real videos, one entry per source.
        fakes: The verdicts on the fake videos, one entry per source and method.
        counts: `real_videos`, `fake_videos`, `crops`, and `unreadable`, which were left out.
        notes: What makes it doubtful.
        card: The file it was written to; `None` where it was not.
    """

    calibration: Calibration
    wanted: float
    decides: str
    reals: list[VerdictCounts]
    fakes: list[VerdictCounts]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)
    card: str | None = None

    def entries(self, **origin: Any) -> dict[str, Any]:
        """What a model card gets: `calibration`, `false_alarms` per source, `caught` per source and method.

        Args:
            **origin: Where the scores come from; stands under `calibration.from`.
        """
        fit = self.calibration
        return {
            "calibration": {
                "temperature": fit.temperature,
                "shift": fit.shift,
                "uncertain": list(fit.uncertain),
                "threshold": fit.threshold,
                "wanted_false_alarms": self.wanted,
                "decides": self.decides,
                **self.counts,
                "notes": self.notes,
                "from": origin,
            },
            "false_alarms": {one.source: one.entry() for one in self.reals},
            "caught": by_source_and_method(self.fakes),
        }

    def summary(self) -> str:
        """The calibration for people."""
        fit, c = self.calibration, self.counts
        worst = max(self.reals, key=lambda one: one.share)
        alarms = float(np.mean([one.share for one in self.reals]))
        caught = mean_by_source(self.fakes)
        least = min(self.fakes, key=lambda one: one.share)
        lines = [
            f"calibrated on {c['real_videos']} real and {c['fake_videos']} fake videos "
            f"({c['crops']} crops) of the validation split, {len(self.reals)} "
            f"source{'' if len(self.reals) == 1 else 's'} of real faces",
            f"temperature {fit.temperature:.4g}, shift {fit.shift:.4g}, uncertain from {fit.uncertain[0]:g} "
            f"to {fit.uncertain[1]:g}",
            f"called fake above {fit.threshold:g}, for at most {self.wanted:.3g} of the real videos of any "
            f"source ({self.decides} decides); all figures with 95 % intervals",
            "real videos called fake:",
            *(f"  {one.source}: {one}" for one in self.reals),
            f"  mean {alarms:.1%}, worst {worst.share:.1%} ({worst.source})",
            "fakes caught:",
            *(f"  {one.source}, {one.method}: {one}" for one in self.fakes),
            f"  mean over sources {float(np.mean(list(caught.values()))):.1%}, worst {least.share:.1%} "
            f"({least.source}, {least.method})",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join([*lines, f"card: {self.card}"] if self.card else lines)


def fit_calibration(scored: pd.DataFrame, *, false_alarm_rate: float = FALSE_ALARMS) -> FittedCalibration:
    """Fit the calibration and the uncertain band to validation scores of one or many sources.

    Temperature and shift are fitted to crops, each source weighing alike within a label, and each method
    within a source. Above the band lies at most the wanted share of the real videos of the worst source, by
    their mean scores, and of its single crops too: a photograph has no mean to rely on. Below it lie at most
    10 % of the fake videos (sources and methods weighing alike). It always covers 0.45 to 0.55.

    Args:
        scored: Uncalibrated scores as `predict` gives them (`label`, `p_fake`, `video_id`, ...). The column
            `source`, else `dataset`, names the source; without either, all is one. A source may have real
            faces only, or fakes only. Where there is a column `split`, all of it must say "val".
        false_alarm_rate: Wanted share of the real videos of the worst source called fake.

    Raises:
        DataError: If a row is not of the validation split or unusable, or real or fake faces are missing.
        ValueError: If the rate is out of range.

    Example:
        >>> scored = pd.DataFrame({"video_id": list("abcd"), "label": [0, 0, 1, 1],
        ...                        "p_fake": [0.2, 0.6, 0.7, 0.9]})
        >>> fit_calibration(scored, false_alarm_rate=0.0).counts["real_videos"]
        2
    """
    if not 0 <= false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must be in [0, 1), got {false_alarm_rate}")
    if "split" in scored and (wrong := sorted(set(scored["split"]) - {"val"})):
        raise DataError(f"calibration uses rows of the validation split only, and these include {wrong}")
    if "source" in scored:
        scored = scored.assign(dataset=scored["source"])
    crops, left_out = read_scores(table_in_memory(scored, "validation scores"))
    if len(labels := set(crops.label.tolist())) < 2:
        missing = "faces" if not labels else "fake faces" if labels == {0} else "real faces"
        raise DataError(
            f"calibration needs validation scores of real and of fake faces, there are no {missing}"
        )
    fitted = fit_platt(crops.label, crops.p_fake, balanced(items_of(crops)))
    fit = Calibration(round(fitted[0], 4), round(fitted[1], 4))  # as it will stand in the card
    scores = replace(crops, p_fake=calibrated_scores(crops.p_fake, fit))
    videos = items_of(scores.per_video())
    # a photograph is judged by a single crop, which is less sure than the mean of a video's
    lowest, decides = max(
        worst_source_threshold(items, false_alarm_rate) for items in (videos, items_of(scores))
    )
    threshold = max(_above(lowest), NARROWEST[1])
    low = min(_below(_missed(videos)), NARROWEST[0])
    reals, fakes = count_verdicts(videos, threshold, low)
    notes = [
        f"{one.items} real videos of {one.source} cannot show a false-alarm rate of {false_alarm_rate:g}: "
        f"on such footage it may be up to {one.interval[1]:.2g} (95 % interval), on other footage anything"
        for one in reals
        if one.items * false_alarm_rate < 1
    ]
    if left_out.unreadable:
        notes.append(f"{left_out.unreadable} crops were left out, the first: {left_out.first_error}")
    return FittedCalibration(
        replace(fit, uncertain=(low, threshold), threshold=threshold),
        false_alarm_rate,
        decides,
        reals,
        fakes,
        {
            "real_videos": sum(one.items for one in reals),
            "fake_videos": sum(one.items for one in fakes),
            "crops": len(crops),
            "unreadable": left_out.unreadable,
        },
        notes,
    )


def calibrate(
    weights: str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    false_alarm_rate: float = FALSE_ALARMS,
    out: str | Path | None = None,
    batch_size: int = 32,
    device: str | None = None,
    workers: int = 0,
) -> FittedCalibration:
    """Calibrate a detector's scores, uncertain band and threshold on the validation split of many sources.

    They are written into the model card; the weights do not change. Rows of the test split are never opened:
    they are for measuring what was set here. The band decides the scanner's verdict; its upper edge is
    the threshold at which `evaluate` reports error rates too. The threshold is the smallest that keeps the
    wanted rate on the real faces of every source: name many, as different as the footage you will scan.

    Args:
        weights: A `.safetensors` file with its card, or `"default"` for the shipped detector.
        data: A folder made by `prepare`, with a validation split, or several, such as `[a, b]`. Of several,
            each is a source by the name of its folder; of one, its datasets are the sources.
        false_alarm_rate: Wanted share of the real videos of the worst source that is called fake.
        out: Weights file to write, a copy with the new card beside it. Default: the card of `weights` is
            replaced.
        batch_size: Crops per forward pass.
        device: `"cpu"`, `"cuda"`, ...; default: a GPU where there is one.
        workers: Processes that decode crops.

    Returns:
        What was set, with the false alarms and the fakes caught per source, with 95 % intervals.

    Raises:
        DataError: If there is no validation split with real and fake faces, or its footage is in the test or
            training split too.
        WeightsError: If the weights cannot be loaded, or are the shipped ones and `out` is missing.
        ValueError: If an argument is out of range.

    Example:
        >>> print(calibrate("run/weights.safetensors", "faces").summary())  # doctest: +SKIP
    """
    if not 0 <= false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate must be in [0, 1), got {false_alarm_rate}")
    if str(weights) == DEFAULT and out is None:
        raise WeightsError(
            "the shipped detector's card stays as it is: name a copy with --out FILE.safetensors"
        )
    folders = [data] if isinstance(data, str | Path) else list(data)
    validation = {folder: _validation_rows(folder) for folder in folders}
    if len(names := {Path(folder).name for folder in folders}) < len(folders):
        raise ValueError(f"each folder of data needs a name of its own, as its source: {sorted(names)}")
    model, card = load_weights(weights)
    mirror = asks_for_mirror(card)
    where = device or usual_device()
    parts, origin, leaky = [], [], []
    for folder, rows in validation.items():
        root = prepared_folder(folder)
        scored = predict(
            model, rows, root, batch_size=batch_size, device=where, workers=workers, mirror=mirror
        )
        parts.append(scored if len(folders) == 1 else scored.assign(source=Path(folder).name))
        origin.append({"data": str(folder), "rows_hash": manifest_hash(rows)})
        protocol = read_protocol(folder)
        if protocol is not None and protocol.leaky:
            leaky.append(f"{folder}: splits by {protocol}")
    fitted = fit_calibration(pd.concat(parts, ignore_index=True), false_alarm_rate=false_alarm_rate)
    fitted.notes.extend(leaky)
    entries = fitted.entries(split="val", folders=origin)
    return replace(fitted, card=str(_write_card(resolve_weights(weights), out, card | entries)))


def _missed(videos: pd.DataFrame) -> float:
    """The largest score below which at most `MISSED` of the fakes lie."""
    fakes = videos[videos["label"] == 1].assign(weight=lambda rows: balanced(rows)).sort_values("p_fake")
    below = fakes.groupby("p_fake")["weight"].sum().cumsum()
    return float(below.index[(below > MISSED + 1e-9).to_numpy()][0])


def _above(score: float) -> float:
    """The next number of few digits that is not smaller: rounding must not let a false alarm in."""
    rounded = round(score, _DIGITS)
    return rounded if rounded >= score else round(rounded + 10**-_DIGITS, _DIGITS)


def _below(score: float) -> float:
    """The next number of few digits that is not larger."""
    rounded = round(score, _DIGITS)
    return rounded if rounded <= score else round(rounded - 10**-_DIGITS, _DIGITS)


def _validation_rows(data: str | Path) -> pd.DataFrame:
    manifest = read_manifest(drawn_splits(data))
    rows = rows_of(manifest, "val", data)
    _refuse_shared_footage(manifest, rows, data)
    return rows


def _refuse_shared_footage(manifest: pd.DataFrame, rows: pd.DataFrame, data: str | Path) -> None:
    others = manifest[manifest["split"].isin(["train", "test"])]
    for column, what in (("video_id", "videos"), ("sha256", "crops")):
        if shared := sorted(set(rows[column]) & set(others[column]) - {""}):
            raise DataError(
                f"{data}: {len(shared)} {what} of the validation split are in another split too: "
                f"{first_few(shared)}; see `sficonv check {data}`"
            )


def _write_card(weights: Path, out: str | Path | None, card: dict[str, Any]) -> Path:
    target = weights if out is None else Path(out).with_suffix(".safetensors")
    if target.resolve() != weights.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, target)
    file = target.with_suffix(".json")
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(card, indent=2, default=str) + "\n", encoding="utf-8")
    return file
