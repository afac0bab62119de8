"""Tables from end to end on a few generated crops, with real training and evaluation."""

import io
import json
import shutil
from dataclasses import replace
from importlib import import_module

import pytest
import yaml
from rich.console import Console
from torch.nn.modules.module import register_module_forward_pre_hook

from sficonv.cli.app import main
from sficonv.datasets.manifest import read_manifest, read_protocol, write_manifest
from sficonv.errors import DataError
from sficonv.paper.tables import reproduce, run
from sficonv.paper.tables.budget import Budget
from sficonv.paper.tables.data import Prepared
from sficonv.paper.tables.options import ReproduceOptions
from sficonv.paper.tables.plan import make_plan
from sficonv.paper.tables.recipe import load_table
from sficonv.paper.tables.reproduce import as_table
from sficonv.training import Recipe
from sficonv.training.module import TrainingModule

SMALL = {
    "epochs": 1,
    "steps_per_epoch": 1,
    "batch_size": 4,
    "image_size": 32,
    "bootstrap": 20,
    "accelerator": "cpu",
    "workers": 0,
}
ARGUMENTS = ("data", "cells", "out", "dry_run", "skip_missing")
MESO = "meso*/c23-c40,meso*/c23-celebdf"


@pytest.fixture
def small(prepared, tmp_path):
    """`reproduce` with a tiny budget."""

    def start(table="table6", **options):
        given = {"data": prepared, "out": tmp_path / "runs", **SMALL, **options}
        own = {name: given.pop(name) for name in ARGUMENTS if name in given}
        return reproduce(table, ReproduceOptions(**given), **own)

    return start


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "copy")


def planned(root, table, *patterns, protocol="official", **recipe):
    return make_plan(
        load_table(table),
        Prepared(root, protocol, 7),
        Budget(Recipe.named("paper", **recipe)),
        (7,),
        patterns,
    )


def shown(answer):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(answer.summary())
    return " ".join(console.export_text().split())


def refuse(*args, **kwargs):
    raise AssertionError("nothing was to be trained or tested")


def figures(table):
    return [(c.row.key, c.column.key, c.figure("auc"), c.figure("bacc")) for c in table.done]


@pytest.mark.parametrize("protocol", ["identity", "paper"])
def test_one_training_serves_two_tests_and_is_done_once(small, protocol, tmp_path, monkeypatch):
    table = small(cells=MESO, protocol=protocol)
    assert [cell.column.key for cell in table.done] == ["c23-c40", "c23-celebdf"]
    assert len(list((tmp_path / "runs" / "cells").iterdir())) == 1
    ours = table.done[0].figure("auc")
    assert 0 <= ours.low <= ours.value <= ours.high <= 100
    assert table.done[0].difference("auc") == pytest.approx(ours.value - 70.72)
    assert table.done[1].difference("auc") is None  # not in the paper
    monkeypatch.setattr(run, "train", refuse)
    monkeypatch.setattr(run, "evaluate", refuse)
    again = small(cells=MESO, protocol=protocol)
    assert figures(again) == figures(table)
    assert not again.failed


def test_the_same_command_elsewhere_gives_the_same_figures(small, tmp_path):
    assert figures(small(cells=MESO, out=tmp_path / "a")) == figures(small(cells=MESO, out=tmp_path / "b"))


def test_another_budget_seed_or_data_is_another_training(small, copy, tmp_path):
    small(cells="meso*/c23-c40")
    small(cells="meso*/c23-c40", lr=0.01)
    small(cells="meso*/c23-c40", protocol="official")
    rows = read_manifest(copy / "ffpp")
    write_manifest(copy / "ffpp", rows[rows["frame"] == 0], protocol=read_protocol(copy / "ffpp"))
    small(cells="meso*/c23-c40", data=copy)
    assert len(list((tmp_path / "runs" / "cells").iterdir())) == 4
    small(cells="meso*/c23-c40", data=copy, seeds="7,8")
    assert len(list((tmp_path / "runs" / "cells").iterdir())) == 4
    assert len(list((tmp_path / "runs" / "cells").glob("*/seed*"))) == 5


def test_several_seeds_give_mean_and_deviation(small):
    table = small("table3", cells="mobilenetv1/c23", seeds=(7, 8))
    (cell,) = table.done
    assert [r["seed"] for r in cell.runs] == [7, 8]
    values = [100 * r["frame"]["auc"]["value"] for r in cell.runs]
    assert cell.figure("auc").value == pytest.approx(sum(values) / 2)
    assert cell.figure("auc").sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert "± standard deviation over the seeds 7, 8" in shown(table)


def test_a_killed_training_continues_and_loses_no_other(small, tmp_path, monkeypatch):
    cells = "meso*/c23-c40,meso*/c40-c23"
    whole = small(cells=cells, epochs=2, out=tmp_path / "whole")
    start = TrainingModule.on_train_epoch_start
    cuts = []

    def power_cut(module):
        if module.current_epoch == 1 and not cuts:
            cuts.append(1)
            raise RuntimeError("power cut")
        start(module)

    monkeypatch.setattr(TrainingModule, "on_train_epoch_start", power_cut)
    first = small(cells=cells, epochs=2)
    assert first.failed
    assert [cell.column.key for cell in first.done] == ["c40-c23"]
    assert "c23-c40 failed: seed 7: power cut" in shown(first)
    second = small(cells=cells, epochs=2)
    assert [cell.runs[0]["training"]["continued"] for cell in second.done] == [True, False]
    assert figures(second) == figures(whole)
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


def test_a_test_that_failed_is_repeated_without_training(small, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run, "evaluate", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # a mistake of ours is not hidden in a table
            small(cells="meso*/c23-c40")
    monkeypatch.setattr(run, "train", refuse)
    assert len(small(cells="meso*/c23-c40").done) == 1


def test_leakiness_departures_and_few_videos_are_stated(small):
    paper = shown(small(cells="meso*/c23-c40"))
    for words in (
        "LEAKY protocol 'paper'",
        "these weights were trained on a LEAKY split",
        "epochs 1 (the paper: 20)",
        "image size 32 (the paper: 256 px)",
        "faces are found by YuNet and cut at a margin of 1.3",
        "fewer crops than N_frames where no face is found",
        "are in more than one split",
    ):
        assert words in paper
    own = shown(small(cells="meso*/c23-c40", protocol="identity", frames=1))
    for words in (
        "the printed figures stand beside ours for orientation only",
        "real and fake images drawn equally often",
        "at most 1 crops of a video",
        "too few to rely on",
    ):
        assert words in own
    assert "LEAKY" not in own
    assert "in more than one split" not in own


def test_the_default_budget_is_the_papers(prepared):
    plan = planned(prepared, "table7", "resnet26", protocol="paper")
    budget = "20 epochs of every image once, batch size 64, each network's own image size"
    assert str(plan.budget).startswith(budget)
    assert not any("Unlike the paper" in text for text in plan.statements)
    (training,) = plan.trainings
    crops = (training.data.rows["split"] == "train").sum()
    assert (training.budget.recipe.image_size, training.steps) == (256, 20 * -(-crops // 64))


def test_a_network_of_another_size_is_stated(prepared):
    plan = planned(prepared, "table6", "f3net*/c23-c40", protocol="paper")
    assert "F3-Net is given its own 299 px (the paper: 256 px)." in plan.statements


def test_a_dry_run_trains_nothing(small, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "train", refuse)
    plan = small("table4", cells="multitask,meso*/df", protocol="identity", dry_run=True)
    assert len(plan.trainings) == 5
    assert all(seconds > 0 for seconds in plan.seconds.values())
    assert "5 trainings (seeds 7) for 5 of 5 cells; 0 of them are finished" in shown(plan)
    assert not (tmp_path / "runs").exists()


def test_a_network_that_cannot_take_the_size_keeps_its_own(prepared):
    plan = planned(prepared, "table4", "m2tr*/df", "multitask/df", image_size=80)
    assert [t.budget.recipe.image_size for t in plan.trainings] == [80, 256]
    assert "M2TR does not take 80 px and is given its own 256 px" in shown(plan)


def test_all_that_is_missing_is_named_before_anything_is_trained(small, copy, tmp_path, monkeypatch):
    rows = read_manifest(copy / "ffpp")
    gone = (rows["method"] == "NeuralTextures") & (rows["compression"] == "c23")
    write_manifest(copy / "ffpp", rows[~gone & ~((rows["compression"] == "c40") & (rows["label"] == 0))])
    with monkeypatch.context() as patch:
        patch.setattr(run, "train", refuse)
        with pytest.raises(DataError) as caught:
            small("table6", data=copy, protocol="official")
        with pytest.raises(DataError, match="celebdf: nothing here is in a published list"):
            small("table9", data=copy, protocol="official")
    for words in (
        "dfdc",
        "no real crops in the split",
        "no fakes by NeuralTextures (ff++ c23)",
        "--skip-missing",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "runs").exists()
    problems = planned(copy, "table4", "multitask").problems
    assert "no fakes by NeuralTextures); so 1 cell cannot be run: multitask/nt" in problems[0]
    table = small("table2", data=copy, protocol="official", skip_missing=True, cells="resnet26")
    assert [(cell.column.key, cell.state) for cell in table.cells[:2]] == [
        ("c23", "done"),
        ("c40", "missing"),
    ]
    assert "so 1 cell cannot be run: resnet26/c40" in shown(table)


def test_table9_lists_all_thirteen_detectors_as_runnable_and_runs_none(prepared, tmp_path, capsys):
    ran = set()

    def watch(module, args):
        if hasattr(module, "config") and args[0].device.type != "meta":
            ran.add(module.config.name)

    handle = register_module_forward_pre_hook(watch)
    command = ["reproduce", "table9", "--data", str(prepared), "--out", str(tmp_path), "--dry-run", "--json"]
    try:
        assert main([*command, "--protocol", "identity", "--accelerator", "cpu"]) == 0
    finally:
        handle.remove()
    found = json.loads(capsys.readouterr().out)
    assert [t["row"] for t in found["trainings"]] == [row.key for row in load_table("table9").rows]
    assert not found["missing"]
    assert all(t["estimated_seconds"] > 0 and t["steps"] > 0 for t in found["trainings"])
    assert ran == {"resnet26"}  # the one network whose speed stands for all


def test_reported_figures_stand_beside_ours_with_their_source(prepared):
    text = shown(as_table(planned(prepared, "table9", "spsl", protocol="identity"), {}, {}))
    assert "SPSL [49] CVPR 2021" in text
    assert "76.9" in text


def test_detectors_that_learn_from_masks_are_given_forgeries_made_on_the_fly(prepared):
    plan = planned(prepared, "table9", "face_xray", "dcl", "ldfnet", protocol="identity")
    recipes = {t.row.model: t.budget.recipe for t in plan.trainings}
    assert {name: r.self_blend for name, r in recipes.items()} == {"face_xray": 1, "dcl": 0.5, "ldfnet": 0}
    xray, ldfnet = plan.trainings[0], plan.trainings[-1]
    real = int(((xray.data.rows["split"] == "train") & (xray.data.rows["label"] == 0)).sum())
    assert xray.steps == 20 * -(-real // 32)  # 32 pairs a batch, each real face once
    assert ldfnet.steps > xray.steps
    assert "Face X-ray [10] is trained with self_blend 1, cross_blend 1." in plan.statements


def test_detectors_of_clips_take_crops_as_they_are_and_count_tracks(prepared):
    plan = planned(prepared, "table9", "smil", protocol="identity", self_blend=0.7)
    (smil,) = plan.trainings
    assert smil.budget.recipe.self_blend == 0
    videos = smil.data.rows.loc[smil.data.rows["split"] == "train", "video_id"].nunique()
    assert smil.steps == 20 * -(-videos // 64)


def test_a_network_without_imagenet_weights_starts_from_scratch_among_others(prepared):
    budget = Budget(Recipe.named("paper"), pretrained=True)
    plan = make_plan(
        load_table("table9"), Prepared(prepared, "identity", 7), budget, (7,), ("ldfnet", "smil")
    )
    assert {t.row.model: t.budget.pretrained for t in plan.trainings} == {"smil": True, "ldfnet": False}
    assert "There are no ImageNet weights of LDFnet [16]: it starts from scratch." in plan.statements


def test_a_row_of_its_own_recipe_is_trained_by_it(small, tmp_path, monkeypatch):
    table = load_table("table9")
    (row,) = [row for row in table.rows if row.model == "face_xray"]
    light = replace(table, rows=(replace(row, options={"trunk": "hrnet_w18_small"}),))
    module = import_module("sficonv.paper.tables.reproduce")  # the package has a function of that name
    monkeypatch.setattr(module, "load_table", lambda name: light)
    (cell,) = small("table9", protocol="identity").done
    assert cell.figure("auc") is not None
    (settings,) = (tmp_path / "runs" / "cells").rglob("config.yaml")
    trained = yaml.safe_load(settings.read_text())
    assert (trained["self_blend"], trained["cross_blend"]) == (1.0, 1.0)


def test_a_network_is_trained_on_two_data_sets_together(small, with_dfdc, tmp_path):
    (cell,) = small("table9", cells="ldfnet/ff-dfdc-celebdf", data=with_dfdc, protocol="identity").done
    assert cell.figure("auc") is not None
    (folder,) = [p for p in (tmp_path / "runs" / "data").iterdir() if "-train-" in p.name]
    rows = read_manifest(folder)
    assert set(rows["dataset"]) == {"ffpp", "dfdc"}
    assert set(rows.loc[rows["dataset"] == "ffpp", "compression"]) == {"c23"}
    assert all((folder / path).is_file() for path in rows["path"])
    statement = read_protocol(folder).statement
    assert "ff++ c23: " in statement
    assert "dfdc: " in statement


def test_a_missing_part_is_named(prepared):
    (problem,) = planned(prepared, "table9", "ldfnet/ff-dfdc-celebdf", protocol="identity").problems
    assert "dfdc" in problem
    assert str(prepared) not in problem


def test_files_hold_the_table(small, tmp_path):
    table = small(cells=MESO, protocol="identity")
    folder = tmp_path / "runs" / "table6"
    saved = json.loads((folder / "table.json").read_text())
    assert saved == json.loads(json.dumps(table.to_dict()))
    done = [cell for cell in saved["cells"] if cell["state"] == "done"]
    assert [cell["auc"]["paper"] for cell in done] == [70.72, None]
    page = (folder / "table.html").read_text()
    assert "src=" not in page
    assert "href=" not in page
    text = (folder / "table.md").read_text()
    figure = table.done[0].figure("auc")
    for words in ("70.72", f"{figure.value:.2f}", figure.spread, "FF++ HQ to FF++ LQ"):
        assert words in page
        assert words in text


def test_only_the_wanted_crops_are_used(small, tmp_path):
    small("table4", cells="meso*/df", protocol="official", frames=1)
    folders = {p.name.rsplit("-", 1)[0]: p for p in (tmp_path / "runs" / "data").iterdir()}
    train = read_manifest(folders["ffpp-c23-without-Deepfakes-train"])
    test = read_manifest(folders["ffpp-c23-Deepfakes-test"])
    assert set(train["compression"]) == set(test["compression"]) == {"c23"}
    assert set(train["method"]) == {"real", "Face2Face", "FaceSwap", "NeuralTextures"}
    assert set(test["method"]) == {"real", "Deepfakes"}
    assert set(train["split"]) == {"train", "val"}
    counts = train.groupby(["split", "video_id"]).size().groupby("split").unique()
    assert counts["train"] == [2]
    assert counts["val"] == [1]
    assert not test["video_id"].duplicated().any()


def test_on_the_command_line(prepared, tmp_path, capsys):
    options = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    command = [
        "reproduce",
        "table6",
        "--data",
        str(prepared),
        "--cells",
        MESO,
        "--out",
        str(tmp_path),
        *options,
    ]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Table VI: Detection across data sets"
    assert main([*command, "--dry-run"]) == 0
    assert "1 of them are finished" in capsys.readouterr().out
    assert main(["reproduce", "table6"]) == 2
    assert "needs --data" in capsys.readouterr().err
    assert main([*command, "--seeds", "7,x"]) == 2
