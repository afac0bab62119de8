"""`scan` and `iter_scan`: images, videos and folders in, one verdict per file out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from sficonv.detect.annotate import AnnotatedCopies
from sficonv.detect.detector import Detector
from sficonv.detect.inputs import Sources, sources_of
from sficonv.detect.options import ScanOptions
from sficonv.detect.progress import file_progress
from sficonv.detect.reading import OnProgress
from sficonv.detect.report import write_report
from sficonv.detect.results import ScanResult, ScanResults
from sficonv.detect.scanning import scan_files
from sficonv.detect.tables import reserved


def scan(
    sources: Sources,
    options: ScanOptions | None = None,
    *,
    detector: str | Path | Detector = "default",
    report: str | Path | None = None,
    annotate: str | Path | None = None,
    **changes: Any,
) -> ScanResults:
    """Say of each image and video whether its faces look forged.

    Per file: every face of every sampled frame gets P(fake); the faces of one person over time form a track,
    and a track's score is the mean over its frames without the highest and lowest tenth. The file's score is
    the highest track score, that of the most suspicious person, among the tracks that can be judged: with at
    least three frames (or as many as the longest has), faces of at least `min_face` pixels and a face
    detector that is sure (0.8). An image counts as one frame. Between the edges of the uncertain band of the
    model card the verdict is "uncertain"; it is also where no track can be judged.

    A file that cannot be read gets the verdict "error" and the message; the others are still judged. A
    damaged video is judged by the frames that could be decoded and has both a verdict and an error.

    Args:
        sources: Files and folders, images in memory, or a list of them; see `Detector.__call__`. Folders are
            searched for images and videos, also below.
        options: What of the files is looked at.
        detector: A loaded detector, or what `Detector` is to load. Load it once if you scan more than once.
        report: Write an HTML report to this file: verdicts, faces, score over time, attention maps.
        annotate: Write copies with the faces boxed in the colour of their score: a file name for one input,
            a folder for several.
        **changes: Single fields of `options`, such as `every=1.0`.

    Returns:
        One result per file, in the order of the input.

    Raises:
        WeightsError: If the weights cannot be used.
        ValueError: If an option makes no sense, or an array is no image.
        OSError: If the report cannot be written; found out before the work.

    Example:
        >>> results = scan(["holiday.jpg", "clip.mp4"])  # doctest: +SKIP
        >>> results[0].verdict, results[0].p_fake  # doctest: +SKIP
        ('real', 0.04)
        >>> results.to_pandas().query("verdict == 'fake'")  # doctest: +SKIP
    """
    options = replace(options or ScanOptions(), **changes)
    target = _report_path(report)
    with reserved(target) if target else nullcontext():
        detector = _loaded(detector)
        files = list(sources_of(sources))
        copies = AnnotatedCopies(annotate, files) if annotate is not None else None
        with file_progress(len(files), "scanning") as on_progress:
            found = scan_files(
                files, detector, options, evidence=target is not None, on_progress=on_progress
            )
            results = ScanResults(
                found if target is None else write_report(found, target, detector, options=options)
            )
        results.caution = detector.known_weakness
        if copies is not None:
            with file_progress(len(files), "annotating") as on_progress:
                for result in results:
                    copies.write(result, detector.band)
                    on_progress(result.path, 1.0)
        return results


def iter_scan(
    sources: Sources,
    options: ScanOptions | None = None,
    *,
    detector: str | Path | Detector = "default",
    evidence: bool = False,
    on_progress: OnProgress | None = None,
    **changes: Any,
) -> Iterator[ScanResult]:
    """`scan`, one result at a time, each as soon as its last face is judged.

    Args:
        sources, options, detector: As for `scan`.
        evidence: Keep the crops of the strongest faces in the results (at most 12 per file).
        on_progress: Called with a file and the share of it that was read, in [0, 1], after each frame.
        **changes: Single fields of `options`, such as `every=1.0`.

    Raises:
        WeightsError: If the weights cannot be used.
        ValueError: If an option makes no sense.

    Example:
        >>> for result in iter_scan("inbox/", every=1.0):  # doctest: +SKIP
        ...     print(result.path, result.verdict)
    """
    options = replace(options or ScanOptions(), **changes)
    return _loaded(detector).iter_scan(sources, options, evidence=evidence, on_progress=on_progress)


def _loaded(detector: str | Path | Detector) -> Detector:
    return detector if isinstance(detector, Detector) else Detector(detector)


def _report_path(report: str | Path | None) -> Path | None:
    """Refuse before the work what would fail after it, or would overwrite somebody's photograph."""
    if report is None:
        return None
    path = Path(report)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the report is an HTML file: give it a name that ends in .html, not {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the report's file")
    return path
