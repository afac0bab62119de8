"""Scores by anybody's function."""

import hashlib
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from sficonv.cli.app import main
from sficonv.datasets.manifest import write_manifest
from sficonv.errors import DataError
from sficonv.evaluation import evaluate, predict_with
from sficonv.evaluation.predict import load_predictor

BRIGHTNESS = """
from PIL import Image

def predict(path):
    return Image.open(path).getpixel((0, 0))[0] / 255
"""


@pytest.fixture
def folder(tmp_path, crop_row) -> Path:
    root = tmp_path / "faces"
    (root / "crops").mkdir(parents=True)
    rows = []
    for number, grey in enumerate([20, 60, 100, 140, 90, 200, 220, 30]):
        for k in range(2):
            path = f"crops/{number}_{k}.png"
            Image.new("RGB", (8, 8), (grey,) * 3).save(root / path)
            told = {"label": int(number > 3), "method": "DF" if number > 3 else "real", "sha256": path}
            rows.append(crop_row(number, path=path, video_id=f"v{number}", split="test", frame=k, **told))
    write_manifest(root, pd.DataFrame(rows))
    return root


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def test_a_function_in_a_file_is_judged_like_a_model(folder, tmp_path):
    mine = write(tmp_path / "mine.py", BRIGHTNESS)
    result = evaluate(predictor=mine, data=folder, bootstrap=5)
    assert result.video["auc"].value == pytest.approx((2 + 4 + 4 + 1) / 16)
    assert result.weights is None
    assert result.model == str(mine)
    assert result.provenance["predictor_sha256"] == hashlib.sha256(mine.read_bytes()).hexdigest()
    assert any("nothing says what this detector was trained on" in text for text in result.warnings)


def test_exceptions_cost_the_row_and_are_counted(folder, tmp_path):
    (folder / "crops" / "0_0.png").unlink()
    (folder / "crops" / "5_0.png").write_bytes(b"no picture")
    (folder / "crops" / "5_1.png").write_bytes(b"no picture")
    result = evaluate(predictor=write(tmp_path / "mine.py", BRIGHTNESS), data=folder, bootstrap=0)
    assert (result.counts["unreadable"], result.counts["empty_videos"]) == (3, 1)
    assert result.counts["videos"] == 7
    text = " ".join(result.warnings)
    assert "3 of 16 crops were left out" in text
    assert "0_0.png: FileNotFoundError" in text
    assert "1 videos were left out, none of their crops could be scored: v5" in text
    nothing = write(tmp_path / "nothing.py", "def predict(path):\n    raise RuntimeError('no GPU')\n")
    with pytest.raises(DataError, match="nothing to judge.*RuntimeError: no GPU"):
        evaluate(predictor=nothing, data=folder)


@pytest.mark.parametrize("answer", [math.nan, math.inf, -0.1, 3.2, None, "fake", [0.1, 0.9]])
def test_an_answer_that_is_no_probability_names_the_file(folder, answer):
    rows = pd.DataFrame({"path": ["crops/0_0.png", "crops/0_1.png"], "label": [0, 0]})
    with pytest.raises(DataError, match=r"crops/0_1\.png: predict must return"):
        predict_with(lambda path: answer if path.endswith("1.png") else 0.5, rows, folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def score(path): return 0.5", "defines no function predict"),
        ("predict = 3", "defines no function predict"),
        ("import no_such_module_anywhere", "cannot be run .ModuleNotFoundError"),
        ("def predict(path", "cannot be run .SyntaxError"),
    ],
)
def test_files_that_are_no_predictor(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load_predictor(write(tmp_path / "mine.py", text))


def test_missing_files_and_other_kinds(tmp_path):
    for file in (tmp_path / "none.py", tmp_path, write(tmp_path / "mine.txt", BRIGHTNESS)):
        with pytest.raises(DataError, match="no such Python file"):
            load_predictor(file)


def test_a_predictor_needs_data(tmp_path, folder):
    with pytest.raises(ValueError, match="either data"):
        evaluate(predictor=tmp_path / "mine.py")
    with pytest.raises(ValueError, match="real_label"):
        evaluate(predictor=tmp_path / "mine.py", data=folder, real_label=1)


def test_the_command_gives_the_same_answer_twice(folder, tmp_path, capsys):
    mine = write(tmp_path / "mine.py", BRIGHTNESS)
    command = ["evaluate", "--predictor", str(mine), "--data", str(folder), "--bootstrap", "30", "--json"]
    answers = []
    for _ in range(2):
        assert main(command) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert json.loads(answers[0])["video"]["auc"]["value"] == pytest.approx(11 / 16)
