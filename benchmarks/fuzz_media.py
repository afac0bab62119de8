"""Damaged images and videos through the scanner's reading, under a limit of memory: every one is answered.

Each file is made from a sound one by a mutation drawn with a seed: bytes changed, cut, zeroed, doubled or
moved. A process of its own reads it as `sficonv scan` does, with a limit of memory and of time. Counted are
the files that were read, read in part, refused with a message, and what must not happen: a traceback that is
no `MediaError`, a process that dies, one that hangs.

    python benchmarks/fuzz_media.py --images 300 --videos 100 --out fuzz.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import multiprocessing as mp
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from skimage.data import astronaut

ANSWERS = ("read", "in part", "refused")


def sound_images() -> dict[str, bytes]:
    """One image of each format."""
    photo = Image.fromarray(astronaut()[:256, :256])
    files = {}
    for name in ("jpeg", "png", "webp", "bmp", "gif", "tiff", "avif", "jpeg2000", "ppm"):
        stored = io.BytesIO()
        photo.save(stored, name)
        files[name] = stored.getvalue()
    for name in ("webp", "png", "tiff", "gif"):
        stored = io.BytesIO()
        photo.save(
            stored, name, save_all=True, append_images=[photo.rotate(9), photo.rotate(18)], duration=300
        )
        files[f"moving {name}"] = stored.getvalue()
    stored = io.BytesIO()
    photo.save(stored, "jpeg", progressive=True)
    return files | {"progressive jpeg": stored.getvalue()}


def sound_videos(folder: Path) -> dict[str, bytes]:
    """One short video of each container."""
    codecs = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "ts": "libx264", "mpg": "mpeg1video",
              "webm": "libvpx", "flv": "libx264", "h264": "libx264", "mjpeg": "mjpeg"}  # fmt: skip
    files = {}
    for suffix, codec in codecs.items():
        path = folder / f"sound.{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = 128, 96
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for i in range(25):
                image = np.ascontiguousarray(np.roll(astronaut(), -4 * i, axis=1)[40:136, 150:278])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        files[suffix] = path.read_bytes()
    return files


def mutated(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One mutation of a file, and its name."""
    kind = str(rng.choice(["flip", "header", "cut", "zero", "double", "move", "size"]))
    out, size = bytearray(data), len(data)
    start = int(rng.integers(0, size))
    length = int(rng.integers(1, max(2, size // 4)))
    if kind == "flip":
        for at in rng.integers(0, size, int(rng.integers(1, 64))):
            out[at] = int(rng.integers(256))
    elif kind == "header":
        for at in rng.integers(0, min(size, 256), int(rng.integers(1, 8))):
            out[at] = int(rng.integers(256))
    elif kind == "cut":
        del out[start:]
    elif kind == "zero":
        out[start : start + length] = bytes(len(out[start : start + length]))
    elif kind == "double":
        out[start:start] = out[start : start + length]
    elif kind == "move":
        part = out[start : start + length]
        del out[start : start + length]
        at = int(rng.integers(0, len(out) + 1))
        out[at:at] = part
    else:  # what looks like a length becomes huge
        out[min(start, size - 1) : start + 4] = b"\xff" * len(out[start : start + 4])
    return kind, bytes(out) or b"\0"


def read(path: Path) -> tuple[str, str]:
    """What reading the file gives: an answer of `ANSWERS` or "traceback", and the message."""
    from sficonv.errors import MediaError
    from sficonv.media.images import read_picture
    from sficonv.media.kinds import media_kind
    from sficonv.media.video import iter_frames, probe

    frames = 0
    try:
        if media_kind(path) == "image":
            picture = read_picture(path)
            return ("in part", picture.damage) if picture.damage else ("read", "; ".join(picture.notes))
        probe(path)
        for _ in iter_frames(path, every=0.2, threads=1):
            frames += 1
    except MediaError as error:
        return ("in part" if frames else "refused"), str(error)
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    return "read", ""


def _serve(limit: int, questions: Any, answers: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    av.logging.set_level(av.logging.PANIC)
    for path in iter(questions.get, None):
        answers.put(read(path))


def fuzz(images: int, videos: int, *, seed: int, memory: float, timeout: float) -> list[dict[str, object]]:
    """Read so many mutated files; one row per file: number, format, mutation, answer, message.

    Args:
        images: How many mutated images.
        videos: How many mutated videos.
        seed: Of the mutations.
        memory: Address space of the reading process, in GB.
        timeout: Seconds after which a file counts as hanging.
    """
    context = mp.get_context("spawn")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound = [(images, sound_images()), (videos, sound_videos(folder))]
        process = questions = answers = None
        for count, files in sound:
            formats = sorted(files)
            for number in range(count):
                form = formats[number % len(formats)]
                rng = np.random.default_rng((seed, number, len(formats)))
                kind, data = mutated(files[form], rng)
                path = folder / "file"
                path.write_bytes(data)
                if process is None or not process.is_alive():
                    questions, answers = context.Queue(), context.Queue()
                    limit = int(memory * 2**30)
                    process = context.Process(target=_serve, args=(limit, questions, answers), daemon=True)
                    process.start()
                questions.put(path)  # type: ignore[union-attr]
                answer, message = _answer(process, answers, timeout)
                if answer in ("hang", "died"):
                    process.kill()
                    process.join()
                rows.append(
                    {
                        "file": len(rows),
                        "format": form,
                        "mutation": kind,
                        "answer": answer,
                        "message": message,
                    }
                )
        if process is not None and process.is_alive():
            questions.put(None)  # type: ignore[union-attr]
            process.join()
    return rows


def _answer(process: Any, answers: Any, timeout: float) -> tuple[str, str]:
    from queue import Empty

    waited = 0.0
    while waited < timeout:
        try:
            return answers.get(timeout=0.5)
        except Empty:
            waited += 0.5
            if not process.is_alive():
                return "died", f"exit code {process.exitcode}"
    return "hang", f"no answer within {timeout:g} s"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=float, default=4.0, help="GB of address space")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds per file")
    parser.add_argument("--out", type=Path, help="CSV with a row per file")
    given = parser.parse_args()
    rows = fuzz(given.images, given.videos, seed=given.seed, memory=given.memory, timeout=given.timeout)
    if given.out:
        with given.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    counts = Counter(str(row["answer"]) for row in rows)
    print(", ".join(f"{count} {answer}" for answer, count in counts.most_common()))
    wrong = [row for row in rows if row["answer"] not in ANSWERS]
    for row in wrong:
        print(row)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
