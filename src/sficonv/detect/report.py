"""One HTML file a person can read, keep, print and send: nothing is loaded from anywhere."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sficonv.detect.detector import Detector
from sficonv.detect.options import ScanOptions
from sficonv.detect.pictures import Pictures, draw
from sficonv.detect.results import ScanResult
from sficonv.files import atomic_file, sha256_of
from sficonv.pages import jpeg_uri, page_template, read_script
from sficonv.version import __version__

SECTIONS = 100
"""Files shown in full; of more, the rest are lines of the summary table."""

LINES = 6
"""People drawn in the chart of one video."""

WORDS = {
    "fake": "Likely forged",
    "real": "No sign of forgery",
    "uncertain": "Undecided",
    "no_face": "No face found",
    "error": "Could not be judged",
    "skipped": "Skipped",
}
TRUTHS = {"fake": "forged", "real": "genuine", None: "–"}
ORDER = ("fake", "uncertain", "real", "no_face", "error")


def write_report(
    results: Iterable[ScanResult],
    path: str | Path,
    detector: Detector,
    *,
    options: ScanOptions | None = None,
    draw: Callable[[ScanResult, Detector], Pictures] = draw,
) -> list[ScanResult]:
    """Write results as one self-contained HTML file.

    Args:
        results: Of `Detector.iter_scan(..., evidence=True)`; a generator is consumed as it comes, and of
            more than 100 files only the crops of the 100 most suspicious are kept.
        path: The file to write.
        detector: The detector that gave the scores: its card is printed, its attention is drawn.
        options: How the scan was made, printed at the end.
        draw: Makes the pictures of one file; give another where they are made already.

    Returns:
        The results, without their crops.

    Raises:
        KeyboardInterrupt: If it came while the results did; the report of those before it is written.
        OSError: If the file cannot be written.

    Example:
        >>> detector = Detector()  # doctest: +SKIP
        >>> found = detector.iter_scan("inbox/", evidence=True)  # doctest: +SKIP
        >>> results = write_report(found, "report.html", detector)  # doctest: +SKIP
    """
    told: list[ScanResult] = []
    rows: list[_Row] = []
    shown: list[tuple[float, int, ScanResult]] = []
    interrupted: KeyboardInterrupt | None = None
    try:
        for result in results:
            told.append(replace(result, evidence=()))
            if result.verdict == "skipped":
                continue
            entry = (_interest(result), -len(rows), result)
            rows.append(_Row(told[-1], _thumbnail(result)))
            (heapq.heappush if len(shown) < SECTIONS else heapq.heappushpop)(shown, entry)
    except KeyboardInterrupt as stop:
        interrupted = stop
    sections = [
        _section(-number, result, draw(result, detector))
        for _, number, result in sorted(shown, key=lambda e: -e[1])
    ]
    for section in sections:
        rows[int(section.id.removeprefix("file-"))].id = section.id
    page = page_template("sficonv.detect", "report.html.jinja", clock=clock, bytes=_bytes).render(
        created=datetime.now(UTC),
        interrupted=interrupted is not None,
        counts=[(v, WORDS[v], n) for v in ORDER if (n := sum(row.result.verdict == v for row in rows))],
        order=ORDER,
        rows=rows,
        skipped=[result for result in told if result.verdict == "skipped"],
        script=read_script("sficonv.detect", "report.js") if len(rows) > 1 else None,
        sections=sections,
        words=WORDS,
        truths=TRUTHS if any(row.result.truth for row in rows) else {},
        detector=detector,
        weights_sha256=_sha256(detector.weights),
        options={k: v for k, v in asdict(options).items() if v is not None} if options else {},
        version=__version__,
    )
    with atomic_file(Path(path)) as file:
        file.write_text(page, encoding="utf-8", errors="replace")
    if interrupted:
        raise interrupted
    return told


@dataclass
class _Row:
    """One file in the overview.

    Args:
        result: Without its crops.
        thumbnail: Its strongest face, as a data URI.
        id: Of its section, where it has one.
    """

    result: ScanResult
    thumbnail: str | None
    id: str | None = None


def _thumbnail(result: ScanResult) -> str | None:
    return jpeg_uri(result.evidence[0].crop, side=96) if result.evidence else None


@dataclass(frozen=True)
class _Line:
    """One person in the chart of a video, in chart units."""

    person: int
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class _Chart:
    """Score over time: 0 to 640 is the length of the video, 0 (P = 1) to 180 (P = 0) the score."""

    lines: list[_Line]
    ticks: list[tuple[float, str]]
    more: int


@dataclass(frozen=True)
class _Section:
    """Everything the page shows of one file."""

    id: str
    result: ScanResult
    sha256: str | None
    size: int | None
    pictures: Pictures
    chart: _Chart | None


def _section(number: int, result: ScanResult, pictures: Pictures) -> _Section:
    return _Section(
        id=f"file-{number}",
        result=result,
        sha256=_sha256(result.path),
        size=_size(result.path),
        pictures=pictures,
        chart=_chart(result) if result.kind == "video" and result.faces else None,
    )


def _interest(result: ScanResult) -> float:
    """Suspicious first, then unreadable, then without a face."""
    if result.p_fake is not None:
        return 1 + result.p_fake
    return 0.5 if result.verdict == "error" else 0.0


def _chart(result: ScanResult) -> _Chart:
    end = max(result.duration or 0.0, result.faces[-1].time) or 1.0
    lines = [
        _Line(
            rank,
            [
                (640 * min(1.0, f.time / end), 180 * (1 - f.p_fake))
                for f in result.faces
                if f.track == track.track
            ],
        )
        for rank, track in enumerate(result.tracks[:LINES], start=1)
    ]
    step = next((s for s in _STEPS if end / s <= 8), end / 8)
    ticks = [(640 * n * step / end, clock(n * step)) for n in range(int(end / step + 1e-6) + 1)]
    return _Chart(lines, ticks, max(0, len(result.tracks) - LINES))


_STEPS = (0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def clock(seconds: float) -> str:
    """Minutes, seconds and tenths, with hours where there are any.

    Example:
        >>> clock(3.5), clock(3725)
        ('0:03.5', '1:02:05')
    """
    whole, tenths = divmod(round(seconds * 10), 10)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f".{tenths}" if tenths else ""
    return f"{hours}:{minutes:02}:{rest:02}{tail}" if hours else f"{minutes}:{rest:02}{tail}"


def _bytes(size: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.1f} GB"


# Even asking whether there is a file fails below a folder that may not be searched.
def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None


def _sha256(path: Path | None) -> str | None:
    try:
        return sha256_of(path) if path is not None and path.is_file() else None
    except (OSError, ValueError):
        return None
