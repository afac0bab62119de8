"""The data of the shipped detector: prepared folders with splits, and packs for a machine with a GPU.

    python benchmarks/detector_data.py prepare DATA --out PREPARED
    python benchmarks/detector_data.py pack PREPARED --out PACKS --mesh facemesh468.onnx
    python benchmarks/detector_data.py held PREPARED --out HELD

DATA holds the data sets by the names of `SETS`. Splits are by identity, decided by a hash of the name:
training, validation and test never change places when files are added. What `prepare` wrote is read by
`sficonv calibrate`, `sficonv evaluate` and `publish_detector.py`; `pack` gathers the crops of training and
validation in a few compact files, with 68 landmarks for each real face that may be forged; `held` gathers the
test crops of `claim.py`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from device_training import TEXTS
from sficonv.datasets.manifest import read_manifest

SIZE, HELD_SIZE = 256, 192  # HELD_SIZE: of the largest crops of DFDC
HELD = ("dfdc", "celebdf", "ffpptest")
DFDC_VAL, DFDC_TEST = {"18", "36"}, {"20", "33", "41"}
SETS = {
    "ffpp": "ffpp",
    "dfdc": "dfdc_crops",
    "celeba": "celeba_real",
    "london": "london_faces",
    "utkface": "utkface_real",
    "ffhq": "ffhq_stylegan",
    "ciplab": "ciplab",
    "crops128": "ffpp_crops128",
    "lfw": "lfw_real",
    "celebdf": "celebdf_crops",
    "ffpptest": "ffpp_test_crops",
}
Row = tuple[Path, int, str, str, str, str]  # file, label, video, split, method, identities
# where the 68 points of iBUG 300-W lie among MediaPipe's 468
POINTS_68 = [
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389, 71, 63, 105, 66, 107,
    336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387,
    263, 373, 380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
]  # fmt: skip


def split_of(name: str, *, val: float = 0.15, test: float = 0.15) -> str:
    """The split of an identity, by a hash of its name."""
    u = int(hashlib.sha256(f"sficonv/{name}".encode()).hexdigest()[:8], 16) / 2**32
    return "test" if u < test else "val" if u < test + val else "train"


def rows_of(name: str, folder: Path) -> Iterator[Row]:
    """The crops of a data set that comes as crops."""
    sides = [(k, int(k == "fake"), f) for k in ("real", "fake") for f in sorted((folder / k).glob("*"))]
    if name == "dfdc":  # by the part of the data set: a fake and its original are never in different parts
        for entry in csv.DictReader((folder / "list.csv").open(encoding="utf-8")):
            part, label = entry["dfdc_part"], int(entry["label"])
            split = "val" if part in DFDC_VAL else "test" if part in DFDC_TEST else "train"
            original = entry["source_ids"] or entry["video_id"]
            yield folder / entry["path"], label, entry["video_id"], split, "DFDC" if label else "", original
    elif name == "celebdf":
        for _, label, file in sides:
            video = file.stem.split("_frame_")[0]
            yield file, label, video, "test", "Celeb-DF" if label else "", video
    elif name in ("crops128", "ffpptest"):
        split, method = ("train", "unknown") if name == "crops128" else ("test", "Deepfakes")
        for _, label, file in sides:
            ids = file.stem.split("_")[:-1]
            yield file, label, "_".join(ids), split, method if label else "", " ".join(ids)
    elif name in ("ffhq", "ciplab"):
        share = {"val": 0.15, "test": 0.15} if name == "ffhq" else {"val": 0.0, "test": 0.5}
        method = "StyleGAN" if name == "ffhq" else "composite"
        for side, label, file in sides:
            split = split_of(f"{name}/{side}/{file.stem}", **share)
            yield file, label, f"{side}_{file.stem}", split, method if label else "", f"{side}{file.stem}"
    elif name == "london":  # two photographs of each person
        for file in sorted(folder.glob("*.jpg")):
            person = file.stem[:3]
            yield file, 0, file.stem, split_of(f"london/{person}"), "", person
    else:
        for file in sorted(folder.iterdir()):
            split = (
                "test" if name == "lfw" else split_of(f"{'utk' if name == 'utkface' else name}/{file.stem}")
            )
            yield file, 0, file.stem, split, "", file.stem


def prepare(data: Path, out: Path, names: list[str]) -> None:
    """One prepared folder for each data set."""
    for name in names:
        command = [sys.executable, "-m", "sficonv", "prepare"]
        with tempfile.TemporaryDirectory() as temporary:
            if name in ("ffpp", "celeba"):
                command += [str(data / SETS[name]), *(["--label", "0"] if name == "celeba" else [])]
            else:
                listing = Path(temporary) / f"{name}.csv"
                with listing.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(["path", "label", "video", "split", "method", "source_ids"])
                    writer.writerows(
                        (str(p.resolve()), *rest) for p, *rest in rows_of(name, data / SETS[name])
                    )
                command += [str(listing), *([] if name == "london" else ["--no-detect"])]
            subprocess.run([*command, "--out", str(out / name), "--dataset", name], check=True)


class Mesh:
    """68 landmarks of face crops, from MediaPipe's face mesh by ONNX Runtime."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def __call__(self, crops: list[np.ndarray]) -> np.ndarray:
        """uint8 `(S, S, 3)` each to float32 `(N, 68, 2)` pixels of crops of `SIZE`."""
        small = [cv2.resize(crop, (192, 192), interpolation=cv2.INTER_AREA) for crop in crops]
        images = np.stack(small).transpose(0, 3, 1, 2).astype(np.float32) / 255
        (points,) = self.session.run(["points"], {"rgb01": images})
        return points[:, POINTS_68, :2] * (SIZE / 192)


def pack(prepared: Path, out: Path, mesh: Mesh, *, parts: int, quality: int) -> None:
    """Crops of training and validation as WebP in `parts` files of about the same size."""
    entries: list[dict[str, Any]] = []
    for name in SETS:
        if not (prepared / name).is_dir():
            continue
        rows = read_manifest(prepared / name)
        if name == "ffpp":  # neighbouring frames are nearly the same
            number = rows.groupby(["video_id", "compression", "method"]).cumcount()
            rows = rows[number % np.where(rows["split"] == "train", 2, 8) == 0]
        for row in rows[rows["split"].isin(["train", "val"])].itertuples():
            entries.append({**row._asdict(), "dataset": name, "file": prepared / name / row.path})
    forged = [e for e in entries if e["label"] == 0]
    for start in range(0, len(forged), 32):
        some = forged[start : start + 32]
        for entry, points in zip(some, mesh([_read(e["file"]) for e in some]), strict=True):
            entry["points"] = points
    for part in range(parts):
        _save(out, f"{part}", entries[part::parts], SIZE, quality)
    table = pd.DataFrame([{k: e[k] for k in ("dataset", "split", "label")} for e in entries])
    print(table.value_counts().sort_index().to_string())


def held(prepared: Path, out: Path, *, quality: int) -> None:
    """The test crops of the claim in one small file: unseen parts of DFDC, Celeb-DF, FF++'s test split."""
    entries: list[dict[str, Any]] = []
    for name in HELD:
        rows = read_manifest(prepared / name)
        for row in rows[rows["split"] == "test"].itertuples():
            entries.append({**row._asdict(), "dataset": name, "file": prepared / name / row.path})
    _save(out, "held", entries, HELD_SIZE, quality)


def _save(out: Path, name: str, entries: list[dict[str, Any]], size: int, quality: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    unknown = np.full((68, 2), np.nan)
    blobs = [_webp(_read(e["file"], size), quality) for e in entries]
    np.savez(
        out / f"{name}.npz",
        blob=np.frombuffer(b"".join(blobs), np.uint8),
        off=np.cumsum([0, *map(len, blobs)]),
        label=np.array([e["label"] for e in entries], np.int8),
        time=np.array([e["time"] for e in entries], np.float32),
        lm=np.stack([e.get("points", unknown) for e in entries]).astype(np.float16),
        **{k: np.char.encode(np.array([str(e[k] or "") for e in entries]), "utf8") for k in TEXTS},
    )


def _read(file: Path, size: int = SIZE) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB").resize((size, size)))


def _webp(image: np.ndarray, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "WEBP", quality=quality)
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["prepare", "pack", "held"])
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--mesh", type=Path, help="MediaPipe's face mesh as ONNX, for `pack`")
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--quality", type=int, default=90)
    args = parser.parse_args()
    if args.verb == "prepare":
        prepare(args.source, args.out, args.sets)
    elif args.verb == "held":
        held(args.source, args.out, quality=args.quality)
    elif args.mesh is None:
        parser.error("pack needs --mesh")
    else:
        pack(args.source, args.out, Mesh(args.mesh), parts=args.parts, quality=args.quality)


if __name__ == "__main__":
    main()
