"""Memory and time of judging ten million rows; writes the table in docs/evaluation.md.

    python benchmarks/evaluate_memory.py [--rows 10000000] [--videos 100000] [--write]

Scores are generated (reals and four manipulations, every video with a score that its rows scatter around),
written to Parquet and CSV in pieces, and judged by `evaluate(predictions=...)` in a process of its own, with
1000 resamplings. Memory is the largest resident set of that process as the operating system counts it; what
it was right after the imports stands beside it. Time is processor time, which other work on the machine
disturbs least.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from document import keep_rows, write_between

DOC = Path(__file__).resolve().parents[1] / "docs/evaluation.md"
MARKERS = ("<!-- memory: written by benchmarks/evaluate_memory.py -->", "<!-- end of memory -->")
METHODS = np.array(["real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"])
PIECE = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="write the table into docs/evaluation.md")
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.judge is not None:
        judge(args.judge, args.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder), args.rows, args.videos)
        lines = [
            "| file | size | processor seconds | peak memory | of it, imports |",
            "|---|---|---|---|---|",
        ]
        rows = []
        for file, out in [(files[0], Path(folder) / "out"), (files[1], None)]:
            seconds, imports, peak = measured(file, out)
            what = f"{file.suffix[1:]}{', with `--out`' if out else ''}"
            megabytes = file.stat().st_size / 1e6
            rows.append({"file": what, "rows": args.rows, "videos": args.videos, "file_mb": megabytes})
            rows[-1] |= {"processor_s": seconds, "peak_gb": peak, "imports_gb": imports}
            size = f"{megabytes:.0f} MB"
            lines.append(f"| {what} | {size} | {seconds:.0f} | {peak:.2f} GB | {imports:.2f} GB |")
            print(lines[-1], flush=True)
    machine = f"{platform.machine()}, one core, Python {platform.python_version()}, pandas {pd.__version__}"
    text = "\n".join(
        [f"{args.rows:,} generated rows of {args.videos:,} videos, 1000 resamplings ({machine}):", "", *lines]
    )
    print(text)
    if args.write:
        keep_rows("evaluate_memory", rows)
        write_between(DOC, MARKERS, [text])


def generate(folder: Path, rows: int, videos: int) -> list[Path]:
    """The same rows as Parquet and as CSV."""
    rng = np.random.default_rng(0)
    method = rng.integers(0, len(METHODS), videos)
    of_video = rng.normal(size=videos) + (method > 0)
    files = [folder / "scores.parquet", folder / "scores.csv"]
    parquet = csv = None
    for start in range(0, rows, PIECE):
        row = np.arange(start, min(start + PIECE, rows))
        video = row * videos // rows
        score = of_video[video] + 0.5 * rng.normal(size=len(row))
        names = pd.Series([f"ffpp/c23/{METHODS[method[v]]}/{v:06}" for v in range(video[0], video[-1] + 1)])
        video_id = names.iloc[video - video[0]].reset_index(drop=True)
        table = pa.Table.from_pandas(
            pd.DataFrame(
                {
                    "path": "crops/" + video_id + "/" + pd.Series(row).astype(str) + ".png",
                    "label": (method[video] > 0).astype(np.int8),
                    "p_fake": 1 / (1 + np.exp(-score)),
                    "video_id": video_id,
                    "method": METHODS[method[video]],
                    "compression": "c23",
                    "dataset": "ffpp",
                }
            ),
            preserve_index=False,
        )
        parquet = parquet or pq.ParquetWriter(files[0], table.schema)
        csv = csv or pyarrow.csv.CSVWriter(files[1], table.schema)
        parquet.write_table(table)
        csv.write(table)
    assert parquet is not None and csv is not None
    parquet.close()
    csv.close()
    return files


def measured(file: Path, out: Path | None) -> list[float]:
    """Processor seconds, memory after the imports and peak memory (GB) of judging a file in a new process."""
    command = [sys.executable, __file__, "--judge", str(file), *(["--out", str(out)] if out else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [float(number) for number in done.stdout.split()]


def judge(file: Path, out: Path | None) -> None:
    from sficonv.evaluation import evaluate

    start, imports = time.process_time(), peak_memory()
    result = evaluate(predictions=file, out=out)
    print(time.process_time() - start, imports, peak_memory())
    print(*result.notes, f"video AUC {result.video['auc']}", sep="\n", file=sys.stderr)


def peak_memory() -> float:
    """GB. Not from getrusage: that counts what the process was before it became this program."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


if __name__ == "__main__":
    main()
