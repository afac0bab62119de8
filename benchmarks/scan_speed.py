"""How long a scan takes beside the length of the clip, and where the time goes.

    python benchmarks/scan_speed.py [--footage FILE] [--threads 2] [--rounds 5]

With `--footage` the tables go into docs/scanning.md.

The clip is 720p, 30 frames a second, H.264: generated from a photograph that scikit-image carries, or FILE,
repeated until it is long enough. Two frames a second are sampled, as `sficonv scan` does. In every round each
back end scans the clip, and the clip is decoded without being scanned; ratios are taken within a round.

Beside the time on the clock stands the time that the processors worked, which says more where the machine
does other work. Loading a detector is no part of a scan and is reported apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import torch

from deploy import machine
from document import keep_rows, write_between
from sficonv.deploy import open_exported
from sficonv.deploy.export import export
from sficonv.detect.classifiers import ExportedClassifier
from sficonv.detect.demo import pan
from sficonv.detect.detector import Detector
from sficonv.detect.options import ScanOptions
from sficonv.detect.reading import FaceFinder
from sficonv.detect.scan import iter_scan
from sficonv.media.resize import resize
from sficonv.media.video import iter_frames

FPS, SIZE, EVERY, GOAL = 30, (1280, 720), 0.5, 0.35
BACK_ENDS = {"PyTorch": "default", "ONNX Runtime": "detector.onnx", "OpenVINO": "detector.xml"}
EVERYTHING, SAMPLED = "decode every frame", "decode the sampled frames"
STAGES = ("decode", "find and cut faces", "classify")
DOCUMENT = Path(__file__).parents[1] / "docs" / "scanning.md"


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock, and seconds that the processors worked for this process."""

    clock: float
    work: float


def timed(function: Callable[[], Any]) -> tuple[Spent, Any]:
    clock, work = time.perf_counter(), time.process_time()
    found = function()
    return Spent(time.perf_counter() - clock, time.process_time() - work), found


def generated(seconds: int) -> Iterator[np.ndarray]:
    """A slow pan over a photograph with sensor noise."""
    from skimage.data import astronaut

    for image in pan(astronaut(), frames=seconds * FPS):
        yield resize(image[:360], SIZE)


def repeated(footage: Path, seconds: int) -> Iterator[np.ndarray]:
    """The frames of a video, again and again, brought to 720p."""

    def endless() -> Iterator[np.ndarray]:
        while True:
            yield from (resize(frame.image, SIZE) for frame in iter_frames(footage))

    return islice(endless(), seconds * FPS)


def write_clip(path: Path, frames: Iterator[np.ndarray]) -> Path:
    """Encode as cameras do: H.264 with a keyframe at most every 250 frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def load(folder: Path, threads: int) -> tuple[dict[str, Detector], dict[str, float]]:
    """Every back end, and the seconds it took to load and to judge a first face."""
    detectors, seconds = {}, {}
    for name, weights in BACK_ENDS.items():
        path = weights if weights == "default" else str(folder / weights)
        if path != "default":
            export("default", out=path)

        def opened(path: str = path) -> Detector:
            detector = Detector.from_pretrained(path, device="cpu")
            if isinstance(detector.classifier, ExportedClassifier):
                detector.classifier.exported = open_exported(path, threads=threads)
            detector.scores([np.zeros((detector.crop_size, detector.crop_size, 3), np.uint8)])
            return detector

        spent, detectors[name] = timed(opened)
        seconds[name] = spent.clock
    return detectors, seconds


def decode_everything(clip: Path) -> int:
    with av.open(str(clip)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def stages(clip: Path, detector: Detector) -> dict[str, Spent]:
    """The same work as a scan, stopped after each step."""
    finder = FaceFinder(margin=detector.crop_margin, size=detector.crop_size, smallest=ScanOptions().min_face)
    find = finder.begin(still=False)
    total = dict.fromkeys(STAGES, Spent(0, 0))
    crops: list[np.ndarray] = []

    def note(stage: str, function: Callable[[], Any]) -> Any:
        spent, found = timed(function)
        total[stage] = Spent(total[stage].clock + spent.clock, total[stage].work + spent.work)
        return found

    frames = iter_frames(clip, every=EVERY)
    while (frame := note("decode", lambda: next(frames, None))) is not None:
        image = frame.image
        crops += [face.image for face in note("find and cut faces", lambda image=image: find(image))]
    note("classify", lambda: detector.scores(crops))
    return total


def measure(clip: Path, detectors: dict[str, Detector], rounds: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row per round and thing measured; and what the last round's scans answered."""
    rows, answers = [], {}
    for number in range(rounds + 1):  # the first warms up
        found = {
            EVERYTHING: timed(lambda: decode_everything(clip))[0],
            SAMPLED: timed(lambda: sum(1 for _ in iter_frames(clip, every=EVERY)))[0],
        }
        for name, detector in detectors.items():
            found[name], (answers[name],) = timed(
                lambda detector=detector: list(iter_scan(clip, detector=detector, every=EVERY))
            )
        found |= stages(clip, detectors["PyTorch"])
        rows += [{"round": number, "what": k, "clock": s.clock, "work": s.work} for k, s in found.items()]
        print(
            f"round {number} of {rounds}: " + str({k: round(s.work, 2) for k, s in found.items()}), flush=True
        )
    table = pd.DataFrame(rows)
    return table[table["round"] > 0], answers


def lines_of(
    table: pd.DataFrame, answers: dict[str, Any], loading: dict[str, float], length: float
) -> list[str]:
    """The two tables."""
    work = table.pivot_table(index="round", columns="what", values="work")
    clock = table.pivot_table(index="round", columns="what", values="clock")
    out = [
        "| | s on the clock / s of clip | s of work / s of clip | work / PyTorch's | work / decoding alone "
        "| largest \\|dP\\| to PyTorch | loading, s |",
        "|---|---|---|---|---|---|---|",
    ]
    reference = np.array([f.p_fake for f in answers["PyTorch"].faces])
    for name in (*BACK_ENDS, SAMPLED, EVERYTHING):
        cells = [f"{clock[name].median() / length:.3f}", f"{work[name].median() / length:.3f}"]
        cells += [f"{(work[name] / work[other]).median():.2f}" for other in ("PyTorch", SAMPLED)]
        scanned = name in answers
        moved = np.abs(np.array([f.p_fake for f in answers[name].faces]) - reference).max() if scanned else 0
        cells += [f"{moved:.0e}", f"{loading[name]:.1f}"] if scanned else ["", ""]
        out.append(f"| {name} | " + " | ".join(cells) + " |")
    met = "met" if clock["PyTorch"].median() / length <= GOAL else "NOT met"
    out += [
        "",
        f"Goal: at most {GOAL} s on the clock per second of clip with PyTorch: {met}.",
        "",
        "| stage (PyTorch) | s on the clock | s of work | share of the work |",
        "|---|---|---|---|",
    ]
    rest = {"work": work["PyTorch"] - work[list(STAGES)].sum(axis=1)}
    rest["clock"] = clock["PyTorch"] - clock[list(STAGES)].sum(axis=1)
    for stage in (*STAGES, "rest (tracks, sharpness, first look at the file)"):
        c, w = (clock[stage], work[stage]) if stage in STAGES else (rest["clock"], rest["work"])
        share = max(0.0, (w / work["PyTorch"]).median())
        out.append(f"| {stage} | {max(0.0, c.median()):.2f} | {max(0.0, w.median()):.2f} | {share:.0%} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--footage", type=Path, help="a video with a face, made 720p and repeated")
    parser.add_argument("--seconds", type=int, default=30, help="length of the clip")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="a sentence on the machine, printed below the tables")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    source = repeated(args.footage, args.seconds) if args.footage else generated(args.seconds)
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "clip.mp4", source)
        detectors, loading = load(Path(folder), args.threads)
        table, answers = measure(clip, detectors, args.rounds)
    faces, frames = len(answers["PyTorch"].faces), answers["PyTorch"].frames_sampled
    kind = "real" if args.footage else "generated"
    head = (
        f"{kind} footage, {args.seconds} s of 720p at {FPS} frames/s, {frames} frames sampled, "
        f"{faces} faces; medians of {args.rounds} rounds."
    )
    foot = f"{machine(args.threads).split('; 256 px')[0]}; torch {version('torch')}, onnxruntime "
    foot += f"{version('onnxruntime')}, openvino {version('openvino')}, av {version('av')}, "
    foot += f"{time.strftime('%Y-%m-%d', time.gmtime())}. {args.note}"
    lines = [head, "", *lines_of(table, answers, loading, args.seconds), "", foot.strip()]
    if args.footage:
        marks = "<!-- speed, real: written by benchmarks/scan_speed.py -->", "<!-- end of speed, real -->"
        keep_rows("scan_speed", table)
        write_between(DOCUMENT, marks, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
