"""The data of the SFIConv paper: which frames it takes of each video, and how it draws and splits them.

Guo et al., IEEE TIFS 2024, section IV-A. The paper takes every N_iter-th frame until it has N_frames, draws
60,000 real and 60,000 fake face images at random, and divides the images, not the videos, at random.
Neighbouring frames of one video are therefore trained on and tested on: figures on this split are far too
good for anything but a comparison with the paper's own.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from sficonv.datasets.manifest import Protocol
from sficonv.datasets.source import text_hash
from sficonv.errors import DataError


@dataclass(frozen=True)
class PaperSampling:
    """What the paper takes of one dataset.

    Attributes:
        names: Names of the dataset, in lower case without punctuation.
        n_iter: Distance of the frames taken, of real and of fake videos; `None` for images.
        n_frames: Frames taken, of real and of fake videos.
        each: Images drawn of each label; `None`: all there are.
        test: Share of the images that are tested on.
        videos: Videos drawn, real and fake; `None`: all there are.
        methods: The manipulations used; `None`: all.
    """

    names: tuple[str, ...]
    n_iter: tuple[int, int] | None
    n_frames: tuple[int, int]
    each: int | None
    test: Fraction
    videos: tuple[int, int] | None = None
    methods: tuple[str, ...] | None = None


PAPER = (
    PaperSampling(
        ("ffpp", "faceforensics"), (2, 2), (50, 16), 60_000, Fraction(1, 6),
        methods=("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"),
    ),
    PaperSampling(("dfdc",), (2, 10), (35, 5), 60_000, Fraction(1, 6), videos=(2_891, 20_210)),
    PaperSampling(("celebdf", "celebdfv2"), (2, 2), (100, 16), 60_000, Fraction(1)),  # tested on only
    PaperSampling(("hff",), None, (1, 1), None, Fraction(1, 5)),
)  # fmt: skip


def paper_sampling(dataset: str) -> PaperSampling:
    """What the paper takes of a dataset.

    Raises:
        DataError: The paper does not use it.

    Example:
        >>> paper_sampling("FF++").n_frames
        (50, 16)
    """
    name = re.sub(r"[^a-z0-9]", "", dataset.lower().replace("ff++", "ffpp"))
    for sampling in PAPER:
        if name in sampling.names:
            return sampling
    known = ", ".join(sampling.names[0] for sampling in PAPER)
    raise DataError(
        f"the paper says nothing about a dataset {dataset!r}, only about {known}; "
        "if it is one of these, prepare it under that name (--dataset)"
    )


def paper_split(df: pd.DataFrame, *, seed: int, val_share: float) -> tuple[pd.DataFrame, Protocol]:
    """Draw and split the images of a manifest as the paper does, each dataset and compression for itself.

    Args:
        df: A manifest. With `prepare(..., sampling="paper")` it has the paper's frames.
        seed: What is drawn depends on it and on the paths alone.
        val_share: Share of the training images to validate on. The paper has no such set.

    Returns:
        The rows drawn, with their splits, and the protocol.

    Raises:
        DataError: A dataset that the paper does not use, or a label is missing.
    """
    parts, words = [], []
    for (dataset, compression), group in df.groupby(["dataset", "compression"], sort=True):
        sampling = paper_sampling(str(dataset))
        rows, as_sampled = _frames(_videos(group, sampling, seed), sampling)
        rows = _draw(rows, sampling, seed, val_share, str(dataset))
        parts.append(rows)
        words.append(_statement(" ".join(filter(None, (str(dataset), str(compression)))), rows, sampling))
        if not as_sampled:
            words.append("The frames are not the paper's: prepare with sampling='paper' to get them.")
    drawn = pd.concat(parts)
    if (drawn["split"] == "val").any():
        words.append(f"Unlike in the paper, {val_share:.0%} of the training images are used for validation.")
    leaky = drawn["split"].nunique() > 1
    if leaky:
        words.append("Frames of one video are on both sides: compare with the paper's figures only.")
    return drawn, Protocol("paper", " ".join(words), leaky=leaky, seed=seed)


def _videos(group: pd.DataFrame, sampling: PaperSampling, seed: int) -> pd.DataFrame:
    if sampling.videos is None:
        return group
    videos = group[["label", "video_id"]].drop_duplicates()
    drawn: set[str] = set()
    for label, most in enumerate(sampling.videos):
        names = videos.loc[videos["label"] == label, "video_id"]
        drawn.update(sorted(names, key=lambda name: text_hash(f"{seed}\t{name}"))[:most])
    return group[group["video_id"].isin(drawn)]


def _frames(group: pd.DataFrame, sampling: PaperSampling) -> tuple[pd.DataFrame, bool]:
    """At most N_frames crops of each video, one face a frame; whether the frames are the paper's."""
    if sampling.methods is not None:
        group = group[(group["label"] == 0) | group["method"].isin(sampling.methods)]
    if sampling.n_iter is None:
        return group, True
    group = group[group["face"] == 0].sort_values(["video_id", "frame"])
    n_iter = group["label"].map(dict(enumerate(sampling.n_iter)))
    n_frames = group["label"].map(dict(enumerate(sampling.n_frames)))
    # Where a frame without a face is left out, a step is longer.
    steps = group.groupby("video_id")["frame"].diff() / n_iter
    if (group["frame"] % n_iter == 0).all() and steps.median() == 1:
        return group[group["frame"] < n_iter * n_frames], True
    # Frames spread over the video by `prepare`: as many as the paper takes, spread as well.
    size = group.groupby("video_id")["path"].transform("size")
    rank = group.groupby("video_id").cumcount()
    kept = np.minimum(size, n_frames)
    return group[(rank * kept) % size < kept], False


def _draw(
    rows: pd.DataFrame, sampling: PaperSampling, seed: int, val_share: float, dataset: str
) -> pd.DataFrame:
    """As many images of each label as the paper draws, or as there are of the rarer one; then the splits."""
    counts = rows["label"].value_counts()
    if len(counts) < 2:
        raise DataError(f"{dataset}: the paper's protocol needs real crops, and fake ones by its methods")
    # The order of a hash is random enough, and the same on every machine and with every library.
    order = [text_hash(f"{seed}\t{path}") for path in rows["path"]]
    rows = rows.assign(_order=order).sort_values("_order").drop(columns="_order")
    parts = []
    for _, of_label in rows.groupby("label"):
        if sampling.each is not None:
            of_label = of_label.head(min(sampling.each, int(counts.min())))
        test = round(len(of_label) * sampling.test)
        val = round((len(of_label) - test) * val_share)
        splits = ["test"] * test + ["val"] * val + ["train"] * (len(of_label) - test - val)
        parts.append(of_label.assign(split=splits))
    return pd.concat(parts)


def _statement(name: str, rows: pd.DataFrame, sampling: PaperSampling) -> str:
    label = Counter(rows["label"])
    drawn = f"{name}: {label[0]} real and {label[1]} fake images"
    if sampling.each is not None:
        short = " (fewer than the paper's 60,000: there are no more)" if label[0] < sampling.each else ""
        limits = zip(("real", "fake"), sampling.n_frames, sampling.n_iter or (1, 1), strict=True)
        each = " and ".join(f"{n} per {label} video (N_iter {every})" for label, n, every in limits)
        drawn += f"{short} drawn at random, up to {each}"
    if sampling.test == 1:
        return f"{drawn}; all are tested on."
    ratio = sampling.test.denominator - sampling.test.numerator
    return f"{drawn}; training to test {ratio}:1, image by image."
