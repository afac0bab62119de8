"""DeepfakeBench's JSON lists (Yan et al., 2023), so that crops made for it can be used on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sficonv.datasets.layouts.base import Layout, last_number, read_json
from sficonv.datasets.layouts.finder import Finder, bases_of
from sficonv.datasets.options import SourceOptions
from sficonv.datasets.source import Source, SourceItem, with_clean_texts, with_distinct_names
from sficonv.errors import DataError, first_few

_FAKES = ("ff-df", "ff-f2f", "ff-fs", "ff-nt", "ff-fh")
_METHODS = {
    "ff-df": "Deepfakes",
    "ff-f2f": "Face2Face",
    "ff-fs": "FaceSwap",
    "ff-nt": "NeuralTextures",
    "ff-fh": "FaceShifter",
    "dfd_fake": "DeepFakeDetection",
}
_COMPRESSIONS = ("raw", "c0", "c23", "c40")
_SPLITS = ("test", "val", "train")  # the first wins: what is tested on must not train


@dataclass(frozen=True)
class _Video:
    """One entry of the JSON."""

    dataset: str
    group: str
    split: str
    compression: str
    name: str
    label: int
    frames: list[str]
    masks: list[str]

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.dataset, self.group, self.compression, self.name


def _read(file: Path, options: SourceOptions) -> Source:
    """Read a DeepfakeBench JSON; of a video that it has in several splits the test set keeps it."""
    data = read_json(file)
    videos: dict[tuple[str, str, str, str], _Video] = {}
    moved: Counter[str] = Counter()
    for video in sorted(_videos(file, data), key=lambda video: _SPLITS.index(video.split)):
        if video.key in videos:
            moved[f"{video.split} (kept in {videos[video.key].split})"] += 1
        else:
            videos[video.key] = video
    frames = [frame for video in videos.values() for frame in video.frames]
    if not frames:
        raise DataError(f"{file}: no frames in it")
    bases = bases_of(file, options.base_folder)
    bases += [base / inner for base in bases for inner in ("datasets/rgb", "datasets")]
    finder = Finder(frames, bases, exact=options.base_folder is not None)
    items, absent = [], []
    for video in videos.values():
        found = [path for frame in video.frames if finder.exists(path := finder.path(frame))]
        if len(found) < len(video.frames):
            absent.append(f"{video.name} ({len(video.frames) - len(found)} of {len(video.frames)})")
        masks = {PurePosixPath(mask.replace("\\", "/")).stem: finder.path(mask) for mask in video.masks}
        items += [_item(video, path, masks.get(path.stem), options.dataset) for path in found]
    if not items:
        raise DataError(
            f"{file}: none of its {len(frames)} frames exists (tried: {finder.path(frames[0])}); set "
            "base_folder (--base-folder) to the folder that the paths are relative to"
        )
    notes = ["labels: names with real are 0 = real, all others 1 = fake", finder.note()]
    for which, count in sorted(moved.items()):
        notes.append(f"{count} videos are in several splits and were dropped from {which}")
    if absent:
        notes.append(f"{len(absent)} videos lack frames: {first_few(absent)}")
    notes.append("the images are face crops already: prepare them with detect=False (--no-detect)")
    dataset = options.dataset or next(iter(videos.values())).dataset
    return Source("deepfakebench", dataset, with_distinct_names(items), notes)


def _videos(file: Path, data: Any) -> Iterator[_Video]:
    for dataset, groups in _inside(file, "", data):
        for group, splits in _inside(file, dataset, groups):
            for split, names in _inside(file, f"{dataset}/{group}", splits):
                if split not in _SPLITS:
                    raise DataError(
                        f"{file}: {dataset}/{group} has the split {split!r}; expected train, val or test"
                    )
                for name, entry in _inside(file, f"{dataset}/{group}/{split}", names):
                    inner = {name: entry} if name not in _COMPRESSIONS else entry
                    compression = "" if name not in _COMPRESSIONS else "raw" if name == "c0" else name
                    for video, value in _inside(file, f"{dataset}/{group}/{split}/{name}", inner):
                        # The published DFDC list has a lone "label" and "frames" where videos should be.
                        if isinstance(value, dict):
                            yield _video(file, dataset, group, split, compression, video, value)


def _inside(file: Path, where: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise DataError(
            f"{file}: {where or 'the file'} should hold an object, as in "
            '{"Celeb-DF-v2": {"CelebDFv2_real": {"test": {"id0_0000": {"label": ..., "frames": [...]}}}}}'
        )
    yield from value.items()


def _video(
    file: Path, dataset: str, group: str, split: str, compression: str, name: str, value: dict[str, Any]
) -> _Video:
    where = f"{file}: {dataset}/{group}/{split}/{name}"
    frames, masks = value.get("frames"), value.get("masks") or []
    if not isinstance(frames, list) or not all(isinstance(frame, str) for frame in frames):
        raise DataError(f"{where}: frames should be a list of paths")
    said, in_group = _label(str(value.get("label", group))), _label(group)
    if said is None:
        raise DataError(f"{where}: the label {value.get('label')!r} says neither real nor fake")
    if in_group is not None and in_group != said:
        raise DataError(f"{where}: labelled {value.get('label')!r}, but in the group {group!r}")
    return _Video(dataset, group, split, compression, name, said, frames, [str(mask) for mask in masks])


def _label(text: str) -> int | None:
    """0 of FF-real or CelebDFv2_real, 1 of DFDC_Fake, DFDCP_FakeA or FF-DF."""
    text = text.lower()
    if text in _FAKES:
        return 1
    said = set(re.findall(r"real|fake", text))
    return int(said.pop() == "fake") if len(said) == 1 else None


def _item(video: _Video, path: Path, mask: Path | None, dataset: str | None) -> SourceItem:
    dataset = dataset or video.dataset
    folders = "/".join(filter(None, (video.compression, video.group, video.name)))
    return with_clean_texts(
        SourceItem(
            path=path,
            label=video.label,
            dataset=dataset,
            method=_METHODS.get(video.group.lower(), video.group) if video.label else "real",
            compression=video.compression,
            video_id=f"{dataset}/{folders}",
            source_ids=_ids(video),
            split=video.split,
            kind="image",
            name=f"{dataset}/{folders}/{path.stem}",
            frame=last_number(path.stem),
            official_split=video.split,
            mask=mask if video.label else None,
        )
    )


def _ids(video: _Video) -> tuple[str, ...]:
    """The identities that names of FaceForensics++, Celeb-DF and others tell; else the name itself."""
    name = video.name
    if re.fullmatch(r"\d{3}(_\d{3})?", name):
        return tuple(name.split("_"))
    if match := re.match(r"(\d\d)(?:_(\d\d))?__", name):
        return tuple(f"actor{number}" for number in match.groups() if number)
    if match := re.fullmatch(r"(\d{3})_([MW]\d{3})", name):
        return match[1], f"actor{match[2]}"
    if match := re.fullmatch(r"(\d{4})_fake", name):
        return (match[1],)
    return tuple(dict.fromkeys(re.findall(r"id\d+", name))) or (name.replace(",", "_"),)


LAYOUT = Layout(
    title="DeepfakeBench JSON",
    fits=lambda path: path.is_file() and path.suffix.lower() == ".json",
    read=_read,
    options=frozenset({"base_folder"}),
)
