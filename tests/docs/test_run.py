"""Every line of code in README and docs runs as it is printed, in the order of its page.

The data are a few tiny clips of one photograph, so nothing is said about figures; what is shown is that the
text is true: names, options, files that one command leaves for the next. What cannot run here stands in
`NOT_RUN` with its reason; its options are parsed all the same, by `test_pages.py`, and the names in Python
that does not run are looked up below.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.data import astronaut
from tests.docs.pages import PAGES, ROOT, blocks, programs

import sficonv
from sficonv.cli.app import main
from sficonv.detect.demo import pan, write_video

NOT_RUN = {
    # the start of a command, or of a block of Python -> why it cannot run here
    "python3 -m venv": "makes an environment; .ci/run does, as the README says",
    ". .venv/bin/activate": "changes the shell",
    "pip install": "installs",
    "pip wheel": "needs a network",
    "pre-commit install": "changes the clone",
    "pytest": "is what runs this",
    "ruff": "is a step of CI",
    "mypy": "is a step of CI",
    "docker": "needs Docker",
    "mike": "writes a branch of the clone; tests/docs/test_versions.py does so in a clone of its own",
    "curl": "asks a running service; tests/service asks the same",
    "torchrun": "needs several devices; tests/training/test_devices.py starts several processes",
    "python benchmarks/": "needs research data",
    "sficonv serve": "does not end; tests/service starts it",
    "sficonv demo": "run by tests/detect/test_demo.py",
    "sficonv doctor": "run by tests/detect/test_doctor.py",
    "sficonv bench": "measures for minutes; tests/paper/test_bench.py",
    "sficonv reproduce": "needs the paper's data; run on small data by tests/paper",
    "sficonv train --data faces --out run --devices 8": "needs eight devices",
    "sficonv train --data faces/manifest-paper-seed7.parquet": "the paper's recipe, 20 epochs from scratch",
    "sficonv scan archive/ --parquet verdicts.parquet --engine ray": "starts a cluster; run by tests/detect",
    "sficonv export --out detector.xml": "OpenVINO; run on a small network by tests/deploy",
    "sficonv split faces --protocol leave-one-out": "needs two kinds of forgery; tests/splits/test_split.py",
    "sficonv split faces --protocol validation": "needs a training set; tests/splits/test_validation.py",
    "sficonv split faces --protocol paper": "needs the paper's datasets; tests/splits/test_paper_protocol.py",
    "sficonv attention": "averages 16 forgeries; run on smaller ones by tests/paper/attention",
    "sficonv prepare SOURCE": "stands for any source",
    "sficonv inspect SOURCE": "stands for any source",
    "sficonv prepare FaceForensics++ --out PREPARED": "needs the paper's data",
    "sficonv prepare Celeb-DF-v2 --out PREPARED": "needs the paper's data",
    "sficonv prepare DFDC": "research data; tests/datasets/test_layouts_dfdc.py",
    "sficonv prepare dfdc_preview_set": "research data; tests/datasets/test_layouts_dfdc.py",
    "sficonv prepare DeeperForensics-1.0": "research data; tests/datasets/test_layouts_videos.py",
    "sficonv prepare deepfake_in_the_wild": "research data; tests/datasets/test_layouts_images.py",
    "sficonv prepare DF40": "research data; tests/datasets/test_layouts_images.py",
    "sficonv prepare FFIW10K-v1-release": "research data; tests/datasets/test_layouts_videos.py",
    "sficonv prepare HFF": "research data; tests/datasets/test_layouts_images.py",
    "sficonv prepare dataset_json": "research data; tests/datasets/test_layouts_lists.py",
    "import sficonv\nimport timm\n\nmodel = sficonv.convert(timm": "downloads ImageNet weights",
    "from sficonv.paper.checkpoints.authors": "needs a checkpoint of the authors; tests/paper makes one",
    "from sficonv.paper.checkpoints.public": "needs published checkpoints; tests/paper makes some",
}

SPEED = {
    # appended to a command that would take minutes with the defaults it shows
    "sficonv train": ["--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "4", "--image-size", "128"],
    "sficonv robustness": ["--max-frames", "1", "--levels", "1"],
}


def reason(text: str) -> str | None:
    """Why a command or block does not run here; `None` where it does."""
    return next((why for start, why in NOT_RUN.items() if text.startswith(start)), None)


def steps(page: str) -> Iterator[tuple[str, list[str] | str]]:
    """What a page tells the reader to type: shell commands as words, Python as text."""
    for language, block in blocks(PAGES[page], "bash", "python"):
        if language == "python":
            yield block, block
        else:
            for words in programs(block):
                yield " ".join(words), words


STEPS = {page: list(steps(page)) for page in PAGES}


def test_what_is_not_run_is_still_printed():
    printed = [text for of_page in STEPS.values() for text, _ in of_page]
    assert not [start for start in NOT_RUN if not any(text.startswith(start) for text in printed)]
    named = {path.rstrip(".") for why in NOT_RUN.values() for path in re.findall(r"tests/[\w/.]+", why)}
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", [page for page in PAGES if any(reason(t) is None for t, _ in STEPS[page])])
@pytest.mark.slow
def test_the_lines_of_a_page_run_in_order(page, workshop, tmp_path, monkeypatch, capsys):
    here = shutil.copytree(workshop, tmp_path / "here")
    monkeypatch.chdir(here)
    names: dict[str, Any] = {"__name__": "__main__", **stand_ins()}
    for text, step in STEPS[page]:
        if reason(text) is not None:
            continue
        if isinstance(step, str):
            if 'prepare("my_videos", "faces"' in step:
                shutil.rmtree("faces")
            exec(compile(step, page, "exec"), names)
            continue
        assert step[0] == "sficonv", f"{page}: {text}: neither run nor in NOT_RUN"
        make_room(step)
        more = next((words for start, words in SPEED.items() if text.startswith(start)), [])
        new = [word for word in zip(more[::2], more[1::2], strict=True) if word[0] not in step]
        code = main([*step[1:], *(word for pair in new for word in pair)])
        assert code == 0, f"{page}: {text}\n{capsys.readouterr().err}"


def make_room(step: list[str]) -> None:
    """A page that prepares or trains makes its own folder, whatever the workshop has by that name."""
    if step[1] in ("prepare", "train") and "--out" in step:
        shutil.rmtree(step[step.index("--out") + 1], ignore_errors=True)


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["result"].counts["videos"] == 2
    assert Path("run/weights.safetensors").is_file()


def stand_ins() -> dict[str, Any]:
    """What the reader of a Python block is taken to have."""
    photo = astronaut()
    face = photo[:224, 112:336]
    return {
        "sficonv": sficonv,
        "pil_image": Image.fromarray(photo),
        "array": photo,
        "batch": np.stack([photo, photo]),
        "face_crops": np.stack([face, face]),
        "crops": np.stack([cv2.resize(face, (256, 256))] * 2),
    }


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, clips_of_people) -> Path:
    """A folder with everything that the pages take for granted, by the names they use."""
    root = tmp_path_factory.mktemp("workshop")
    photo = astronaut()
    Image.fromarray(photo).save(root / "photo.jpg")
    for folder in ("folder", "archive", "inbox", "PHOTOS"):
        (root / folder).mkdir()
        shutil.copy(root / "photo.jpg", root / folder / ("000_a.jpg" if folder == "PHOTOS" else "photo.jpg"))
    shutil.copy(root / "photo.jpg", root / "a.jpg")
    write_video(root / "clip.mp4", pan(photo, frames=3))

    for (label, i), clip in clips_of_people.items():
        name = f"{label}/{i:03}.mp4" if label == "real" else f"{label}/{i:03}_{100 + i}.mp4"
        for folder in ("my_videos", "FOLDER"):
            (root / folder / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, root / folder / name)
    published = {
        "FaceForensics++/original_sequences/youtube/c23/videos/000": "real/000",
        "FaceForensics++/manipulated_sequences/Deepfakes/c23/videos/000_003": "fake/000_100",
        "Celeb-DF-v2/Celeb-real/id0_0000": "real/001",
        "Celeb-DF-v2/Celeb-synthesis/id0_id1_0000": "fake/001_101",
        "UADFV/real/0000": "real/002",
        "UADFV/fake/0000_fake": "fake/002_102",
    }
    for name, original in published.items():
        path = root / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / f"my_videos/{original}.mp4", path)
    (root / "Celeb-DF-v2/List_of_testing_videos.txt").write_text("0 Celeb-synthesis/id0_id1_0000.mp4\n")

    pattern = r"^(?P<video>(?P<ids>\d{3}(_\d{3})?))$"
    prepare = [
        "prepare",
        str(root / "my_videos"),
        "--frames",
        "2",
        "--workers",
        "0",
        "--video-pattern",
        pattern,
    ]
    assert main([*prepare, "--out", str(root / "faces")]) == 0
    for name in ("ffpp", "dfdc", "celeba", "ffhq", "celebdf"):
        shutil.copytree(root / "faces", root / name)

    crops = sorted((root / "faces").rglob("*.png"))
    rows = [(str(path.relative_to(root)), int("fake" in str(path))) for path in crops]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(root / "faces.csv", index=False)
    (root / "train.txt").write_text("".join(f"{path} {1 - label}\n" for path, label in rows))
    scores = pd.DataFrame(
        {"label": [0, 1] * 10, "p_fake": np.linspace(0, 1, 20), "video_id": np.arange(20).astype(str)}
    )
    scores.to_csv(root / "scores.csv", index=False)
    (root / "mine.py").write_text("def predict(path: str) -> float:\n    return 0.5\n")

    model = sficonv.create_model("meso_inception4", image_size=64)
    for name in ("run/weights", "run1/weights", "run2/weights", "sfic/weights", "vanilla/weights", "a", "b"):
        (root / name).parent.mkdir(exist_ok=True)
        sficonv.save_weights(root / name, model)
    for run in ("run1", "run2"):
        (root / run / "test").mkdir()
        scores.to_parquet(root / run / "test" / "predictions.parquet")
    return root


# Python that does not run ---------------------------------------------------------------------------------

RESOLVED = [
    (page, text)
    for page, of_page in STEPS.items()
    for text, step in of_page
    if isinstance(step, str) and reason(text) is not None
]


@pytest.mark.parametrize(("page", "block"), RESOLVED, ids=lambda value: value.split("\n")[0])
def test_names_and_arguments_of_python_that_does_not_run_exist(page, block):
    tree = ast.parse(block, page)
    names: dict[str, Any] = dict(vars(builtins)) | {"sficonv": sficonv}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(a.asname or a.name): import_module(a.name) for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = import_module(node.module or "")
            names |= {(a.asname or a.name): getattr(module, a.name) for a in node.names}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = resolve(call.func, names)
        if function is not None:
            keywords = {word.arg: None for word in call.keywords if word.arg}
            inspect.signature(function).bind(*call.args, **keywords)


def resolve(node: ast.expr, names: dict[str, Any]) -> Callable[..., Any] | None:
    """What is called; `None` where it is a method of something the block has made."""
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
        return getattr(names[node.value.id], node.attr)
    return None
