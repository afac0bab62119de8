"""Splitting prepared data again by the named protocols."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sficonv.cli.app import main
from sficonv.datasets.manifest import manifest_hash, read_manifest, read_protocol, write_manifest
from sficonv.errors import DataError
from sficonv.evaluation.overlap import overlap_remarks
from sficonv.splits.check import check
from sficonv.splits.leaks import find_leaks
from sficonv.splits.paper_protocol import PAPER, paper_sampling
from sficonv.splits.split import outdated, split

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
SPLITS = ("train", "train", "train", "val", "test")


def table(*, pairs: int = 10, frames: int = 20, dataset: str = "ffpp", step: int = 2) -> pd.DataFrame:
    """FaceForensics++ in small: `pairs` pairs of people, with the official splits."""
    rows = []
    for pair in range(pairs):
        a, b = f"{2 * pair:03d}", f"{2 * pair + 1:03d}"
        official = SPLITS[pair % len(SPLITS)]
        videos = [(0, "real", name, name) for name in (a, b)]
        videos += [(1, m, f"{x}_{y}", f"{x},{y}") for m in METHODS for x, y in ((a, b), (b, a))]
        for label, method, name, ids in videos:
            for i in range(frames):
                path = f"crops/{method}/{name}/{i * step:06d}_0.png"
                rows.append(
                    {
                        "path": path,
                        "label": label,
                        "dataset": dataset,
                        "method": method,
                        "compression": "c23",
                        "video_id": f"{dataset}/{method}/{name}",
                        "source_ids": ids,
                        "split": official,
                        "frame": i * step,
                        "time": i * step / 25,
                        "face": 0,
                        "box": [0.0, 0.0, 9.0, 9.0],
                        "landmarks": [float(x) for x in range(10)],
                        "sha256": f"{abs(hash(path)):064d}",
                        "official_split": official,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_manifest(tmp_path, table())
    return tmp_path


def test_the_official_protocol(prepared: Path) -> None:
    df = read_manifest(prepared)
    df.loc[df["source_ids"].str.contains("000|001"), ["split", "official_split"]] = ["test", ""]
    df.loc[df["source_ids"].str.contains("002|003"), "split"] = "test"  # shuffled by somebody
    df.loc[df["source_ids"].str.contains("004|005"), "split"] = "val"  # where there is no official one
    write_manifest(prepared, df)
    report = split(prepared, protocol="official")
    rows = read_manifest(report.manifest)
    assert report.manifest == prepared / "manifest-official.parquet"
    assert report.left_out == 240 and len(rows) == len(df) - 240
    by_pair = rows.groupby(rows["source_ids"].str[:3])["split"].first()
    assert by_pair["002"] == "train" and by_pair["004"] == "val" and by_pair["008"] == "test"
    assert report.warnings == [] and not report.protocol.leaky
    assert "published splits of ffpp; the validation split was taken out" in report.protocol.statement
    write_manifest(prepared, df.assign(official_split=""))
    with pytest.raises(DataError, match="published list"):
        split(prepared, protocol="official")


def test_the_identity_protocol_depends_on_the_seed_alone(prepared: Path) -> None:
    first = split(prepared, protocol="identity", seed=1, fractions=(0.6, 0.2, 0.2))
    again = split(first.manifest, protocol="identity", seed=1, fractions=(0.6, 0.2, 0.2))
    other = split(prepared, protocol="identity", seed=2, fractions=(0.6, 0.2, 0.2))
    assert again.manifest_hash == first.manifest_hash != other.manifest_hash
    for report in (first, other):  # nobody is on two sides, but the published lists are not kept
        [warning] = report.warnings
        assert "videos of the published test list are in the training" in warning
    rows = read_manifest(first.manifest)
    people = {name: set(",".join(ids).split(",")) for name, ids in rows.groupby("split")["source_ids"]}
    assert {name: len(ids) for name, ids in people.items()} == {"train": 12, "val": 4, "test": 4}
    assert split(first.manifest, protocol="leave-one-out", leave_out="FaceSwap").counts


def test_by_identity_each_compression_is_in_every_split(prepared: Path) -> None:
    df = read_manifest(prepared)
    few = df[df["source_ids"].str[:3].isin(["000", "001", "006", "007", "018", "019"])]
    strong = few.assign(compression="c40", path="c40/" + few["path"], video_id="c40/" + few["video_id"])
    write_manifest(prepared, pd.concat([df, strong]))
    for seed in range(5):
        rows = read_manifest(split(prepared, protocol="identity", seed=seed).manifest)
        people = rows.assign(pair=rows["source_ids"].str[:3].astype(int) // 2).groupby("compression")
        assert people.get_group("c40").groupby("split")["pair"].nunique().to_dict() == dict.fromkeys(
            ("train", "val", "test"), 1
        )
        assert rows.groupby(rows["source_ids"].str[:3].astype(int) // 2)["split"].nunique().max() == 1


def test_leave_one_manipulation_out(prepared: Path) -> None:
    report = split(prepared, protocol="leave-one-out", leave_out="FaceSwap")
    rows = read_manifest(report.manifest)
    methods = rows.groupby("split")["method"].unique().map(set).to_dict()
    others = {"real", *METHODS} - {"FaceSwap"}
    assert methods == {"train": others, "val": others, "test": {"real", "FaceSwap"}}
    before = read_manifest(prepared).set_index("path")["split"]
    assert (rows.set_index("path")["split"] == before.loc[rows["path"]]).all()
    assert report.manifest.name == "manifest-leave_one_out-FaceSwap.parquet" and report.warnings == []
    assert "without FaceSwap; tested on FaceSwap alone" in str(report.protocol)
    two = split(prepared, protocol="leave-one-out", leave_out=["FaceSwap", "Face2Face"])
    assert set(read_manifest(two.manifest).query("split == 'test'")["method"]) == {
        "real",
        "FaceSwap",
        "Face2Face",
    }


def test_what_cannot_be_left_out(prepared: Path) -> None:
    with pytest.raises(DataError, match="no fakes by Nobody; there are: Deepfakes, Face2Face"):
        split(prepared, protocol="leave-one-out", leave_out="Nobody")
    with pytest.raises(DataError, match="no fake is left in the split train"):
        split(prepared, protocol="leave-one-out", leave_out=METHODS)
    leaky = split(prepared, protocol="paper")
    with pytest.raises(DataError, match="its splits leak"):
        split(leaky.manifest, protocol="leave-one-out", leave_out="FaceSwap")


def test_the_paper_protocol_is_the_papers_and_says_that_it_leaks(prepared: Path) -> None:
    report = split(prepared, protocol="paper", seed=7)
    rows = read_manifest(report.manifest)
    # 20 real videos of 20 frames (up to 50), 80 fake ones of 16 by the paper's methods: the rarer decides.
    assert rows["label"].value_counts().to_dict() == {0: 400, 1: 400}
    assert "FaceShifter" not in set(rows["method"])
    fakes = rows[rows["label"] == 1]
    assert fakes.groupby("video_id").size().max() <= 16 and fakes["frame"].max() < 32
    counts = rows.groupby(["split", "label"]).size().unstack().to_dict("index")
    test, val = round(400 / 6), round((400 - round(400 / 6)) * 0.1)
    assert counts == {
        "test": {0: test, 1: test},
        "val": {0: val, 1: val},
        "train": {0: 400 - test - val, 1: 400 - test - val},
    }
    assert report.protocol.leaky and report.protocol.seed == 7
    for words in ("LEAKY", "400 real and 400 fake", "fewer than the paper's 60,000", "5:1", "N_iter 2"):
        assert words in report.summary(), words
    assert "not the paper's" not in report.summary()  # the frames are
    assert any("videos are in more than one split" in warning for warning in report.warnings)
    assert check(report.manifest, files=False).failed
    assert read_protocol(report.manifest) == report.protocol


def test_the_paper_protocol_is_drawn_anew_for_another_seed(prepared: Path) -> None:
    first, again, other = (split(prepared, protocol="paper", seed=seed).manifest_hash for seed in (7, 7, 8))
    assert first == again != other
    whole = read_manifest(split(prepared, protocol="paper", seed=7, val_share=0).manifest)
    assert set(whole["split"]) == {"train", "test"}
    with pytest.raises(ValueError, match="val_share"):
        split(prepared, protocol="paper", val_share=1)


def test_frames_spread_over_the_video_are_thinned_and_said_to_be(tmp_path: Path) -> None:
    write_manifest(tmp_path, table(frames=32, step=9))
    report = split(tmp_path, protocol="paper")
    rows = read_manifest(report.manifest)
    assert rows[rows["label"] == 1].groupby("video_id").size().max() <= 16
    assert rows[rows["label"] == 1]["frame"].max() > 200  # from the whole video
    assert "frames are not the paper's" in report.protocol.statement


def test_other_data_sets_of_the_paper(tmp_path: Path) -> None:
    write_manifest(tmp_path, table(dataset="celebdf"))
    report = split(tmp_path, protocol="paper")
    assert set(read_manifest(report.manifest)["split"]) == {"test"} and not report.protocol.leaky
    write_manifest(tmp_path, table(dataset="HFF", frames=1))
    report = split(tmp_path, protocol="paper", val_share=0)
    rows = read_manifest(report.manifest)
    assert len(rows) == len(read_manifest(tmp_path)) and "4:1" in report.protocol.statement
    assert (rows["split"] == "test").sum() == round(20 / 5) + round(100 / 5)
    write_manifest(tmp_path, table(dataset="mine"))
    with pytest.raises(DataError, match="the paper says nothing about a dataset 'mine'"):
        split(tmp_path, protocol="paper")


def test_dfdc_draws_videos_first(tmp_path: Path) -> None:
    sampling = paper_sampling("DFDC")
    assert sampling.videos == (2_891, 20_210) and sampling.n_iter == (2, 10) and sampling.n_frames == (35, 5)
    assert [s.names[0] for s in PAPER] == ["ffpp", "dfdc", "celebdf", "hff"]
    write_manifest(tmp_path, table(dataset="dfdc", pairs=2, frames=8, step=10))
    rows = read_manifest(split(tmp_path, protocol="paper").manifest)
    assert rows[rows["label"] == 1].groupby("video_id").size().max() <= 5


def test_arguments_that_do_not_fit(prepared: Path) -> None:
    with pytest.raises(ValueError, match="protocol must be one of official"):
        split(prepared, protocol="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="leave_out"):
        split(prepared, protocol="leave-one-out")
    with pytest.raises(ValueError, match="leave_out"):
        split(prepared, protocol="official", leave_out="Deepfakes")
    with pytest.raises(DataError, match="no such file"):
        split(prepared / "nothing", protocol="official")


def test_a_split_knows_the_manifest_that_it_was_drawn_from(prepared: Path) -> None:
    report = split(prepared, protocol="identity")
    assert report.protocol.drawn_from == manifest_hash(read_manifest(prepared))
    assert not outdated(report.manifest)
    write_manifest(prepared, table(frames=3))
    assert outdated(report.manifest)
    assert "outdated_split" in {finding.kind for finding in check(report.manifest, files=False).findings}


def test_evaluation_repeats_the_protocol(prepared: Path) -> None:
    leaky, sound = split(prepared, protocol="paper"), split(prepared, protocol="official")
    for report, where in ((leaky, 0), (sound, 1)):
        df = read_manifest(report.manifest)
        rows = df[df["split"] == "test"]
        protocol = read_protocol(report.manifest)
        remarks = overlap_remarks(df, rows, "test", {"data": {"folders": []}}, protocol)
        assert any(str(report.protocol) in remark for remark in remarks[where])
        assert not any(str(report.protocol) in remark for remark in remarks[1 - where])
    card = {"data": {"folders": [{"name": "x", "protocol": {"leaky": True}}]}}
    warnings, _ = overlap_remarks(df, rows, "test", card, None)
    assert any("trained on a LEAKY split" in warning for warning in warnings)


def test_the_command_line(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["split", str(prepared), "--protocol", "paper", "--seed", "7"]) == 0
    assert "LEAKY protocol 'paper'" in capsys.readouterr().out
    arguments = ["--protocol", "leave-one-out", "--leave-out", "Deepfakes", "--json"]
    assert main(["split", str(prepared), *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["protocol"]["name"] == "leave-one-out" and Path(answer["manifest"]).is_file()
    assert main(["split", str(prepared), "--protocol", "leave-one-out", "--leave-out", "Nobody"]) == 1
    assert main(["split", str(prepared), "--protocol", "leave-one-out"]) == 2


def test_the_official_table_has_no_leak() -> None:
    assert find_leaks(table()) == []
    assert np.isfinite(table()["time"]).all()
