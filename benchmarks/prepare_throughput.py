"""How fast `sficonv prepare` is against the plain way of cutting faces; writes the table in docs/data.md.

    python benchmarks/prepare_throughput.py VIDEO... [--frames 32] [--workers 2] [--rounds 3] [--write]

Four ways through the same videos, each with the same number of processes of one thread, started anew for each
run (their start counts), one after the other in every round:

- plain: as usual preprocessing scripts do it: OpenCV decodes every frame; on the sampled ones dlib's HOG
  detector runs on the full frame, upsampled once (`get_frontal_face_detector()(frame, 1)`, what
  `face_recognition` does); the largest face is cut out with the same margin, resized and written as PNG.
- prepare: this library, default options, manifest and all.
- decode all: OpenCV decodes every frame and does nothing with it.
- decode sampled: our reader decodes what it must for the sampled frames, makes them RGB and stops there.

Every way samples the same number of frames per video. The ratios are taken within each round; their median is
printed. Processor time (of all processes) is less disturbed by what else runs on the machine than wall time.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import cv2

from sficonv.media.video import iter_frames, probe, sample_times

DOC = Path(__file__).resolve().parents[1] / "docs/data.md"
MARKERS = (
    "<!-- throughput: written by benchmarks/prepare_throughput.py -->",
    "<!-- end of throughput -->",
)
MARGIN, SIZE = 1.3, 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table into docs/data.md")
    args = parser.parse_args()
    ways: dict[str, Callable[[Path], int]] = {
        "plain": partial(in_processes, plain, args.videos, args.frames, args.workers),
        "prepare": partial(prepared, args.videos, args.frames, args.workers),
        "decode all": partial(in_processes, decode_all, args.videos, args.frames, args.workers),
        "decode sampled": partial(in_processes, decode_sampled, args.videos, args.frames, args.workers),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    done: dict[str, int] = {}
    for number in range(args.rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                wall, processor = time.perf_counter(), processor_time()
                done[name] = way(Path(folder))
                seconds[name].append((time.perf_counter() - wall, processor_time() - processor))
            print(
                f"round {number + 1}: {name}: {seconds[name][-1][0]:.1f} s wall, {done[name]} frames",
                flush=True,
            )
    text = table(args, seconds, done)
    print(text)
    if args.write:
        from document import keep_rows, write_between  # here, so that the processes need not load pandas

        rows = [
            {"way": name, "round": number, "wall_s": wall, "processor_s": processor, "result": done[name]}
            for name, rounds in seconds.items()
            for number, (wall, processor) in enumerate(rounds)
        ]
        keep_rows("prepare_throughput", rows)
        write_between(DOC, MARKERS, [text])


def processor_time() -> float:
    """Seconds of this process and of its children that have ended, user and system."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def in_processes(
    work: Callable[[Path, int, Path], int], videos: Sequence[Path], frames: int, workers: int, out: Path
) -> int:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        return sum(pool.map(work, videos, [frames] * len(videos), [out] * len(videos)))


def one_thread() -> None:
    cv2.setNumThreads(1)
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"


def plain(video: Path, frames: int, out: Path) -> int:
    """What the usual scripts do; returns the number of crops."""
    import dlib

    detector = dlib.get_frontal_face_detector()
    capture = cv2.VideoCapture(str(video))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = {int((i + 0.5) * total / frames) for i in range(frames)}
    crops = 0
    for index in range(total):
        sound, frame = capture.read()
        if not sound:
            break
        if index not in wanted:
            continue
        boxes = detector(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), 1)
        if not boxes:
            continue
        box = max(boxes, key=lambda b: b.area())
        half = int(MARGIN * max(box.width(), box.height()) / 2)
        x, y = box.center().x, box.center().y
        crop = frame[max(0, y - half) : y + half, max(0, x - half) : x + half]
        cv2.imwrite(str(out / f"{video.stem}_{index}.png"), cv2.resize(crop, (SIZE, SIZE)))
        crops += 1
    return crops


def prepared(videos: Sequence[Path], frames: int, workers: int, out: Path) -> int:
    from sficonv.preparation.prepare import (
        prepare,  # here, so that the other ways' processes need not load it
    )

    source = out / "source/real"
    source.mkdir(parents=True)
    for number, video in enumerate(videos):  # the same name may come twice, from two folders
        (source / f"{number}_{video.name}").symlink_to(video.resolve())
    report = prepare(
        out / "source", out / "out", frames=frames, margin=MARGIN, size=SIZE, workers=workers, label=None
    )
    if report.broken:
        raise SystemExit(report.summary())
    shutil.rmtree(source)
    return report.crops


def decode_all(video: Path, frames: int, out: Path) -> int:
    capture = cv2.VideoCapture(str(video))
    decoded = 0
    while capture.read()[0]:
        decoded += 1
    return decoded


def decode_sampled(video: Path, frames: int, out: Path) -> int:
    return sum(1 for _ in iter_frames(video, times=sample_times(probe(video), frames), threads=1))


def table(
    args: argparse.Namespace, seconds: dict[str, list[tuple[float, float]]], done: dict[str, int]
) -> str:
    names = {
        "plain": "plain: OpenCV decodes every frame, dlib HOG (upsampled once) on the sampled ones",
        "prepare": "`sficonv prepare`",
        "decode all": "decoding every frame with OpenCV, nothing else",
        "decode sampled": "decoding for the sampled frames with our reader, nothing else",
    }
    unit = {"plain": "crops", "prepare": "crops", "decode all": "frames", "decode sampled": "frames"}
    rows = [
        "| | result | wall time, s | speed against plain | processor time, s | against plain |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, title in names.items():
        wall, processor = (statistics.median(column) for column in zip(*seconds[name], strict=True))
        faster = [
            statistics.median(p[i] / s[i] for p, s in zip(seconds["plain"], seconds[name], strict=True))
            for i in (0, 1)
        ]
        rows.append(
            f"| {title} | {done[name]} {unit[name]} | {wall:.1f} | {faster[0]:.1f} x | {processor:.1f} | "
            f"{faster[1]:.1f} x |"
        )
    lengths = [probe(video) for video in args.videos]
    pixels = sorted({f"{info.width} x {info.height}" for info in lengths})
    cores = os.cpu_count()
    distance = statistics.median(
        p[1] / d[1] for p, d in zip(seconds["prepare"], seconds["decode sampled"], strict=True)
    )
    rows += [
        "",
        f"{len(args.videos)} videos of FaceForensics++ c23 ({', '.join(pixels)}; "
        f"{sum(info.duration for info in lengths):.0f} s in all), {args.frames} frames each, {args.workers} "
        f"process{'es' * (args.workers != 1)} "
        f"of one thread on {cores} cores ({platform.machine()}), start of the processes included. "
        f"Medians of {args.rounds} rounds; ratios are taken within a round. OpenCV {cv2.__version__}, PyAV "
        f"{version('av')}, dlib {version('dlib-bin')}. Against decoding for the sampled frames alone, "
        f"`prepare` takes {distance:.1f} times the processor time.",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
