"""A scan of many photographs and a long video, before and now, in one process and in several.

    git worktree add BEFORE COMMIT
    python benchmarks/scan_throughput.py --photos FOLDER --footage FILE --before BEFORE

Each scan is a command of its own with `--csv`, so that starting it is counted. In every round each version
scans the same files with the weights of this one, one version after the other; ratios are taken within a
round. Memory is the proportional share of all its processes together, looked at once a second. The video is
FILE, repeated without encoding it again. Writes `measured/scan_throughput.csv` and docs/scanning.md.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import av
import pandas as pd

from deploy import machine
from document import keep_rows, write_between
from sficonv.models.checkpoint import resolve_weights
from watch import memory, work

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "scanning.md"
MARKS = ("<!-- throughput: written by benchmarks/scan_throughput.py -->", "<!-- end of throughput -->")
PICTURES = (".jpg", ".png", ".webp")


def draw_photos(folders: list[Path], out: Path, number: int) -> None:
    """Links to photographs drawn from folders, as many from each."""
    for place, folder in enumerate(folders):
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
        for path in random.Random(0).sample(found, min(len(found), number // len(folders))):
            (out / f"{place}-{path.name}").symlink_to(path.resolve())


def repeat(footage: Path, out: Path, seconds: float) -> None:
    """A video again and again, its packets copied as they are."""
    with av.open(str(out), "w") as target:
        stream, shift = None, 0
        while True:
            with av.open(str(footage)) as source:
                chosen = source.streams.video[0]
                stream = stream or target.add_stream_from_template(chosen)
                length = 0
                for packet in source.demux(chosen):
                    if packet.dts is None:
                        continue
                    length = max(length, packet.pts + (packet.duration or 1))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    target.mux(packet)
                shift += length
                if shift * chosen.time_base >= seconds:
                    return


def scan(checkout: Path, files: list[Path], table: Path, options: list[str]) -> dict[str, float]:
    """Run a version's command and watch it."""
    command = [sys.executable, "-m", "sficonv", "scan", *map(str, files), "--csv", str(table), *options]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "PYTHONSAFEPATH": "1"}
    begun, peak, seconds = time.monotonic(), 0.0, dict[int, float]()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            seconds |= work(process.pid)
            peak = max(peak, memory(process.pid))
            time.sleep(1)
        return {"clock": time.monotonic() - begun, "work": sum(seconds.values()), "peak_mb": peak}


def differences(before: Path, now: Path) -> tuple[bool, float]:
    """Whether two tables list the same files with the same verdicts in the same order; the largest |dP|."""
    a, b = pd.read_csv(before), pd.read_csv(now)
    columns = ["path", "kind", "verdict", "people", "faces", "frames_sampled"]
    return a[columns].equals(b[columns]), float((a["p_fake"] - b["p_fake"]).abs().max())


def lines_of(rows: pd.DataFrame, counts: dict[str, int]) -> list[str]:
    """The table: medians, and the ratios within a round."""
    lines = [
        "| files | scan | s on the clock | files per second | clock / before | s of work | work / before "
        "| most memory, MB | largest \\|dP\\| to before |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for what, some in rows.groupby("what", sort=False):
        wide = some.pivot_table(index="round", columns="scan", values=["clock", "work", "peak_mb"])
        for name in some["scan"].unique():
            clock, worked = wide["clock"][name], wide["work"][name]
            ratios = [(wide[key][name] / wide[key]["before"]).median() for key in ("clock", "work")]
            mine = some[some["scan"] == name]
            same = f"{mine['largest_dp'].max():.0e}" if mine["same"].all() else "OTHER VERDICTS"
            lines.append(
                f"| {what} | {name} | {clock.median():.1f} | {counts[str(what)] / clock.median():.2f} "
                f"| {ratios[0]:.2f} | {worked.median():.1f} | {ratios[1]:.2f} "
                f"| {wide['peak_mb'][name].median():.0f} | {same if name != 'before' else ''} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of photographs")
    parser.add_argument("--footage", type=Path, required=True, help="a video with faces")
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an earlier version")
    parser.add_argument("--number", type=int, default=400, help="photographs")
    parser.add_argument("--minutes", type=float, default=10, help="length of the video")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", help="a sentence on the machine, printed below the table")
    args = parser.parse_args()
    weights = [
        "--weights",
        str(resolve_weights("default")),
    ]  # an earlier version has other weights of its own
    scans = {"before": (args.before.resolve(), weights)}
    scans |= {
        f"now, {n} process{'es' * (n > 1)}": (ROOT, [*weights, "--workers", str(n)]) for n in args.workers
    }  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos, video = Path(folder) / "photos", Path(folder) / "video.mp4"
        photos.mkdir()
        draw_photos(args.photos, photos, args.number)
        repeat(args.footage, video, 60 * args.minutes)
        number = len(list(photos.iterdir()))
        clip = f"{args.minutes:g} min of video"
        sets = {f"{number} photographs": [photos], f"{number} photographs and {clip}": [photos, video]}
        counts = dict(zip(sets, (number, number + 1), strict=True))
        for round_ in range(args.rounds):
            for what, files in sets.items():
                for name, (checkout, options) in scans.items():
                    table = Path(folder) / f"{name}.csv"
                    found = scan(checkout, files, table, options)
                    same, largest = differences(Path(folder) / "before.csv", table)
                    rows.append({"round": round_, "what": what, "scan": name, **found, "same": same})
                    rows[-1] |= {"largest_dp": largest, "load": os.getloadavg()[0]}
                    print(rows[-1], flush=True)
                    keep_rows("scan_throughput", rows)
    foot = f"Medians of {args.rounds} rounds. {machine(0).split(';')[0]}; torch {version('torch')}, "
    foot += f"av {version('av')}, {time.strftime('%Y-%m-%d', time.gmtime())}. {args.note}"
    lines = [*lines_of(pd.DataFrame(rows), counts), "", foot.strip()]
    write_between(DOCUMENT, MARKS, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
