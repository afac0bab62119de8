"""Most memory that a scan takes, of a short video and of one of two hours. Writes docs/scanning.md.

    python benchmarks/scan_memory.py [--hours 2]

The long video repeats a few frames of a moving photograph, so that it is made quickly. Every scan runs in a
process of its own, which tells its peak resident memory when it ends; the first row is a process that loads
the detector and judges faces, without a video.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from skimage.data import astronaut

from deploy import machine
from document import keep_rows, write_between
from sficonv.detect.demo import pan, write_video
from sficonv.media.resize import resize

FPS, SIZE = 2, (320, 240)
MARKS = ("<!-- memory: written by benchmarks/scan_memory.py -->", "<!-- end of memory -->")
DOCUMENT = Path(__file__).parents[1] / "docs" / "scanning.md"

SCAN = """
import json, re, sys
from pathlib import Path
import numpy as np
from sficonv.detect.detector import Detector
detector = Detector.from_pretrained(device="cpu")
detector.scores([np.zeros((256, 256, 3), np.uint8)] * 4)
found = {"sampled": 0, "faces": 0, "verdict": ""}
if sys.argv[1]:
    result = detector(sys.argv[1], evidence=True, **json.loads(sys.argv[2]))
    found = {"sampled": result.frames_sampled, "faces": len(result.faces), "verdict": result.verdict}
# not ru_maxrss: that one is inherited from the process that started this one
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps(found | {"peak_mb": peak}))
"""


def make(path: Path, seconds: int) -> Path:
    frames = [resize(image, SIZE) for image in pan(astronaut(), frames=40)]
    return write_video(path, islice(cycle(frames), seconds * FPS), fps=FPS)


def scan(path: Path | str, **options: Any) -> dict[str, Any]:
    begun = time.monotonic()
    command = [sys.executable, "-c", SCAN, str(path), json.dumps(options)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(answer.splitlines()[-1]) | {"seconds": time.monotonic() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=2.0)
    args = parser.parse_args()
    rows = [("detector loaded, no video", scan(""))]
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        for path, seconds in ((short, 60), (long, round(args.hours * 3600))):
            make(path, seconds)
        name = f"{args.hours:g} h"
        rows.append(("1 min, `--every 0.5`", scan(short, every=0.5)))
        rows.append((f"{name}, `--every 60`", scan(long, every=60.0)))
        rows.append((f"{name}, `--every 0.5` (240 frames over all of it)", scan(long, every=0.5)))
        rows.append((f"{name}, `--every 10 --max-frames 100000`", scan(long, every=10.0, max_frames=100_000)))
    lines = ["| scan | frames sampled | faces | most memory, MB | s |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {r['sampled']} | {r['faces']} | {r['peak_mb']:.0f} | {r['seconds']:.0f} |"
        for name, r in rows
    ]
    foot = f"{SIZE[0]} x {SIZE[1]} pixels, {FPS} frames/s, H.264. " + machine(1).split("; ")[0]
    foot += f"; torch {version('torch')}, av {version('av')}, {time.strftime('%Y-%m-%d', time.gmtime())}."
    keep_rows("scan_memory", ({"scan": name, **row} for name, row in rows))
    write_between(DOCUMENT, MARKS, [*lines, "", foot])
    print("\n".join(lines))


if __name__ == "__main__":
    main()
