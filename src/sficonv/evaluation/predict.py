"""P(fake) of the face crops of a manifest: by a model of this library, or by anybody's function."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sficonv.card import Calibration
from sficonv.datasets.clips import cut_into_clips, tracks_of
from sficonv.datasets.crops import FaceCrops
from sficonv.errors import DataError, SficonvError
from sficonv.models.clips import pad_clips
from sficonv.models.config import to_inputs
from sficonv.models.inference import calibrated, mean_logits
from sficonv.progress import progress_bar

Predictor = Callable[[str], float]


class _Readable(Dataset[Any]):
    """`FaceCrops` whose unreadable items are an error text instead of an exception."""

    def __init__(self, crops: FaceCrops) -> None:
        self.crops = crops

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> tuple[int, Tensor | None, str]:
        try:
            return index, self.crops[index][0], ""
        except (SficonvError, OSError) as error:
            return index, None, str(error)


def as_list(items: list[Any]) -> list[Any]:
    """Items of a batch as they are: crops may differ in size, they are stacked only after resizing."""
    return items


def predict(
    model: nn.Module,
    df: pd.DataFrame,
    root: str | Path,
    *,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    workers: int = 0,
    calibration: Calibration | None = None,
    mirror: bool = False,
) -> pd.DataFrame:
    """Score the face crops of a manifest.

    A model of clips judges the crops of a track together, in clips of its length, and each crop has the score
    of its clip. One that cannot be read is left out of it.

    Args:
        model: Maps `(B, 3, H, W)` to logits `(B, 2)` and carries a `config`; left in the mode it was in.
        df: Manifest rows (`path`, `label`; for clips also `video_id`, `face` and `frame`).
        root: Folder that `path` is relative to.
        batch_size: Crops per forward pass, at least one clip.
        device: Where to compute; the model is moved there. Default: where the model is.
        workers: Processes that decode crops; 0 decodes in this one.
        calibration: From the model card; default: none, the scores are the network's own.
        mirror: Average the logits over each crop and its mirror image, see
            `sficonv.models.inference.asks_for_mirror`.

    Returns:
        `df` with `p_fake` and `error`. A crop that cannot be read has `p_fake` `nan` and the reason.

    Raises:
        ValueError: If `batch_size` is not positive.

    Example:
        >>> scores = predict(model, read_manifest("prepared"), "prepared")  # doctest: +SKIP
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    place = next(model.parameters(), torch.empty(0)).device if device is None else torch.device(device)
    model.to(place)
    scores, errors = np.full(len(df), math.nan), np.full(len(df), "", dtype=object)
    crops = _Readable(FaceCrops(df, root))
    frames: int = model.config.frames  # type: ignore[union-attr, assignment]
    clips = cut_into_clips(tracks_of(df), frames) if frames > 1 else list(np.arange(len(df))[:, None])
    clip_of = np.zeros(len(df), np.int64)
    for number, rows in enumerate(clips):
        clip_of[rows] = number
    together = max(1, batch_size // frames)
    batches = [np.concatenate(clips[i : i + together]).tolist() for i in range(0, len(clips), together)]
    loader = DataLoader(crops, batch_sampler=batches, num_workers=workers, collate_fn=as_list)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(), progress_bar("face crops", len(df)) as advance:
            for batch in loader:
                advance(len(batch))
                for index, _, error in batch:
                    errors[index] = error
                if good := {index: image.to(place) for index, image, _ in batch if image is not None}:
                    x = to_inputs(list(good.values()), model.config)  # type: ignore[arg-type]
                    if frames == 1:
                        logits = mean_logits(model, x, mirror=mirror)
                    else:
                        logits = _clip_logits(model, x, clip_of[list(good)], mirror=mirror)
                    found = calibrated(logits.double(), calibration or Calibration())
                    scores[list(good)] = found.cpu().numpy()
    finally:
        for module, mode in modes:  # parents come first, so every module ends in its own mode
            module.train(mode)
    return df.assign(p_fake=scores, error=errors)


def _clip_logits(model: nn.Module, x: Tensor, clips: np.ndarray, *, mirror: bool) -> Tensor:
    """Logits `(N, 2)` of crops `(N, 3, H, W)`, those of a clip side by side; `clips` has the clip of each."""
    edges = np.flatnonzero(np.diff(clips, prepend=-1, append=-1))
    lengths = np.diff(edges).tolist()
    padded, present = pad_clips(x.split(lengths))
    logits = mean_logits(model, padded, mirror=mirror, present=present)
    return logits.repeat_interleave(torch.tensor(lengths, device=logits.device), 0)


def predict_with(function: Predictor, df: pd.DataFrame, root: str | Path) -> pd.DataFrame:
    """Score the face crops of a manifest with anybody's detector.

    Args:
        function: Takes the path of one crop file and returns P(fake) of it, in [0, 1].
        df: Manifest rows (`path`, `label`).
        root: Folder that `path` is relative to.

    Returns:
        `df` with `p_fake` and `error`. Where `function` raised an exception, `p_fake` is `nan` and `error`
        says what it was.

    Raises:
        DataError: If `function` answers with anything but a number in [0, 1]; it names the file.

    Example:
        >>> scores = predict_with(lambda path: 0.5, read_manifest("prepared"), "prepared")  # doctest: +SKIP
    """
    scores, errors = np.full(len(df), math.nan), np.full(len(df), "", dtype=object)
    with progress_bar("face crops", len(df)) as advance:
        for row, path in enumerate(df["path"]):
            advance()
            file = Path(root) / path
            try:
                answer = function(str(file))
            except Exception as error:  # anything may be wrong in code that is not ours: it costs the row
                errors[row] = f"{file}: {type(error).__name__}: {error}"
                continue
            scores[row] = _probability(answer, file)
    return df.assign(p_fake=scores, error=errors)


def _probability(answer: Any, file: Path) -> float:
    try:
        value = float(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{file}: predict must return one number, got {answer!r}") from error
    if not 0 <= value <= 1:  # also where it is nan
        raise DataError(f"{file}: predict must return P(fake) in [0, 1], got {value}")
    return value


def load_predictor(path: str | Path) -> Predictor:
    """Take the function `predict` from a Python file.

    This runs the file, as `python FILE` would: that is its purpose, so name only files that you trust. What
    it imports must be importable from where you start.

    Args:
        path: A `.py` file that defines `predict(path) -> float`, P(fake) of one crop file.

    Raises:
        DataError: If the file is missing, fails when it is run, or defines no such function.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "half.py"
        >>> _ = file.write_text("def predict(path):\\n    return 0.5\\n")
        >>> load_predictor(file)("any.png")
        0.5
    """
    path = Path(path)
    if not path.is_file() or path.suffix != ".py":
        raise DataError(
            f"{path}: no such Python file; --predictor takes a .py file that defines predict(path)"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # for a .py file there always is one
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{path}: cannot be run ({type(error).__name__}: {error})") from error
    if not callable(function := getattr(module, "predict", None)):
        raise DataError(f"{path}: defines no function predict(path) that returns P(fake) of a crop file")
    return function
