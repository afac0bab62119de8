"""The dry listing of a dataset: numbers, text and JSON, and the command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from sficonv.datasets.inspection import inspect_source
from sficonv.datasets.manifest import read_manifest
from sficonv.errors import DataError
from sficonv.preparation.prepare import prepare

Touch = Callable[..., Path]


@pytest.fixture
def uadfv(tmp_path: Path, touch: Touch) -> Path:
    names = [f"real/{i:04d}.mp4" for i in range(49)] + [f"fake/{i:04d}_fake.mp4" for i in range(40)]
    return touch(tmp_path / "UADFV", *names)


def test_rows_and_completeness(uadfv: Path, touch: Touch) -> None:
    report = inspect_source(uadfv)
    real, fake = report.rows
    assert (real.label, real.present, real.expected, real.missing) == (0, 49, 49, 0)
    assert (fake.label, fake.present, fake.expected, fake.missing) == (1, 40, 49, 9)
    assert fake.missing_names == [f"{i:04d}_fake" for i in range(40, 49)] and fake.splits == {"test": 40}
    assert not report.complete and report.files == 89
    touch(uadfv, *(f"fake/{i:04d}_fake.mp4" for i in range(40, 49)))
    assert inspect_source(uadfv).complete
    assert {tuple(row.splits) for row in inspect_source(uadfv, split="train").rows} == {("train",)}


def test_text_for_people(uadfv: Path) -> None:
    console = Console(width=100, record=True, file=None)
    with console.capture() as capture:
        console.print(inspect_source(uadfv).summary())
    text = capture.get()
    assert "UADFV" in text and "layout uadfv" in text and "missing of fake: 0040_fake" in text
    (line,) = (line for line in text.splitlines() if line.startswith("fake"))
    assert line.split() == ["fake", "40", "40/49", "9"]


def test_unknown_expectations(tmp_path: Path, touch: Touch) -> None:
    report = inspect_source(touch(tmp_path, "real/a.png", "fake/FaceSwap/b.png"))
    assert [(row.expected, row.missing) for row in report.rows] == [(None, None)] * 2
    assert report.layout == "folder" and report.complete  # nothing is known to be missing
    with pytest.raises(DataError, match="no such folder"):
        inspect_source(tmp_path / "none")


def test_the_command(uadfv: Path) -> None:
    command = [sys.executable, "-m", "sficonv", "inspect", str(uadfv)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120)
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and answer["layout"] == "uadfv" and answer["complete"] is False
    assert answer["rows"][1]["missing"] == 9
    done = subprocess.run([*command, "--layout", "celebdf"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Celeb-DF tree without videos" in done.stderr
    done = subprocess.run([*command, "--layout", "nonsense"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2


def test_prepare_videos_of_a_detected_data_set(
    tmp_path: Path, face_frames: Callable[..., list], write_video: Callable[..., Path]
) -> None:
    """What the listing says is what the manifest gets."""
    names = ["Celeb-real/id0_0000", "Celeb-synthesis/id0_id1_0000"]
    for seed, name in enumerate(names):
        write_video(tmp_path / f"Celeb-DF-v2/{name}.mp4", face_frames(6, seed=seed))
    (tmp_path / "Celeb-DF-v2/List_of_testing_videos.txt").write_text(
        "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n"
    )
    listed = inspect_source(tmp_path / "Celeb-DF-v2")
    report = prepare(tmp_path / "Celeb-DF-v2", tmp_path / "out", frames=2, size=64, workers=0)
    df = read_manifest(tmp_path / "out")
    assert report.layout == listed.layout == "celebdf" and len(df) == 4 and set(df["split"]) == {"test"}
    assert dict(zip(df["method"], df["source_ids"], strict=True)) == {
        "real": "id0",
        "Celeb-synthesis": "id0,id1",
    }
    assert listed.notes == report.notes[: len(listed.notes)]
