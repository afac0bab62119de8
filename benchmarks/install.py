"""What an installation takes, and how soon it gives its first verdict.

    python benchmarks/install.py [--extras "" torch] [--rounds 5]

For each set of extras: the wheels are downloaded, a new environment is made of them and nothing else, and
`sficonv scan photo.jpg` is started again and again. "Downloaded" are the wheels, "on disk" is what lies in
site-packages, without pip and setuptools. Seconds run from the start of the command to its end, on the clock
and as work of the processors; the first start of a new environment stands apart. Writes
`benchmarks/measured/install.csv` and the table in docs/install.md; needs a network and up to 15 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from document import keep_rows, write_between
from sficonv.detect.demo import photograph

ROOT = Path(__file__).parents[1]
MARKS = "<!-- install: written by benchmarks/install.py -->", "<!-- end of install -->"


def megabytes(folder: Path) -> float:
    """Of all files below a folder, without pip and setuptools."""
    ours = [path for path in folder.iterdir() if not path.name.startswith(("pip", "setuptools", "pkg_res"))]
    below = (file for path in ours for file in (path.rglob("*") if path.is_dir() else [path]))
    return sum(file.lstat().st_size for file in below if file.is_file()) / 1e6


def install(extras: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A new environment with the package and these extras; its folder of programs, and what it took."""
    source = shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(".git", "build", "docs"))
    wanted = f"{source}[{extras}]" if extras else str(source)
    wheels, pip = folder / "wheels", [folder / "venv" / "bin" / "python", "-m", "pip", "-q"]
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    subprocess.run([*pip, "wheel", "-c", source / "constraints.txt", "-w", wheels, wanted], check=True)
    offline = ["--no-index", "--find-links", wheels]
    subprocess.run([*pip, "install", *offline, f"sficonv[{extras}]" if extras else "sficonv"], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    packages = list(wheels.glob("*.whl"))
    return folder / "venv" / "bin", {
        "packages": len(packages),
        "downloaded_mb": round(sum(wheel.stat().st_size for wheel in packages) / 1e6, 1),
        "installed_mb": round(megabytes(site), 1),
    }


def timed(command: list[str | Path], folder: Path) -> dict[str, float]:
    """Seconds of one run of a command, on the clock and as work of the processors."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=folder, env=clean, check=True, capture_output=True)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"clock_s": round(clock, 3), "work_s": round(work, 3)}


def measure(extras: str, rounds: int) -> list[dict[str, Any]]:
    """One row per start of a scan."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs, took = install(extras, folder)
        Image.fromarray(photograph()).save(folder / "photo.jpg", quality=95)
        command: list[str | Path] = [programs / "sficonv", "scan", "photo.jpg"]
        return [
            {"extras": extras, **took, "start": start, **timed(command, folder)}
            for start in range(rounds + 1)
        ]


def table_of(rows: pd.DataFrame) -> list[str]:
    """What docs/install.md shows. The clock of the others says little where the machine does other work."""
    lines = [
        "| installed | downloaded | on disk | work of the processors for one photo |",
        "|---|---|---|---|",
    ]
    for extras, part in rows.groupby("extras", sort=False):
        took = part.iloc[0]
        cells = [
            f"`.[{extras}]`" if extras else "`.`",
            *(f"{megabytes:,.0f} MB" for megabytes in (took.downloaded_mb, took.installed_mb)),
            f"{part['work_s'].median():.1f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    clock = rows.loc[rows["extras"] == "", "clock_s"]
    told = (
        f"`.` answered {clock.min():.1f} to {clock.max():.1f} s after the start of `sficonv scan photo.jpg`"
    )
    return [*lines, "", f"{told}, on {os.cpu_count()} cores with other work."]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--extras", nargs="+", default=["", "torch"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rows = pd.DataFrame(row for extras in args.extras for row in measure(extras, args.rounds))
    keep_rows("install", rows)
    write_between(ROOT / "docs" / "install.md", MARKS, table_of(rows))
    print("\n".join(table_of(rows)))


if __name__ == "__main__":
    main()
