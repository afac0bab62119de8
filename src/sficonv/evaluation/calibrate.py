"""Calibrate a detector on validation faces and write the result into its model card."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from sficonv.datasets.manifest import manifest_hash, prepared_folder, read_manifest, read_protocol, some
from sficonv.errors import DataError, WeightsError
from sficonv.evaluation.calibration import (
    apply_temperature,
    fit_temperature,
    fit_threshold,
    uncertain_band,
)
from sficonv.evaluation.evaluate import rows_of
from sficonv.evaluation.metrics import at_threshold
from sficonv.evaluation.score_table import table_in_memory
from sficonv.evaluation.scores import collect
from sficonv.evaluation.scoring import predict
from sficonv.files import atomic_file
from sficonv.models.checkpoint import DEFAULT, load_weights, resolve_weights


@dataclass(frozen=True)
class Calibration:
    """What was fitted on validation scores, and on how much of them.

    Args:
        temperature: Divides the logits.
        uncertain: Band of calibrated scores in which no verdict is given.
        threshold: Calibrated score of a video from which it is called fake, for the wanted false-alarm rate.
        wanted: That rate.
        rates: `fpr` and `tpr` of the threshold on the same videos, with exact 95 % intervals (`_low`,
            `_high`).
        counts: `real_videos`, `fake_videos`, `crops`, and `unreadable`, which were left out.
        notes: What makes it doubtful.
        card: The file it was written to; `None` where it was not.
    """

    temperature: float
    uncertain: tuple[float, float]
    threshold: float
    wanted: float
    rates: dict[str, float]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)
    card: str | None = None

    def entry(self) -> dict[str, Any]:
        """The entry `calibration` of a model card."""
        interval = [round(self.rates[f"fpr_{edge}"], 6) for edge in ("low", "high")]
        return {
            "temperature": self.temperature,
            "uncertain": list(self.uncertain),
            "threshold": self.threshold,
            "false_alarm_rate": {
                "wanted": self.wanted, "validation": round(self.rates["fpr"], 6), "interval_95": interval
            },
            "detection_rate": round(self.rates["tpr"], 6),
            **self.counts,
            "notes": self.notes,
        }  # fmt: skip

    def summary(self) -> str:
        """The calibration for people."""
        r, c = self.rates, self.counts
        lines = [
            f"calibrated on {c['real_videos']} real and {c['fake_videos']} fake videos "
            f"({c['crops']} crops) of the validation split",
            f"temperature {self.temperature:.4g}, uncertain from {self.uncertain[0]} to {self.uncertain[1]}",
            f"threshold {self.threshold:g} for a false-alarm rate of at most {self.wanted:g}: there it is "
            f"{r['fpr']:.4g} [{r['fpr_low']:.4g}, {r['fpr_high']:.4g}], "
            f"and {r['tpr']:.1%} of the fakes are found",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join([*lines, f"card: {self.card}"] if self.card else lines)


def fit_calibration(scored: pd.DataFrame, *, false_alarm_rate: float = 0.01) -> Calibration:
    """Fit temperature, uncertain band and threshold to validation scores.

    The temperature is fitted to crops; band and threshold to the mean score of each video, as `evaluate` has
    it.

    Args:
        scored: Uncalibrated scores as `predict` gives them (`label`, `p_fake`, `video_id`, ...). Where there
            is a column `split`, all of it must say "val".
        false_alarm_rate: Wanted share of real videos called fake.

    Raises:
        DataError: If a row is not of the validation split or unusable, or real or fake faces are missing.
        ValueError: If the rate is out of range.

    Example:
        >>> scored = pd.DataFrame({"video_id": list("abcd"), "label": [0, 0, 1, 1],
        ...                        "p_fake": [0.2, 0.6, 0.7, 0.9]})
        >>> fit_calibration(scored, false_alarm_rate=0.0).counts["real_videos"]
        2
    """
    if "split" in scored and (wrong := sorted(set(scored["split"]) - {"val"})):
        raise DataError(f"calibration takes rows of the validation split only, there are some of {wrong}")
    rows, left_out = collect(table_in_memory(scored, "validation scores"))
    if len(labels := set(rows.label.tolist())) < 2:
        missing = "faces" if not labels else "fake faces" if labels == {0} else "real faces"
        raise DataError(
            f"calibration needs validation scores of real and of fake faces, there are no {missing}"
        )
    temperature = round(fit_temperature(rows.label, rows.p_fake), 4)  # as it will stand in the card
    videos = replace(rows, p_fake=apply_temperature(rows.p_fake, temperature)).per_video()
    threshold = fit_threshold(videos.label, videos.p_fake, false_alarm_rate=false_alarm_rate)
    rates = at_threshold(videos.label, videos.p_fake, threshold)
    fakes = int(videos.label.sum())
    reals = len(videos) - fakes
    notes = []
    if reals * false_alarm_rate < 1:
        notes.append(
            f"{reals} real videos cannot show a false-alarm rate of {false_alarm_rate:g}: on such footage "
            f"it may be up to {rates['fpr_high']:.2g} (95 % interval), on other footage anything"
        )
    if left_out.unreadable:
        notes.append(f"{left_out.unreadable} crops were left out, the first: {left_out.first_error}")
    counts = {
        "real_videos": reals, "fake_videos": fakes, "crops": len(rows), "unreadable": left_out.unreadable
    }  # fmt: skip
    return Calibration(
        temperature,
        uncertain_band(videos.label, videos.p_fake),
        threshold,
        false_alarm_rate,
        {name: value for name, value in rates.items() if name[:3] in ("fpr", "tpr")},
        counts,
        notes,
    )


def calibrate(
    weights: str | Path,
    data: str | Path,
    *,
    false_alarm_rate: float = 0.01,
    out: str | Path | None = None,
    batch_size: int = 32,
    device: str | None = None,
    workers: int = 0,
) -> Calibration:
    """Set a detector's temperature, uncertain band and threshold on the validation split.

    They are written into the model card; the weights do not change. Rows of the test split are never opened:
    what is set on them cannot be measured on them. The band decides the scanner's verdict; `evaluate` reports
    its error rates at the threshold, too.

    Args:
        weights: A `.safetensors` file with its card, or `"default"` for the shipped detector.
        data: A folder made by `prepare`, with a validation split.
        false_alarm_rate: Wanted share of real videos called fake at the threshold.
        out: Weights file to write, a copy with the new card beside it. Default: the card of `weights` is
            replaced.
        batch_size: Crops per forward pass.
        device: `"cpu"`, `"cuda"`, ...; default: a GPU where there is one.
        workers: Processes that decode crops.

    Returns:
        What was set, with the false-alarm rate on the validation split and its exact 95 % interval.

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
    manifest = read_manifest(data)
    rows = rows_of(manifest, "val", data)
    _refuse_shared_footage(manifest, rows, data)
    model, card = load_weights(weights)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    scored = predict(model, rows, prepared_folder(data), batch_size=batch_size, device=where, workers=workers)
    fitted = fit_calibration(scored, false_alarm_rate=false_alarm_rate)
    protocol = read_protocol(data)
    if protocol is not None and protocol.leaky:
        fitted.notes.append(f"splits by {protocol}")
    source = {"data": str(data), "split": "val", "rows_hash": manifest_hash(rows)}
    file = _write_card(
        resolve_weights(weights), out, card | {"calibration": fitted.entry() | {"from": source}}
    )
    return replace(fitted, card=str(file))


def _refuse_shared_footage(manifest: pd.DataFrame, rows: pd.DataFrame, data: str | Path) -> None:
    others = manifest[manifest["split"].isin(["train", "test"])]
    for column, what in (("video_id", "videos"), ("sha256", "crops")):
        if shared := sorted(set(rows[column]) & set(others[column]) - {""}):
            raise DataError(
                f"{data}: {len(shared)} {what} of the validation split are in another split too: "
                f"{some(shared)}; see `sficonv check {data}`"
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
