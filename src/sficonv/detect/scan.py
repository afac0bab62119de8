"""`scan` and `iter_scan`: images, videos and folders in, one verdict per file out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from sficonv.detect.annotate import AnnotatedCopies
from sficonv.detect.detector import Detector
from sficonv.detect.inputs import Sources, sources_of
from sficonv.detect.journal import Journal
from sficonv.detect.judging import judge_files
from sficonv.detect.options import ScanOptions
from sficonv.detect.pictures import Pictures, draw
from sficonv.detect.progress import file_progress
from sficonv.detect.reading import OnProgress, SourceFile
from sficonv.detect.report import write_report
from sficonv.detect.results import ScanResult, ScanResults
from sficonv.detect.tables import append_csv, reserved, without_own


def scan(
    sources: Sources,
    options: ScanOptions | None = None,
    *,
    detector: str | Path | Detector = "default",
    report: str | Path | None = None,
    csv: str | Path | None = None,
    annotate: str | Path | None = None,
    workers: int = 1,
    **changes: Any,
) -> ScanResults:
    """Judge whether the faces in images and videos look forged.

    How the scores of faces become the verdict on a file is said in `sficonv.detect.verdict`.

    A file that cannot be read gets the verdict "error" and the message; the others are still judged. A
    damaged video is judged by the frames that could be decoded and has both a verdict and an error. What in a
    folder is neither an image nor a video comes after the rest of it with the verdict "skipped".

    Args:
        sources: Files and folders, images in memory, or a list of them; see `Detector.__call__`. Folders are
            searched for images and videos, also below.
        options: What of the files is looked at.
        detector: A loaded detector, or what `Detector` is to load. Load it once if you scan more than once.
        report: Write an HTML report to this file: verdicts, faces, score over time, attention maps.
        csv: Write one row per file to this CSV as each is judged. A scan that is killed leaves its rows, and
            the same call continues it (by the file `<csv>.part`, which goes once all is done).
        annotate: Write copies with the faces boxed in the colour of their score: a file name for one input,
            a folder for several.
        workers: Processes that scan, each with a detector of its own. With more than one the detector must
            come from a file, and the call in a script must stand below `if __name__ == "__main__":`.
        **changes: Single fields of `options`, such as `every=1.0`.

    Returns:
        One result per file, in the order of the input.

    Raises:
        WeightsError: If the weights cannot be used.
        ValueError: If an option makes no sense, or an array is no image.
        OSError: If the report or the table cannot be written; found out before the work.
        SficonvError: If another scan is writing the same table.

    Example:
        >>> results = scan(["holiday.jpg", "clip.mp4"])  # doctest: +SKIP
        >>> results[0].verdict, results[0].p_fake  # doctest: +SKIP
        ('real', 0.04)
        >>> results.to_pandas().query("verdict == 'fake'")  # doctest: +SKIP
    """
    options = replace(options or ScanOptions(), **changes)
    load = partial(_loaded, detector)
    written = {"report": report, "csv": csv, "annotate": annotate}
    return scan_with(load, sources, options, **written, workers=workers)


def scan_with(
    load: Callable[[], Detector],
    sources: Sources,
    options: ScanOptions,
    *,
    report: str | Path | None = None,
    csv: str | Path | None = None,
    annotate: str | Path | None = None,
    workers: int = 1,
) -> ScanResults:
    """`scan` by a detector that is loaded once it is known that the outcome can be written.

    Args:
        load: Gives the detector.
        sources, options, report, csv, annotate, workers: As for `scan`.
    """
    page = _named(report, ("html", "htm"), "the report is an HTML file")
    table = _named(csv, ("csv",), "csv is a CSV file")
    with ExitStack() as stack:
        for path in filter(None, (page, table)):
            stack.enter_context(reserved(path))
        detector = load()
        files = list(without_own(sources_of(sources), page, table))
        copies = AnnotatedCopies(annotate, files) if annotate is not None else None
        progress = stack.enter_context(file_progress(len(files), "scanning"))
        judge = partial(judge_files, detector=detector, options=options, evidence=page is not None)
        journal: Journal | None = None
        left: Iterator[SourceFile] = iter(files)
        if table is not None:
            made_by = detector.identity() | {"options": asdict(options)}
            journal = stack.enter_context(Journal(table, made_by))
            left = journal.left(files)
        found: Iterator[ScanResult] = stack.enter_context(
            closing(judge(left, workers=workers, on_progress=progress))
        )
        if journal is not None:
            found = chain(journal.results(), journal.record(found))
        found = in_order(found, files)
        if table is not None:
            found = append_csv(found, table)
        if page is not None:

            def draw_again(result: ScanResult, detector: Detector) -> Pictures:
                """The pictures of a file that an interrupted scan has judged are not kept."""
                if result.faces and not result.evidence:
                    (result,) = judge([SourceFile(result.path)], workers=1)
                return draw(result, detector)

            found = iter(write_report(found, page, detector, options=options, draw=draw_again))
        results = ScanResults(found)
    results.caution = detector.weakness
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
        sources: As for `scan`.
        options: As for `scan`.
        detector: As for `scan`.
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


def in_order(results: Iterable[ScanResult], files: Iterable[SourceFile]) -> Iterator[ScanResult]:
    """The results of `files` in their order, each as soon as those before it are there.

    Args:
        results: One for each file, in any order, and maybe some of other files, which are left out.
        files: What was asked for.

    Example:
        >>> names = [Path("a.jpg"), Path("b.jpg")]
        >>> found = [ScanResult(name, "image", None, "no_face") for name in reversed(names)]
        >>> [result.name for result in in_order(found, map(SourceFile, names))]
        ['a.jpg', 'b.jpg']
    """
    left = deque(dict.fromkeys(file.path for file in files))
    there: dict[Path, ScanResult] = {}
    for result in results:
        there[result.path] = result
        while left and left[0] in there:
            yield there.pop(left.popleft())


def _loaded(detector: str | Path | Detector) -> Detector:
    return detector if isinstance(detector, Detector) else Detector(detector)


def _named(path: str | Path | None, suffixes: tuple[str, ...], what: str) -> Path | None:
    """Refuse before the work what would fail after it, or would overwrite somebody's photograph."""
    if path is None:
        return None
    path = Path(path)
    if path.suffix.lower().lstrip(".") not in suffixes:
        raise ValueError(f"{what}: give it a name that ends in .{suffixes[0]}, not {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file")
    return path
