import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from sficonv.cli.app import main
from sficonv.datasets.crops import read_crop, to_tensor
from sficonv.datasets.manifest import read_manifest
from sficonv.errors import DataError
from sficonv.evaluation import evaluate, predict, robustness_scores
from sficonv.evaluation.robustness import robustness, spread
from sficonv.evaluation.robustness_scores import clips_of
from sficonv.media.corruptions import corrupt_clip
from sficonv.models import load_weights


@pytest.fixture
def faces(small_faces, tmp_path):
    return small_faces(tmp_path / "faces")


def run(faces, detectors, **options):
    options = {"corruptions": "jpeg", "levels": "5", "bootstrap": 20, "device": "cpu"} | options
    return robustness(faces, detectors[0], **options)


def scores_in(out):
    return {file.name.rpartition("-")[0]: pd.read_parquet(file) for file in (out / "scores").iterdir()}


# What the figures are


def test_the_clean_cell_is_what_evaluate_says(faces, detectors):
    result = run(faces, detectors)
    plain = evaluate(detectors[0], faces, bootstrap=20, device="cpu")
    assert result.cells[0].kind == "clean"
    assert result.cells[0].auc == plain.video["auc"]
    assert result.warnings == plain.warnings
    assert (result.videos, result.frames) == (6, 12)


def test_a_cell_holds_the_scores_of_the_damaged_crops(faces, detectors, tmp_path):
    run(faces, detectors, corruptions="h264", levels="4", out=tmp_path / "out", seed=3)
    found = scores_in(tmp_path / "out")["h264-4"]
    rows = read_manifest(faces)
    model, _ = load_weights(detectors[0])
    for video, group in rows.groupby("video_id"):
        damaged = corrupt_clip([read_crop(faces / path) for path in group["path"]], "h264", 4, seed=3)
        folder = tmp_path / "damaged" / str(video).replace("/", "_")
        folder.mkdir(parents=True)
        for index, image in zip(group.index, damaged, strict=True):
            np.save(folder / f"{index}.npy", image)
    from sficonv.models.config import to_input

    index = rows.index[rows["video_id"] == "ffpp/c23/fake/003"][1]
    image = np.load(tmp_path / "damaged" / "ffpp_c23_fake_003" / f"{index}.npy")
    logits = model.eval()(to_input(to_tensor(image)[None], model.config))
    assert found["p_fake"][index] == pytest.approx(float(logits.softmax(1)[0, 1].detach()), abs=1e-5)
    assert not np.allclose(found["p_fake"], predict(model, rows, faces)["p_fake"], atol=1e-6)


def test_every_kind_and_level_asked_for_is_there(faces, detectors):
    result = run(faces, detectors, corruptions="all", levels="1,3", bootstrap=0)
    assert len(result.kinds) == 7
    assert [(c.kind, c.level) for c in result.cells[:4]] == [
        ("clean", 0),
        ("jpeg", 1),
        ("jpeg", 3),
        ("h264", 1),
    ]
    assert len(result.cells) == 15
    assert result.cells[1].strength == 80
    assert math.isnan(result.cells[1].auc.low)


def test_the_same_command_gives_the_same_figures(faces, detectors):
    first, again = (run(faces, detectors, corruptions="noise", levels="2") for _ in range(2))
    assert first.to_json() == again.to_json()


def test_neither_batches_nor_workers_change_the_figures(faces, detectors, tmp_path):
    one = run(faces, detectors, corruptions="noise,h264", batch_size=1, out=tmp_path / "one")
    many = run(faces, detectors, corruptions="noise,h264", batch_size=7, workers=1, out=tmp_path / "many")
    assert [c.auc for c in one.cells] == [c.auc for c in many.cells]
    for cell, scores in scores_in(tmp_path / "one").items():
        np.testing.assert_allclose(scores["p_fake"], scores_in(tmp_path / "many")[cell]["p_fake"], atol=1e-5)


def test_two_models_see_the_same_images_each_made_once(faces, detectors, monkeypatch):
    made: list[str] = []
    seen: dict[str, list[bytes]] = {"A": [], "B": []}
    corrupt, score = robustness_scores.corrupt_clip, robustness_scores.NamedDetector.__call__

    def counted(frames, kind, level, seed):
        made.append(kind)
        return corrupt(frames, kind, level, seed)

    def watched(self, images):
        seen[self.name[0]] += [image.numpy().tobytes() for image in images]
        return score(self, images)

    monkeypatch.setattr(robustness_scores, "corrupt_clip", counted)
    monkeypatch.setattr(robustness_scores.NamedDetector, "__call__", watched)
    result = run(faces, detectors, corruptions="noise", weights_b=detectors[1])
    assert seen["A"] == seen["B"]
    assert len(seen["A"]) == 24  # twelve crops, clean and damaged
    assert made == ["noise"] * 6
    assert [c.model[0] for c in result.cells] == ["A", "B", "A", "B"]
    assert result.models[0].sha256 != result.models[1].sha256


# Going on after an interruption


def test_finished_cells_are_not_computed_again(faces, detectors, tmp_path, monkeypatch):
    first = run(faces, detectors, corruptions="jpeg,blur", out=tmp_path / "out")
    monkeypatch.setattr(robustness_scores, "read_crop", lambda path: pytest.fail("read again"))
    again = run(faces, detectors, corruptions="jpeg,blur", out=tmp_path / "out")
    assert again.to_json() == first.to_json()
    fewer = run(faces, detectors, corruptions="blur", out=tmp_path / "out", bootstrap=5)
    assert fewer.cells[1].auc.value == first.cells[2].auc.value


def test_only_what_is_missing_is_computed(faces, detectors, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = run(faces, detectors, corruptions="jpeg,blur", out=out)
    (blurred,) = (out / "scores").glob("blur-5-*")
    blurred.write_bytes(b"half a file")
    made: list[str] = []
    corrupt = robustness_scores.corrupt_clip
    monkeypatch.setattr(robustness_scores, "corrupt_clip", lambda *a: made.append(a[1]) or corrupt(*a))
    assert run(faces, detectors, corruptions="jpeg,blur", out=out).to_json() == first.to_json()
    assert set(made) == {"blur"}
    made.clear()
    run(faces, detectors, corruptions="jpeg", weights_b=detectors[1], out=out)
    assert len(made) == 6  # the crops are made again for the second model, not scored again by the first


@pytest.mark.parametrize("change", ["seed", "rows", "card"])
def test_a_cell_belongs_to_its_weights_rows_and_seed(faces, detectors, tmp_path, change):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(detectors[0].read_bytes())
    card = json.loads(detectors[0].with_suffix(".json").read_text())
    weights.with_suffix(".json").write_text(json.dumps(card))
    out = tmp_path / "out"
    run(faces, [weights], out=out)
    if change == "card":
        card["calibration"] = {"temperature": 2.0, "uncertain": [0.4, 0.6]}
        weights.with_suffix(".json").write_text(json.dumps(card))
    run(faces, [weights], out=out, seed=int(change == "seed"), max_frames=1 if change == "rows" else None)
    assert len(list((out / "scores").glob("jpeg-5-*"))) == 2


# Which crops


def test_few_crops_are_spread_over_each_video():
    rows = pd.DataFrame({"video_id": ["a"] * 8 + ["b"] * 2, "frame": [*range(8), 0, 1], "face": 0})
    assert spread(rows, 4)["frame"].tolist() == [0, 2, 4, 6, 0, 1]
    assert spread(rows, 3).groupby("video_id").size().tolist() == [3, 2]
    assert spread(rows, None) is rows


def test_a_clip_is_one_face_of_one_video_in_order_of_time(monkeypatch):
    rows = pd.DataFrame({"video_id": list("aaab"), "frame": [2, 0, 0, 0], "face": [0, 0, 1, 0]})
    assert clips_of(rows) == [[1, 0], [2], [3]]
    assert clips_of(rows.assign(track=[7, 9, 7, -1])) == [[2, 0], [1], [3]]
    monkeypatch.setattr(robustness_scores, "CLIP", 1)
    assert clips_of(rows) == [[1], [0], [2], [3]]


def test_crops_of_several_sizes_and_unreadable_ones(faces, detectors):
    import cv2

    paths = read_manifest(faces)["path"]
    cv2.imwrite(str(faces / paths[0]), np.zeros((40, 52, 3), np.uint8))
    (faces / paths[2]).write_bytes(b"")
    result = run(faces, detectors, corruptions="h264")
    assert result.frames == 11
    assert "1 of 12 crops were left out" in result.warnings[0]
    assert Path(paths[2]).name in result.warnings[0]
    for path in paths:
        (faces / path).unlink()
    with pytest.raises(DataError, match="nothing to judge"):
        run(faces, detectors)


# Output


def test_files_and_tables(faces, detectors, tmp_path):
    result = run(faces, detectors, weights_b=detectors[1], out=tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert saved["cells"][2]["auc"]["value"] == result.cells[2].auc.value
    assert (tmp_path / "out" / "robustness.png").read_bytes().startswith(b"\x89PNG")
    console = Console(width=160, file=io.StringIO())
    console.print(result.summary())
    text = console.file.getvalue()
    assert "quality 10" in text
    assert str(result.cells[3].auc) in text
    assert "B: meso_inception4" in text


def test_the_command_prints_json(faces, detectors, capsys):
    options = ["--weights", str(detectors[0]), "--corruptions", "blur", "--levels", "1", "--bootstrap", "0"]
    assert main(["robustness", "--data", str(faces), *options, "--device", "cpu", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [cell["kind"] for cell in answer["cells"]] == ["clean", "blur"]
    assert answer["cells"][1]["auc"]["low"] is None


# Bad usage


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": "jpeg,rain"}, "there is no 'rain'; there are jpeg, h264"),
        ({"corruptions": ""}, "no kind given"),
        ({"levels": "0,3"}, "numbers from 1 to 5"),
        ({"levels": "two"}, "numbers from 1 to 5"),
        ({"split": "dev"}, "split must be one of"),
        ({"max_frames": 0}, "at least 1"),
    ],
)
def test_bad_options_are_named(faces, detectors, options, message):
    with pytest.raises(ValueError, match=message):
        run(faces, detectors, **options)


def test_one_class_is_refused(faces, detectors):
    from sficonv.datasets.manifest import write_manifest

    rows = read_manifest(faces)
    write_manifest(faces, rows[rows["label"] == 0].reset_index(drop=True))
    with pytest.raises(DataError, match="holds real faces only"):
        run(faces, detectors)
