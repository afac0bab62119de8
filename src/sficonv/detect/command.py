"""`sficonv scan`: which of the ways to scan the options ask for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sficonv.detect.detector import Detector
from sficonv.detect.options import ScanOptions
from sficonv.detect.parquet import Engine, ScanSummary, scan_to_parquet
from sficonv.detect.reading import Paths
from sficonv.detect.results import ScanResult
from sficonv.detect.scan import scan_with


def scan_command(
    paths: Paths,
    options: ScanOptions = ScanOptions(),  # noqa: B008 (frozen)
    *,
    weights: str | Path = "default",
    batch_size: int = 32,
    mirror: bool = True,
    device: str | None = None,
    report: str | Path | None = None,
    csv: str | Path | None = None,
    annotate: str | Path | None = None,
    parquet: str | Path | None = None,
    engine: Engine = "local",
    address: str | None = None,
    workers: int = 1,
) -> list[ScanResult] | ScanSummary:
    """Judge whether the faces in images and videos look forged.

    Every face of every sampled frame gets P(fake); the faces of one person over time form a track, and
    a track's score is the mean over its frames without the highest and lowest tenth. The file's score is
    that of its most suspicious person who can be judged. Inside the uncertain band of the model card, and
    where nobody can be judged, the verdict is "uncertain".

    A file that cannot be read gets the verdict "error" and the message; the others are still judged.

    Args:
        paths: Files and folders. Folders are searched for images and videos, also below.
        options: Which parts of the files to look at.
        weights: A `.safetensors` file with its model card beside it, "default" for the shipped detector,
            `owner/name` on the Hugging Face Hub, or an exported `.onnx` or `.xml` file.
        batch_size: Faces judged at once.
        mirror: Average over the mirror image of each face where the model card asks for it. Without, a scan
            is faster, and its scores are not those that the card's figures were measured with.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU where there is one.
        report: Write an HTML report to this file: verdicts, faces, score over time, attention maps.
        csv: Write one row per file to this CSV file as each is judged. A scan that is killed leaves its rows,
            and the same command continues it.
        annotate: Write copies with the faces boxed in the colour of their score: a file name for one input,
            a folder for several.
        parquet: Write one row per file to this Parquet file and print only the counts; for any number of
            files. A scan that is killed can be continued, as with csv.
        engine: "local", or "ray" to spread the files over a Ray cluster (needs parquet).
        address: Address of the Ray cluster; by default one on this machine.
        workers: Processes that scan, each with a detector of its own. One already uses several processors;
            more pay on machines with many.

    Returns:
        One result per file, in the order of the input; with `parquet` the counts.

    Raises:
        ValueError: If an option makes no sense, or options contradict each other.
        WeightsError: If the weights cannot be used.
    """
    loading: dict[str, Any] = {
        "weights": weights, "batch_size": batch_size, "mirror": mirror, "device": device,
    }  # fmt: skip
    if parquet is not None:
        if report is not None or annotate is not None:
            raise ValueError("parquet is for any number of files: report and annotate do not go with it")
        if csv is not None:
            raise ValueError("csv and parquet are two ways to write the same: give one of them")
        if engine == "ray" and workers != 1:
            raise ValueError("workers is for the engine local: Ray takes the processors of its cluster")
        how: dict[str, Any] = {"engine": engine, "address": address, "workers": workers}
        return scan_to_parquet(paths, parquet, options, **how, **loading)
    if engine != "local" or address is not None:
        raise ValueError("engine and address are for scans of many files: name the output with parquet")
    load = partial(Detector, **loading)
    written = {"report": report, "csv": csv, "annotate": annotate}
    return scan_with(load, paths, options, **written, workers=workers)
